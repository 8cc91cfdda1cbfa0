package jwtauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/jwtauth/internal/cache"
	"github.com/pythopus/tentagate/jwtauth/internal/deny"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

var (
	errUnknownKey      = errors.New("no key for the token")
	errUnknownIssuer   = errors.New("the token's issuer is not accepted")
	errType            = errors.New("the token's type is not accepted")
	errKeysUnavailable = errors.New("the keys to verify tokens are temporarily unavailable")
)

// unavailable is an errKeysUnavailable with the time to the next fetch.
type unavailable struct{ retryAfter time.Duration }

func (*unavailable) Error() string { return errKeysUnavailable.Error() }
func (*unavailable) Unwrap() error { return errKeysUnavailable }

// verified is a token with a valid signature, and its content. Requests share it:
// it is immutable.
type verified struct {
	claims   token.Claims
	typ      string
	identity identity.Identity
	// confirmation is what the token is bound to, empty for a bearer token.
	confirmation confirmation
	// placeholders answers {http.auth.user.*}.
	placeholders caddy.ReplacerFunc

	// key verified it. The token is no longer accepted once the key is gone.
	key keyset.Print
	// set is the last key set that was found to have the key.
	set atomic.Pointer[keyset.Set]
	// ids are its revocation IDs, computed at the first use.
	ids atomic.Pointer[deny.IDs]
}

// Placeholder returns the value of {http.auth.user.*}.
func (v *verified) Placeholder(name string) (any, bool) { return v.placeholders(name) }

// verify returns the content of a token, if it is valid now. Only form, signature and
// claims are cached; everything else is evaluated each time.
func (h *Handler) verify(r *http.Request, text string) (*verified, *Provider, error) {
	if len(text) > token.MaxLength {
		return nil, nil, token.ErrTooLong
	}
	now := h.now()
	var key cache.Key
	if h.cache != nil {
		key = cache.KeyOf(0, text)
		for _, p := range h.providers {
			key.Provider = p.generation
			if v, ok := h.cache.good.Get(&key, now); ok {
				if v.keyIsCurrent(p) {
					cacheHits.Inc()
					return v, p, p.check(v, now)
				}
				h.cache.good.Delete(&key)
			}
			if bad, ok := h.cache.bad.Get(&key, now); ok && bad.applies(r.Context(), p) {
				cacheRefused.Inc()
				return nil, p, bad.err
			}
		}
		cacheMisses.Inc()
	}
	v, p, t, err := h.verifyUncached(r.Context(), text, &key)
	if err == nil {
		err = p.check(v, now)
	}
	if h.cache != nil && p != nil {
		key.Provider = p.generation
		h.cache.store(&key, p, v, t, err, now)
	}
	return v, p, err
}

// asKnown in a context has keys used as they are known: none are fetched, and no file is read.
type asKnown struct{}

// examine is verify without effects: nothing is cached, counted or fetched.
func (h *Handler) examine(ctx context.Context, text string) (*verified, *Provider, error) {
	if len(text) > token.MaxLength {
		return nil, nil, token.ErrTooLong
	}
	key := cache.KeyOf(0, text)
	v, p, _, err := h.verifyUncached(context.WithValue(ctx, asKnown{}, true), text, &key)
	if err == nil {
		err = p.check(v, h.now())
	}
	return v, p, err
}

// keyIsCurrent reports whether the key that verified the token is still among the
// provider's.
func (v *verified) keyIsCurrent(p *Provider) bool {
	set := p.source.Keys()
	if set == v.set.Load() {
		return set != nil
	}
	if !set.Has(v.key) {
		return false
	}
	v.set.Store(set)
	return true
}

// check evaluates what depends on time and configuration.
func (p *Provider) check(v *verified, now time.Time) error {
	if !token.IsType(v.typ, p.Types) {
		return errType
	}
	err := v.claims.Check(&p.rules, now)
	if err != nil && errors.Is(err, token.ErrIssuer) {
		// Only logged: the client must not learn which issuers are accepted.
		if c := p.logger.Check(zap.DebugLevel, "issuer not accepted"); c != nil {
			c.Write(zap.String("provider", p.name), zap.String("found", fmt.Sprintf("%.200s", v.claims.Text("iss"))), zap.Strings("expected", p.rules.Issuers))
		}
	}
	return err
}

