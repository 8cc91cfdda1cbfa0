package rediscache

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/pythopus/tentagate/rediscache/object"
	"github.com/pythopus/tentagate/rediscache/rfc9111"
)

// found is a stored response that the request may get, if it is fresh enough.
type found struct {
	object *object.Object
	key    object.Key
	soft   bool // it counts as stale
	// others: there are variants, but none for this request.
	others bool
}

// use is what may be done with a stored response.
type use int

const (
	useNot        use = iota // validate it, or fetch another
	useFresh                 // send it
	useStale                 // send it: the request wants it so
	useRefreshing            // send it, and refresh it meanwhile
)

// keys calls f with the keys under which the request may find something, its
// user's own first, until f is done.
func (t *target) keys(f func(object.Key) bool) {
	if t.hasPrivate && f(t.private) {
		return
	}
	f(t.shared)
}

// lookupMemory asks the first tier.
func (h *Handler) lookupMemory(r *http.Request, t *target) (hit found) {
	if h.tiers.memory == nil {
		return found{}
	}
	if t.hasPrivate {
		if hit = h.pick(r, t, t.private, h.tiers.memory.Get(r.Context(), t.private)); hit.object != nil {
			return hit
		}
	}
	return h.pick(r, t, t.shared, h.tiers.memory.Get(r.Context(), t.shared))
}

// lookupRedis asks the second tier, and keeps what it finds in the first.
func (h *Handler) lookupRedis(r *http.Request, t *target) (hit found) {
	if h.tiers.redis == nil {
		return found{}
	}
	match := h.matcher(r)
	t.keys(func(key object.Key) bool {
		entry := h.tiers.redis.Select(t.waiting(r), key, match)
		hit = h.pick(r, t, key, entry)
		if hit.object == nil {
			return false
		}
		h.remember(r, key, hit.object)
		return true
	})
	return hit
}

// remember keeps a response of the second tier in the first.
func (h *Handler) remember(r *http.Request, key object.Key, o *object.Object) {
	if h.tiers.memory != nil {
		h.tiers.memory.Set(key, h.tiers.memory.Get(r.Context(), key).With(key, o, h.MaxVariants))
	}
}

// pick selects the variant for the request (RFC 9111 §4.1). The newest one that
// fits counts.
func (h *Handler) pick(r *http.Request, t *target, key object.Key, e *object.Entry) (hit found) {
	if e == nil {
		return hit
	}
	if t.known == nil && len(e.Variants) > 0 {
		t.know(e.Variants[0].Vary, r.Header)
	}
	for _, o := range e.Variants {
		if len(o.Vary) > 0 && !h.selects(r, t, o) {
			hit.others = true
			continue
		}
		state := h.tiers.epochs.Check(key, o)
		if state == object.Hard || !h.mayHave(t, key, o) {
			continue
		}
		return found{object: o, key: key, soft: state == object.Soft}
	}
	return hit
}

// matcher returns what tells the second tier which variants are worth reading.
func (h *Handler) matcher(r *http.Request) func(vary []string, variant string) bool {
	header := r.Header
	return func(vary []string, variant string) bool {
		return rfc9111.Variant(vary, header) == variant || h.byLanguage(vary)
	}
}

// byLanguage reports whether the language of a stored response may tell that it
// is what would be selected for a request.
func (h *Handler) byLanguage(vary []string) bool {
	return h.Profile == profileRFC9111 && len(vary) == 1 && vary[0] == "Accept-Language"
}

func (h *Handler) selects(r *http.Request, t *target, o *object.Object) bool {
	if t.variant == o.Variant && sameNames(t.known, o.Vary) || rfc9111.Variant(o.Vary, r.Header) == o.Variant {
		return true
	}
	return h.byLanguage(o.Vary) && rfc9111.PrefersLanguage(r.Header, o.Header)
}

func sameNames(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// mayHave reports whether the request's client may have what is stored under the
// key. What is in a user's partition is only looked up for that user.
func (h *Handler) mayHave(t *target, key object.Key, o *object.Object) bool {
	if !t.authorized && !t.cookie || t.hasPrivate && key.Full == t.private.Full {
		return true
	}
	p := h.prepare(o)
	if t.authorized && !p.forAuthorized {
		// It was stored for nobody in particular, who may not be this client.
		return false
	}
	return !t.cookie || !p.implicit
}

// judge says what may be done with a stored response now.
func (h *Handler) judge(hit *found, wish *rfc9111.Wish, now time.Time) (use, time.Duration) {
	o := hit.object
	fresh := o.Fresh(now)
	if hit.soft {
		fresh = min(fresh, 0)
	}
	switch {
	case o.NoCache:
		return useNot, fresh
	case fresh > 0:
		if wish.Accepts(o.Age(now), fresh, o.MustRevalidate) || wish.MaxAge == 0 && !wish.NoCache && h.prepare(o).immutable {
			if h.EarlyRefresh && h.early(o, fresh) {
				return useRefreshing, fresh
			}
			return useFresh, fresh
		}
		return useNot, fresh
	case o.MustRevalidate || wish.NoCache || wish.MaxAge >= 0 || wish.MinFresh > 0:
		return useNot, fresh
	case (wish.AnyStale || wish.MaxStale > 0) && !hit.soft && wish.Accepts(o.Age(now), fresh, false):
		return useStale, fresh
	case -fresh < o.StaleWhileRevalidate:
		return useRefreshing, fresh
	}
	return useNot, fresh
}

// early decides by chance whether what is still fresh is refreshed already: the
// likelier the nearer its end and the longer the service takes, so that the
// expected number of requests that do is about one (Vattani, Chierichetti and
// Lowenstein: Optimal Probabilistic Cache Stampede Prevention, 2015).
func (h *Handler) early(o *object.Object, fresh time.Duration) bool {
	p := h.prepare(o)
	if p.hits.Load() < 2 {
		p.hits.Add(1)
		return false
	}
	delta := max(p.fill, time.Millisecond)
	return -math.Log(1-rand.Float64())*float64(delta) >= float64(fresh)
}

// mayServeStale reports whether the stored response may stand in for a failed
// service (RFC 5861 §4).
func (h *Handler) mayServeStale(hit *found, now time.Time) bool {
	o := hit.object
	return o != nil && !o.MustRevalidate && !o.NoCache && -o.Fresh(now) < o.StaleIfError
}
