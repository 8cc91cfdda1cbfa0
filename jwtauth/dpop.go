package jwtauth

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/jwtauth/internal/dpop"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

const (
	defaultProofAge = time.Minute
	maxProofAge     = 10 * time.Minute
	defaultProofs   = 200_000
	maxProofs       = 10_000_000
	minNonceSecret  = 32

	// proofField is the canonical name of the field DPoP.
	proofField = "Dpop"
	// provenVar is the proof that an earlier handler of the request accepted.
	provenVar = "tentagate.dpop_proof"
)

var (
	errNoProof  = fmt.Errorf("%w: the field DPoP is missing", dpop.ErrProof)
	errProofs   = fmt.Errorf("%w: there is more than one field DPoP", dpop.ErrProof)
	errNoOrigin = errors.New("the request's host is not an address")
)

// DPoP accepts tokens that are bound to a key of the client, with a proof that
// the client holds the key (RFC 9449): `Authorization: DPoP <token>`, and the
// proof in the field `DPoP`. Every proof is accepted once.
type DPoP struct {
	// Refuse tokens that are not bound to a key. Default: false.
	Required bool `json:"required,omitempty"`

	// Algorithms that proofs may be signed with. Default: all that tokens may be
	// signed with but HMAC.
	Algorithms []string `json:"algorithms,omitempty"`

	// How old a proof may be, up to 10m, by clocks that differ at most by the
	// provider's leeway. Default: 1m.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Scheme, host and port by which clients know the gateway, such as
	// `https://api.example.com`: one of them must be that of the proof. Default:
	// those of the request, and of X-Forwarded-Proto and X-Forwarded-Host from a
	// trusted proxy.
	Origins []string `json:"origins,omitempty"`

	// Ask for a nonce of the gateway in every proof (RFC 9449 §9), so that none
	// can be made in advance. Default: false.
	Nonce bool `json:"nonce,omitempty"`

	// Secrets of at least 32 bytes that nonces are made with: the first makes
	// them, all are accepted. Gateways need the same. Default: a random one for
	// each process.
	NonceSecrets []string `json:"nonce_secrets,omitempty" secret:"true"`

	// How many proofs are remembered in memory, up to 10000000. When there are more,
	// the oldest are forgotten early. Default: 200000.
	MaxProofs int `json:"max_proofs,omitempty"`

	origins []string
	nonces  *dpop.Nonces
	now     func() time.Time
	// rules by provider: the leeway is the provider's.
	rules map[*Provider]*dpop.Rules

	refs []*pool.Ref[sharedReplays]
}

// replays are the stores of used proofs; they survive a reload. Handlers with the
// same bounds share one.
var replays = pool.New(func(s sharedReplays) error {
	s.release()
	return nil
})

// sharedReplays is the store in memory, and the one in Redis that includes it.
type sharedReplays struct {
	dpop.Replays
	memory  *dpop.Memory
	release func()
}

// processNonces are those of handlers without a secret.
var processNonces = dpop.NewNonces()

func (o *DPoP) provision(a *app.App, providers []*Provider, now func() time.Time) error {
	var err error
	if o.Algorithms, err = values("algorithms", o.Algorithms); err != nil {
		return err
	}
	if o.Origins, err = values("origins", o.Origins); err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	o.now = now
	if o.Nonce {
		o.nonces = processNonces
	}
	if len(o.NonceSecrets) > 0 {
		secrets, err := resolveNonceSecrets(o.NonceSecrets)
		if err != nil {
			return err
		}
		o.nonces = dpop.NewNonces(secrets...)
	}
	age, proofs := cmp.Or(time.Duration(o.MaxAge), defaultProofAge), cmp.Or(o.MaxProofs, defaultProofs)
	o.rules = map[*Provider]*dpop.Rules{}
	for _, p := range providers {
		rules := &dpop.Rules{Algorithms: o.Algorithms, MaxAge: age, Leeway: p.rules.Leeway, Nonces: o.nonces}
		var err error
		if rules.Replays, err = o.acquireReplays(a, rules.Life(), proofs); err != nil {
			return err
		}
		o.rules[p] = rules
	}
	return nil
}

// validate also finds the origins.
func (o *DPoP) validate() error {
	for _, a := range o.Algorithms {
		if !slices.Contains(dpop.Algorithms, a) {
			return fmt.Errorf("algorithms: %q is not accepted: accepted are %s", a, strings.Join(dpop.Algorithms, " "))
		}
	}
	if err := cmp.Or(parse.Between("max_age", cmp.Or(time.Duration(o.MaxAge), time.Second), time.Second, maxProofAge), parse.Between("max_proofs", cmp.Or(o.MaxProofs, 1), 1, maxProofs)); err != nil {
		return err
	}
	if len(o.NonceSecrets) > 0 && !o.Nonce {
		return errors.New("nonce_secrets: nonce is off")
	}
	o.origins = nil
	for _, text := range o.Origins {
		target, err := dpop.Target(text)
		if err != nil || strings.ContainsAny(text, "?#") || !strings.HasSuffix(target, "/") || strings.Count(target, "/") > 3 {
			return fmt.Errorf("origins: %q is not a scheme, http or https, and a host, such as https://api.example.com", text)
		}
		o.origins = append(o.origins, strings.TrimSuffix(target, "/"))
	}
	return nil
}