// verifyUncached checks form, header, key, signature and payload in this order, the
// cheap checks first.
func (h *Handler) verifyUncached(ctx context.Context, text string, key *cache.Key) (*verified, *Provider, *token.Token, error) {
	t, err := token.Parse(text)
	if err != nil {
		return nil, nil, t, err
	}
	p := h.providers[0]
	var claims token.Claims
	if len(h.providers) > 1 {
		// The unverified issuer only selects the keys.
		if claims, err = t.Claims(); err != nil {
			return nil, nil, t, err
		}
		if p = h.providerOf(claims.Text("iss")); p == nil {
			return nil, nil, t, errUnknownIssuer
		}
	}
	if !t.IsType(p.Types) {
		return nil, p, t, errType
	}
	used, set, err := p.verifySignature(ctx, t)
	if err != nil {
		return nil, p, t, err
	}
	if claims == nil {
		if claims, err = t.Claims(); err != nil {
			return nil, p, t, err
		}
	}
	v := &verified{claims: claims, typ: t.Type, key: used.Print, placeholders: claimPlaceholders(claims), confirmation: confirmationOf(claims)}
	v.identity = identity.Identity{
		Provider: p.name, Issuer: claims.Text("iss"), Subject: claims.Name("sub"),
		Rights: sync.OnceValue(func() [16]byte { return rightsOf(claims) }),
	}
	if v.identity.Subject == "" {
		if h.cache == nil {
			*key = cache.KeyOf(0, text)
		}
		v.identity.Token = [16]byte(key.Digest[:16])
	}
	v.set.Store(set)
	return v, p, t, nil
}

// rightsOf returns a hash of the claims that may differ in what they allow.
func rightsOf(claims token.Claims) [16]byte {
	rest := maps.Clone(claims)
	maps.DeleteFunc(rest, func(name string, _ any) bool { return !identity.IsRight(name) })
	text, err := json.Marshal(rest) // sorted by name
	if err != nil {
		text = fmt.Append(text, rest)
	}
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// verifySignature returns the key that verifies the token, and its set. If none
// does, the source is refreshed, because a new key may have the kid of an old one.
// The source limits how often it fetches.
func (p *Provider) verifySignature(ctx context.Context, t *token.Token) (*keyset.Key, *keyset.Set, error) {
	if token.Method(t.Algorithm) == nil || len(p.Algorithms) > 0 && !slices.Contains(p.Algorithms, t.Algorithm) {
		return nil, nil, token.ErrAlgorithm
	}
	remote, _ := p.source.(*keyset.Remote)
	if remote != nil && strings.HasPrefix(t.Algorithm, "HS") {
		// No key set from a URL has secrets.
		return nil, nil, token.ErrAlgorithm
	}
	known := ctx.Value(asKnown{}) != nil
	set := p.keys(known)
	key, err := tryKeys(set, t)
	if err == nil {
		return key, set, nil
	}
	newer := set
	if !known {
		newer = p.source.Refresh(ctx)
	}
	if newer.Len() == 0 {
		if remote != nil {
			return nil, nil, &unavailable{remote.Next()}
		}
		return nil, nil, errKeysUnavailable
	}
	if newer != set {
		key, err = tryKeys(newer, t)
	}
	return key, newer, err
}

// keys returns the current set, or the one that was read last.
func (p *Provider) keys(known bool) *keyset.Set {
	if known {
		return p.source.Current()
	}
	return p.source.Keys()
}

// tryKeys verifies the token with the keys of the set that match its kid and alg.
func tryKeys(set *keyset.Set, t *token.Token) (*keyset.Key, error) {
	keys, _ := set.Find(t.KeyID, t.Algorithm)
	err := errUnknownKey
	for i := range keys {
		if err = t.Verify(t.Algorithm, keys[i].Value); err == nil {
			return &keys[i], nil
		}
	}
	return nil, err
}
