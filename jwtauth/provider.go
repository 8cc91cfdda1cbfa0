package jwtauth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/jwtauth/keyset"
	"github.com/pythopus/tentagate/jwtauth/token"
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
	// {file.*} is read again when it changes.
	Secrets []string `json:"secrets,omitempty"`

	// The secrets are written in base64 (standard or URL alphabet). Default:
	// false.
	Base64 bool `json:"base64,omitempty"`

	// Public keys or certificates in PEM, or the paths of files that hold them;
	// files are read again when they change.
	PublicKeys []string `json:"public_keys,omitempty"`

	// A JSON Web Key Set: a URL (https, or http to this machine) or the path of a
	// file. Secrets (`oct`) are only accepted from a file, and only alone.
	JWKS string `json:"jwks,omitempty"`

	// The URL of an OpenID issuer, whose configuration names its key set. It is
	// also the accepted `iss`.
	Discovery string `json:"discovery,omitempty"`

	// Fetch keys over plain http from other machines too. Default: false.
	AllowHTTP bool `json:"allow_http,omitempty"`

	// Accepted algorithms. HMAC and public-key algorithms never stand together.
	// Default: all that the keys can do.
	Algorithms []string `json:"algorithms,omitempty"`

	// Accepted `iss`, compared exactly. Needed where there are several providers.
	// Default: any.
	Issuer string `json:"issuer,omitempty"`

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

	name   string
	rules  token.Rules
	source keyset.Source
	remote string // its key in the pool, if it was acquired
	logger *zap.Logger

	settings   string // its key in generations, if it was acquired
	generation uint64
	accepted   prometheus.Counter
}

// remotes are the key sets from URLs. Handlers and configurations with the same
// source share one.
var remotes = caddy.NewUsagePool()

// provision checks the provider and finds its keys. It makes no request: keys
// from a URL are fetched in the background.
func (p *Provider) provision(name string, logger *zap.Logger) error {
	p.name, p.logger = name, logger
	p.accepted = verifications.WithLabelValues(name, "ok")
	settings, err := json.Marshal([]any{name, p})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(settings)
	id := hex.EncodeToString(sum[:])
	if p.generation, err = acquireGeneration(id); err != nil {
		return err
	}
	p.settings = id
	repl := caddy.NewReplacer()
	kinds := 0
	for _, given := range []bool{len(p.Secrets) > 0, len(p.PublicKeys) > 0, p.JWKS != "", p.Discovery != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("give it exactly one of secret, public_key, jwks and discovery")
	}
	for _, list := range []*[]string{&p.Audience, &p.Algorithms} {
		resolved := make([]string, 0, len(*list))
		for _, text := range *list {
			for item := range strings.SplitSeq(repl.ReplaceAll(text, ""), ",") {
				if item = strings.TrimSpace(item); item != "" {
					resolved = append(resolved, item)
				}
			}
		}
		*list = resolved
	}
	if err := p.checkAlgorithms(); err != nil {
		return err
	}
	leeway := defaultLeeway
	if p.Leeway != nil {
		leeway = time.Duration(*p.Leeway)
	}
	if leeway < 0 || leeway > maxLeeway {
		return fmt.Errorf("leeway %s: accepted is 0s to 5m", leeway)
	}
	if len(p.Types) == 0 {
		p.Types = defaultTypes
	}
	p.rules = token.Rules{
		Issuer: repl.ReplaceAll(p.Issuer, ""), Audience: p.Audience, Leeway: leeway,
		MaxAge: time.Duration(p.MaxAge), MaxLifetime: time.Duration(p.MaxLifetime), OptionalExpiry: p.OptionalExpiry,
		NumericSubject: p.NumericSubject,
	}
	switch {
	case len(p.Secrets) > 0:
		return p.reloading(p.loadSecrets)
	case len(p.PublicKeys) > 0:
		return p.reloading(p.loadPublicKeys)
	}
	address, discovery := repl.ReplaceAll(p.JWKS, ""), false
	if p.Discovery != "" {
		address, discovery = repl.ReplaceAll(p.Discovery, ""), true
		if p.rules.Issuer == "" {
			p.rules.Issuer = address
		}
	} else if !strings.Contains(address, "://") {
		if address == "" {
			return fmt.Errorf("jwks %s: it is empty", p.JWKS)
		}
		source, err := keyset.File(address, p.Algorithms, func(left []error) { tellLeft(p.logger, p.name, left) }, p.reloadFailed)
		if err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
		p.source = source
		return nil
	}
	if err := keyset.CheckURL(address, p.AllowHTTP); err != nil {
		return fmt.Errorf("jwks, discovery: %w", err)
	}
	return p.acquireRemote(address, discovery)
}

// checkAlgorithms refuses unknown names and the mixture in which a public key
// could be taken for a secret (RFC 8725 §2.1).
func (p *Provider) checkAlgorithms() error {
	for _, a := range p.Algorithms {
		if !slices.Contains(token.Algorithms, a) {
			return fmt.Errorf("algorithms: %q is not accepted: accepted are %s", a, strings.Join(token.Algorithms, " "))
		}
		hmac := strings.HasPrefix(a, "HS")
		if hmac != strings.HasPrefix(p.Algorithms[0], "HS") {
			return fmt.Errorf("algorithms: %s beside %s: those of secrets and of public keys never stand together", a, p.Algorithms[0])
		}
		// A file may hold secrets too.
		file := p.JWKS != "" && !strings.Contains(p.JWKS, "://")
		if hmac != (len(p.Secrets) > 0) && !file {
			return fmt.Errorf("algorithms: %s does not fit the keys: secrets verify HS256, HS384 and HS512, public keys the others", a)
		}
	}
	return nil
}