func resolveNonceSecrets(texts []string) (secrets [][]byte, err error) {
	for i, text := range texts {
		secret, err := resolveSecret("nonce", text)
		if err != nil {
			return nil, err
		}
		if len(secret) < minNonceSecret {
			return nil, fmt.Errorf("nonce: secret %d of %d has %d bytes: at least %d are needed", i+1, len(texts), len(secret), minNonceSecret)
		}
		if err := keyset.CheckSecret([]byte(secret)); err != nil {
			return nil, fmt.Errorf("nonce: secret %d of %d: %w", i+1, len(texts), err)
		}
		secrets = append(secrets, []byte(secret))
	}
	return secrets, nil
}

func (o *DPoP) acquireReplays(a *app.App, life time.Duration, proofs int) (dpop.Replays, error) {
	rd := a.Redis()
	name := fmt.Sprint(life, " ", proofs)
	if rd != nil {
		name += " redis " + rd.Key() + " " + a.KeyPrefix()
	}
	ref, err := replays.Acquire(name, func() (sharedReplays, error) {
		memory := dpop.NewMemory(life, proofs)
		s := sharedReplays{Replays: memory, memory: memory, release: func() {}}
		if rd != nil {
			shared, release := dpop.NewShared(memory, rd.Client(), rd.Availability(), a.KeyPrefix(), observeReplays), rd.Retain()
			s.Replays, s.release = shared, func() {
				shared.Close()
				release()
			}
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	o.refs = append(o.refs, ref)
	return ref.Value, nil
}

func (o *DPoP) cleanup() error {
	if o == nil {
		return nil
	}
	var errs []error
	for _, ref := range o.refs {
		errs = append(errs, ref.Release())
	}
	o.refs = nil
	return errors.Join(errs...)
}

// check evaluates the request's proof. It is evaluated for each request, also
// when the token was verified before.
func (o *DPoP) check(r *http.Request, p *Provider, thumbprint, text string, now time.Time) error {
	fields := r.Header[proofField]
	if len(fields) != 1 {
		if len(fields) == 0 {
			return errNoProof
		}
		return errProofs
	}
	// What the client requested, before rewrites.
	original := r
	if before, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		original = &before
	}
	targets, err := o.targets(r, original)
	if err != nil {
		return fmt.Errorf("%w: %w", dpop.ErrProof, err)
	}
	proven, _ := caddyhttp.GetVar(r.Context(), provenVar).(string)
	again := proven == fields[0]
	if s := requeststate.Peek(r); s != nil && s.DryRun {
		again = true // the proof is not remembered
	}
	ctx := availability.WithBudget(r.Context(), app.WaitBudget(r))
	err = o.rules[p].Check(ctx, fields[0], &dpop.Request{
		Method: original.Method, Targets: targets, Token: text, Thumbprint: thumbprint, Again: again,
	}, now)
	if err == nil && proven == "" {
		caddyhttp.SetVar(r.Context(), provenVar, fields[0])
	}
	return err
}

// targets are the addresses that the proof may be for.
func (o *DPoP) targets(r, original *http.Request) ([]string, error) {
	path := dpop.Path(original.URL.EscapedPath())
	if len(o.origins) > 0 {
		targets := make([]string, 0, len(o.origins))
		for _, origin := range o.origins {
			targets = append(targets, origin+path)
		}
		return targets, nil
	}
	// Caddy keeps no host of the original request.
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" {
			scheme = firstItem(proto)
		}
		if name := r.Header.Get("X-Forwarded-Host"); name != "" {
			host = firstItem(name)
		}
	}
	origin, err := dpop.Origin(scheme, host)
	if err != nil {
		return nil, errNoOrigin
	}
	return []string{origin + path}, nil
}

// firstItem returns the value that the outermost of several proxies set.
func firstItem(list string) string {
	item, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(item)
}

// algorithms are those that are accepted.
func (o *DPoP) algorithms() []string {
	if len(o.Algorithms) == 0 {
		return dpop.Algorithms
	}
	return o.Algorithms
}

// challenge is what the scheme DPoP adds to its challenge (RFC 9449 §7.1).
func (o *DPoP) challenge() string { return `, algs="` + strings.Join(o.algorithms(), " ") + `"` }
