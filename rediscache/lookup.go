package rediscache

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// storage is where a handler keeps responses, and by which rules it uses them again.
type storage struct {
	*tiers
	targets               []string // names of targeted fields (RFC 9213)
	maxVariants           int
	maxObjectSize         int64
	staleWhenDisconnected time.Duration
	earlyRefresh          bool
	// lenient: parts and languages are matched as profile rfc9111 has it.
	lenient bool
}

// match is a stored response that the request may get, if it is fresh enough.
type match struct {
	object *object.Object // nil if there is none
	key    object.Key
	soft   bool // it was invalidated softly: it counts as stale
	// otherVariants: there are variants, but none for this request.
	otherVariants bool
}

// findInMemory looks into the memory tier.
func (s *storage) findInMemory(r *http.Request, t *target) (found match) {
	if s.memory == nil {
		return match{}
	}
	if t.hasPartition() {
		if found = s.selectVariant(r, t, t.private, s.memory.Get(t.private)); found.object != nil {
			return found
		}
	}
	return s.selectVariant(r, t, t.shared, s.memory.Get(t.shared))
}

// findInRedis looks into the Redis tier, and puts what it finds into the memory tier.
func (s *storage) findInRedis(r *http.Request, t *target) (found match) {
	if s.redis == nil {
		return match{}
	}
	filter := s.variantFilter(r)
	t.eachKey(func(key object.Key) bool {
		found = s.selectVariant(r, t, key, s.redis.Select(redisContext(r), key, filter))
		if found.object == nil {
			return false
		}
		if o := found.object; o.Keep < s.staleWhenDisconnected && !o.MustRevalidate && !o.NoCache {
			found.object = o.Clone()
			found.object.Keep = s.staleWhenDisconnected
		}
		s.putInMemory(key, found.object)
		return true
	})
	return found
}

// selectVariant selects the variant for the request (RFC 9111 §4.1). The newest
// response decides by which fields: one that is older and has another Vary, or none,
// is not used. A response without Vary that is newer than those with one is used if
// none of them fits; it may only have been forgotten in it.
func (s *storage) selectVariant(r *http.Request, t *target, key object.Key, e *object.Entry) (found match) {
	if e == nil {
		return found
	}
	if t.vary.names == nil && len(e.Variants) > 0 {
		t.vary.set(e.Variants[0].Vary, r.Header)
	}
	var newest []string
	var plain match
	for _, o := range e.Variants {
		if len(o.Vary) == 0 && (newest != nil || plain.object != nil) {
			continue
		}
		if len(o.Vary) > 0 && newest != nil && !slices.Equal(newest, o.Vary) {
			found.otherVariants = true
			continue
		}
		fits := len(o.Vary) == 0 || s.fits(r, t, o)
		state := s.epochs.Check(o)
		if state == object.Hard {
			continue
		}
		if len(o.Vary) > 0 {
			newest = o.Vary
		}
		if !fits {
			found.otherVariants = true
			continue
		}
		if !s.mayUse(t, key, o) {
			continue
		}
		this := match{object: o, key: key, soft: state == object.Soft}
		if len(o.Vary) > 0 || len(e.Variants) == 1 {
			return this
		}
		plain = this
	}
	if plain.object != nil {
		return plain
	}
	return found
}

// variantFilter returns what tells the Redis tier which variants are worth reading.
func (s *storage) variantFilter(r *http.Request) func(vary []string, variant string) bool {
	header := r.Header
	return func(vary []string, variant string) bool {
		return rfc9111.Variant(vary, header) == variant || s.matchesLanguage(vary)
	}
}

// matchesLanguage reports whether a stored response may be the preferred one of those
// in several languages.
func (s *storage) matchesLanguage(vary []string) bool {
	return s.lenient && len(vary) == 1 && vary[0] == "Accept-Language"
}

// fits reports whether the request selects the stored response.
func (s *storage) fits(r *http.Request, t *target, o *object.Object) bool {
	if t.vary.value == o.Variant && slices.Equal(t.vary.names, o.Vary) || rfc9111.Variant(o.Vary, r.Header) == o.Variant {
		return true
	}
	return s.matchesLanguage(o.Vary) && rfc9111.PrefersLanguage(r.Header, o.Header)
}

// mayUse reports whether the request's client may have what is stored under the key.
// What is in a user's partition is only looked up for that user.
func (s *storage) mayUse(t *target, key object.Key, o *object.Object) bool {
	if t.isPrivate(key) {
		return true
	}
	if t.client.exclusive {
		return false
	}
	if !t.client.authorized && !t.client.credentials {
		return true
	}
	p := s.prepare(o)
	if t.client.authorized && !p.forAuthorized {
		return false // it was stored for anonymous clients
	}
	return !t.client.credentials || !p.implicit
}

// evaluate returns what may be done with a stored response now, and for how long it
// is still fresh.
func (s *storage) evaluate(found *match, directives *rfc9111.RequestDirectives, now time.Time) (rfc9111.Reuse, time.Duration) {
	reuse, fresh := s.judge(found, directives, now)
	if reuse == rfc9111.UseFresh && s.earlyRefresh && s.refreshesEarly(found.object, fresh) {
		reuse = rfc9111.UseWhileRevalidating
	}
	return reuse, fresh
}

// judge is evaluate without the early refreshes, for which chance decides.
func (s *storage) judge(found *match, directives *rfc9111.RequestDirectives, now time.Time) (rfc9111.Reuse, time.Duration) {
	o := found.object
	c := rfc9111.Candidate{
		Age: o.Age(now), Lifetime: o.Lifetime, StaleWhileRevalidate: o.StaleWhileRevalidate,
		MustRevalidate: o.MustRevalidate, NoCache: o.NoCache, Immutable: directives.MaxAge == 0 && s.prepare(o).immutable, Soft: found.soft,
	}
	return c.Evaluate(directives), c.Fresh()
}

// prepare returns what is prepared for the object.
func (s *storage) prepare(o *object.Object) *prepared {
	if p, ok := o.Prepared().(*prepared); ok {
		return p
	}
	p := newPrepared(o, s.targets)
	o.SetPrepared(p)
	return p
}

// refreshesEarly decides at random whether what is still fresh is refreshed already:
// the likelier the nearer its end and the longer the origin takes, so that about one
// request does (Vattani, Chierichetti and Lowenstein: Optimal Probabilistic Cache
// Stampede Prevention, 2015).
func (s *storage) refreshesEarly(o *object.Object, fresh time.Duration) bool {
	p := s.prepare(o)
	if p.hits.Load() < 2 {
		p.hits.Add(1)
		return false
	}
	took := max(p.took, time.Millisecond)
	return -math.Log(1-rand.Float64())*float64(took) >= float64(fresh)
}
