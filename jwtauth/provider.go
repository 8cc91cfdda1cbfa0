package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

const (
	defaultLeeway = 30 * time.Second
	maxLeeway     = 5 * time.Minute
)

// defaultTypes are the types of access tokens: RFC 7519 §5.1 and RFC 9068 §2.1.
var defaultTypes = []string{"JWT", "at+jwt"}

// Provider is who issues tokens, and what of them is accepted. It has either
// secrets, or public keys, or one key set.
type Provider struct {
	// HMAC secrets, all of which are accepted, so that one can be rotated. At
	// least 32 bytes for HS256, 48 for HS384, 64 for HS512. A file named by
	// {file.*} is read again when it changes. Default: none; one source of keys is
	// required.
	Secrets []string `json:"secrets,omitempty" secret:"true"`

	// The secrets are written in base64 (standard or URL alphabet). Default:
	// false.
	Base64 bool `json:"base64,omitempty"`

	// Public keys or certificates in PEM, or the paths of files that hold them;
	// files are read again when they change. Default: none.
	PublicKeys []string `json:"public_keys,omitempty"`

	// A JSON Web Key Set: a URL (https, or http to this machine) or the path of a
	// file. Secrets (`oct`) are only accepted from a file, and only alone. Default:
	// none.
	JWKS string `json:"jwks,omitempty"`

	// The URL of an OpenID issuer, whose configuration names its key set, without
	// `/.well-known/openid-configuration`. It is also the accepted `iss`, unless
	// there is an `issuer`. Default: none.
	Discovery string `json:"discovery,omitempty"`

	// Fetch keys over plain http from other machines too, as inside a cluster.
	// Default: false.
	AllowHTTP bool `json:"allow_http,omitempty"`

	// The PEM file of the authorities that may vouch for the server of `jwks` or
	// `discovery`. It is read again for each fetch. Default: those of the system.
	CA string `json:"ca,omitempty"`

	// The file of a bearer token that the server of `jwks` or `discovery` asks for.
	// It is read again for each fetch. The token is sent over https alone, to the
	// host of the URL; with `ca` also to the one that the configuration names for
	// the keys. Default: none.
	TokenFile string `json:"token_file,omitempty"`

	// Accepted algorithms. HMAC and public-key algorithms cannot be combined.
	// Default: all that the keys can do.
	Algorithms []string `json:"algorithms,omitempty"`

	// Accepted `iss`, compared exactly. Needed where there are several providers.
	// With `discovery`, the configuration may name one of them instead of the URL.
	// `{tenantid}` in it stands for the token's `tid`, a GUID (Microsoft Entra).
	// Default: that of `discovery`, or any.
	Issuer Issuers `json:"issuer,omitempty"`

	// Audiences, one of which the token must be for. Default: any.
	Audience []string `json:"audience,omitempty"`

	// How far clocks may differ, at most 5m. Default: 30s.
	Leeway *caddy.Duration `json:"leeway,omitempty"`

	// The longest time since the token was issued. Default: no limit.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// The longest time from issue to expiry. Default: no limit.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// Accept tokens that never expire. Default: false.
	OptionalExpiry bool `json:"optional_exp,omitempty"`

	// Accepted `typ` of tokens. Default: JWT (also where there is none) and
	// at+jwt.
	Types []string `json:"types,omitempty"`

	// Accept a `sub` that is a whole number, which RFC 7519 does not have. Its
	// digits are the subject. Default: false.
	NumericSubject bool `json:"numeric_sub,omitempty"`

	// Where the Caddyfile defines the provider, such as `Caddyfile:12`. Errors name
	// it. Default: where the handler stands.
	Position string `json:"position,omitempty"`

	// at are the options' places while a Caddyfile is parsed.
	at map[string]caddyfile.Dispenser

	placeholder string // of jwks or discovery, where it is one
	name        string
	rules       token.Rules
	source      keyset.Source
	remoteRef   *pool.Ref[*keyset.Remote]
	logger      *zap.Logger

	generation    uint64
	generationRef *pool.Ref[uint64]
	accepted      prometheus.Counter
}

// Issuers are one or several issuers: in JSON a text or an array of texts.
type Issuers []string

// MarshalJSON writes one issuer as a text.
func (i Issuers) MarshalJSON() ([]byte, error) {
	if len(i) == 1 {
		return json.Marshal(i[0])
	}
	return json.Marshal([]string(i))
}

// UnmarshalJSON reads a text or an array of texts.
func (i *Issuers) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*i = Issuers{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(i))
}

// provision checks the provider and finds its keys. It makes no request: keys
// from a URL are fetched in the background.
func (p *Provider) provision(name string, logger *zap.Logger) (err error) {
	p.name, p.logger = name, logger
	p.accepted = verifications.WithLabelValues(name, outcomeOK)
	if err := p.acquireGeneration(name); err != nil {
		return err
	}
	if err := p.checkKind(); err != nil {
		return err
	}
	if err := p.resolve(); err != nil {
		return err
	}
	if err := p.checkAlgorithms(); err != nil {
		return err
	}
	leeway := defaultLeeway
	if p.Leeway != nil {
		leeway = time.Duration(*p.Leeway)
	}
	if err := parse.Between("leeway", leeway, 0, maxLeeway); err != nil {
		return err
	}
	p.rules = token.Rules{
		Issuers: p.Issuer, Audience: p.Audience, Leeway: leeway,
		MaxAge: time.Duration(p.MaxAge), MaxLifetime: time.Duration(p.MaxLifetime), OptionalExpiry: p.OptionalExpiry,
		NumericSubject: p.NumericSubject,
	}
	switch {
	case len(p.Secrets) > 0:
		return p.reloading(p.loadSecrets)
	case len(p.PublicKeys) > 0:
		return p.reloading(p.loadPublicKeys)
	case p.Discovery != "":
		if len(p.rules.Issuers) == 0 {
			p.rules.Issuers = []string{p.Discovery}
		}
		return p.acquireRemote(p.Discovery, true)
	case strings.Contains(p.JWKS, "://"):
		return p.acquireRemote(p.JWKS, false)
	}
	source, err := keyset.File(p.JWKS, p.Algorithms, func(skipped []error) { logSkippedKeys(p.logger, p.name, skipped) }, p.reloadFailed)
	if err != nil {
		return fmt.Errorf("jwks: %w", err)
	}
	p.source = source
	return nil
}

// acquireGeneration numbers the provider by its settings, to which its position
// in a Caddyfile does not belong.
func (p *Provider) acquireGeneration(name string) (err error) {
	all := *p
	all.Position = ""
	p.generationRef, err = generations.Acquire(pool.Key(name, &all), func() (uint64, error) { return lastGeneration.Add(1), nil })
	if err == nil {
		p.generation = p.generationRef.Value
	}
	return err
}

// checkKind refuses all but one source of keys.
func (p *Provider) checkKind() error {
	var given []string
	for _, source := range []struct {
		option string
		given  bool
	}{{"secret", len(p.Secrets) > 0}, {"public_key", len(p.PublicKeys) > 0}, {"jwks", p.JWKS != ""}, {"discovery", p.Discovery != ""}} {
		if source.given {
			given = append(given, source.option)
		}
	}
	switch len(given) {
	case 0:
		return errors.New("give it exactly one of secret, public_key, jwks and discovery: it has none")
	case 1:
		return nil
	}
	return fmt.Errorf("give it exactly one of secret, public_key, jwks and discovery: it has %s", strings.Join(given, " and "))
}

func (p *Provider) cleanup() error {
	return errors.Join(p.remoteRef.Release(), p.generationRef.Release())
}