func (p *Provider) reloading(load func() ([]byte, *keyset.Set, error)) error {
	source, err := keyset.NewReloading(load, p.reloadFailed)
	if err != nil {
		return err
	}
	p.source = source
	return nil
}

func (p *Provider) reloadFailed(err error) {
	p.logger.Warn("keys could not be read again: the last good ones stay", zap.String("provider", p.name), zap.Error(err))
}

func (p *Provider) loadSecrets() ([]byte, *keyset.Set, error) {
	repl := caddy.NewReplacer()
	var secrets [][]byte
	all := sha256.New()
	for i, text := range p.Secrets {
		resolved := strings.TrimRight(repl.ReplaceAll(text, ""), "\r\n")
		if resolved == "" {
			// The text is a placeholder here, so it may be shown.
			return nil, nil, fmt.Errorf("secret %d of %d: %s is empty%s", i+1, len(p.Secrets), text, hint(text))
		}
		secret := []byte(resolved)
		if p.Base64 {
			var err error
			if secret, err = decodeBase64(resolved); err != nil {
				return nil, nil, fmt.Errorf("secret %d of %d: it is not base64", i+1, len(p.Secrets))
			}
		}
		all.Write(fmt.Appendf(nil, "%d:", len(secret)))
		all.Write(secret)
		secrets = append(secrets, secret)
	}
	set, err := keyset.Secrets(secrets, p.Algorithms)
	return all.Sum(nil), set, err
}

func hint(placeholder string) string {
	if name, ok := strings.CutPrefix(placeholder, "{env."); ok {
		return ": set the environment variable " + strings.TrimSuffix(name, "}") + " to a random text of at least 32 characters"
	}
	return ""
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if strings.ContainsAny(text, "-_") {
		return base64.RawURLEncoding.DecodeString(text)
	}
	return base64.RawStdEncoding.DecodeString(text)
}

func (p *Provider) loadPublicKeys() ([]byte, *keyset.Set, error) {
	repl := caddy.NewReplacer()
	var sets []*keyset.Set
	all := sha256.New()
	for i, text := range p.PublicKeys {
		data := []byte(repl.ReplaceAll(text, ""))
		if !strings.Contains(string(data), "-----BEGIN") {
			var err error
			if data, err = os.ReadFile(strings.TrimSpace(string(data))); err != nil {
				return nil, nil, fmt.Errorf("public_key %d of %d: neither PEM nor a file that can be read: %w", i+1, len(p.PublicKeys), err)
			}
		}
		set, err := keyset.PEM(data, p.Algorithms)
		if err != nil {
			return nil, nil, fmt.Errorf("public_key %d of %d: %w", i+1, len(p.PublicKeys), err)
		}
		all.Write(fmt.Appendf(nil, "%d:", len(data)))
		all.Write(data)
		sets = append(sets, set)
	}
	return all.Sum(nil), keyset.Join(sets...), nil
}

// acquireRemote shares the key set of a URL.
func (p *Provider) acquireRemote(address string, discovery bool) error {
	settings, err := json.Marshal([]any{address, discovery, p.Algorithms, p.AllowHTTP})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(settings)
	key := hex.EncodeToString(sum[:])
	w := &watch{provider: p.name}
	val, _, err := remotes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return keyset.NewRemote(keyset.Options{
			URL: address, Discovery: discovery, Algorithms: slices.Clone(p.Algorithms), AllowHTTP: p.AllowHTTP, Timing: timing,
			Observe: w.observe,
		}), nil
	})
	if err != nil {
		return err
	}
	p.source, p.remote = val.(*keyset.Remote), key
	return nil
}

// timing of key sets from URLs; tests have less time.
var timing = keyset.DefaultTiming

// watch tells of the fetches of one key set. The key set may outlive the
// configuration that it was made for, and so does not use its logger.
type watch struct {
	provider string
	failed   bool // the last fetch
	told     time.Time
}

// tellAgain is the pause between two messages of the same failure.
const tellAgain = 30 * time.Second

// observe tells of a fetch. Fetches that fail follow each other fast while there
// are no keys, and are not all worth a line.
func (w *watch) observe(result string, left []error, err error) {
	refreshes.WithLabelValues(w.provider, result).Inc()
	log := caddy.Log().Named("http.handlers.jwt_auth")
	switch now := time.Now(); {
	case err != nil && (!w.failed || now.Sub(w.told) >= tellAgain-time.Second):
		log.Warn("keys could not be fetched: the last good ones stay, and without any requests with a token get 503", zap.String("provider", w.provider), zap.Error(err))
		w.told, w.failed = now, true
	case err == nil && w.failed:
		log.Info("keys are fetched again", zap.String("provider", w.provider))
		w.failed = false
	}
	tellLeft(log, w.provider, left)
}

// tellLeft logs the keys of a key set that were left out. Those for encryption
// belong there.
func tellLeft(log *zap.Logger, provider string, left []error) {
	for _, err := range left {
		level := zap.WarnLevel
		if errors.Is(err, keyset.ErrEncryption) {
			level = zap.DebugLevel
		}
		log.Log(level, "a key of the key set is not used", zap.String("provider", provider), zap.Error(err))
	}
}

func (p *Provider) cleanup() error {
	var errs []error
	release := func(pool *caddy.UsagePool, key *string) {
		if *key != "" {
			_, err := pool.Delete(*key)
			errs = append(errs, err)
			*key = ""
		}
	}
	release(remotes, &p.remote)
	release(generations, &p.settings)
	return errors.Join(errs...)
}
