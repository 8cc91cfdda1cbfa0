package jwtauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/jwtauth/internal/cache"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

const (
	defaultCacheBytes   = 32 << 20
	defaultCacheEntries = 50_000
	minCacheBytes       = 1 << 20

	// goodLifetime is the longest time that a verified token is cached.
	goodLifetime = time.Hour
	// badLifetime is the time that a refusal is cached, for clients that retry.
	badLifetime     = 10 * time.Second
	badCacheEntries = 2048
)

// TokenCache bounds the cache of verified tokens. It holds the claims of tokens with
// a valid signature; expiry, policy and revocation are evaluated for each request.
type TokenCache struct {
	// Verify the token of each request. Default: false.
	Off bool `json:"off,omitempty"`

	// The most memory, in bytes, at least 1 MiB. Handlers with the same bounds
	// share one cache. Default: 32 MiB.
	MaxBytes int64 `json:"max_bytes,omitempty"`

	// The most tokens. Default: 50000.
	MaxEntries int `json:"max_entries,omitempty"`
}

// tokenCache caches the results of verifications.
type tokenCache struct {
	good *cache.Cache[*verified]
	bad  *cache.Cache[refused]
}

// evictedBefore counts the evictions of caches that no longer exist.
var evictedBefore atomic.Uint64

// refused is why a token is not valid, with these keys.
type refused struct {
	err error
	set *keyset.Set
}

// applies reports whether the refusal still applies: not if the keys changed. A
// token that no key verifies refreshes them as an uncached one would.
func (f refused) applies(ctx context.Context, p *Provider) bool {
	set := p.source.Keys()
	if set == f.set && (errors.Is(f.err, errUnknownKey) || errors.Is(f.err, token.ErrSignature)) {
		set = p.source.Refresh(ctx)
	}
	return set == f.set
}

// store caches the result of a verification: tokens that passed all of it, and
// refusals that cost a signature check or the wait for a key and that time does not
// change.
func (c *tokenCache) store(key *cache.Key, p *Provider, v *verified, t *token.Token, err error, now time.Time) {
	if err == nil {
		expires := now.Add(goodLifetime)
		if exp := v.claims.Expiry(); !exp.IsZero() {
			if end := exp.Add(p.rules.Leeway); end.Before(expires) {
				expires = end
			}
		}
		c.good.Put(key, v, t.Footprint(), expires)
		return
	}
	for _, uncached := range []error{token.ErrMalformed, token.ErrHeader, token.ErrAlgorithm, token.ErrNotYet, token.ErrIssuedLater, errType, errKeysUnavailable} {
		if errors.Is(err, uncached) {
			return
		}
	}
	if set := p.source.Keys(); set != nil {
		c.bad.Put(key, refused{err, set}, 0, now.Add(badLifetime))
	}
}

var (
	// caches are shared by handlers, and by configurations, with the same bounds.
	// The count of evictions outlives them.
	caches = pool.New(func(c *tokenCache) error {
		_, _, evicted := c.good.Stats()
		evictedBefore.Add(evicted)
		return nil
	})

	// generations number the providers by their settings. A provider keeps its
	// number as long as some configuration has it with the same settings, and no
	// number is used again.
	generations    = pool.New[uint64](nil)
	lastGeneration atomic.Uint64
)

// provisionCache finds the cache of the handler.
func (h *Handler) provisionCache() error {
	o := TokenCache{}
	if h.TokenCache != nil {
		o = *h.TokenCache
	}
	if o.Off {
		return nil
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultCacheBytes)
	o.MaxEntries = cmp.Or(o.MaxEntries, defaultCacheEntries)
	if o.MaxBytes < minCacheBytes || o.MaxBytes > maxCacheBytes || o.MaxEntries < 1 || o.MaxEntries > maxCacheEntries {
		return fmt.Errorf("token_cache: %d bytes for %d tokens: accepted are 1MiB to 1TiB and 1 to %d tokens, or off", o.MaxBytes, o.MaxEntries, maxCacheEntries)
	}
	name := fmt.Sprint(o.MaxBytes, " ", o.MaxEntries)
	ref, err := caches.Acquire(name, func() (*tokenCache, error) {
		return &tokenCache{
			good: cache.New[*verified](o.MaxEntries, o.MaxBytes),
			bad:  cache.New[refused](badCacheEntries, badCacheEntries*cache.Overhead),
		}, nil
	})
	if err != nil {
		return err
	}
	h.cache, h.cacheRef = ref.Value, ref
	return nil
}
