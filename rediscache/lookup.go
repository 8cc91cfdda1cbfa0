package rediscache

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// found is a stored response that the request may get, if it is fresh enough.
type found struct {
	object *object.Object
	key    object.Key
	soft   bool // it counts as stale
	// others: there are variants, but none for this request.
	others bool
}

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
		if keep := time.Duration(h.StaleWhenDisconnected); hit.object.Keep < keep && !hit.object.MustRevalidate && !hit.object.NoCache {
			hit.object = hit.object.Clone()
			hit.object.Keep = keep
		}
		h.remember(r, key, hit.object)
		return true
	})
	return hit
}

// remember keeps a response of the second tier in the first.
func (h *Handler) remember(r *http.Request, key object.Key, o *object.Object) {
	if h.tiers.memory != nil {
		h.addVariant(r, key, o)
	}
}

// pick selects the variant for the request (RFC 9111 §4.1). The newest response
// decides by which fields it is selected: one that is older and has another Vary,
// or none, is not used. A response without Vary that is newer than those with
// one is used if none of them fits; it may only have been forgotten in it.
func (h *Handler) pick(r *http.Request, t *target, key object.Key, e *object.Entry) (hit found) {
	if e == nil {
		return hit
	}
	if t.known == nil && len(e.Variants) > 0 {
		t.know(e.Variants[0].Vary, r.Header)
	}
	var decides []string
	var plain found
	for _, o := range e.Variants {
		if len(o.Vary) == 0 && (decides != nil || plain.object != nil) {
			continue
		}
		if len(o.Vary) > 0 && decides != nil && !sameNames(decides, o.Vary) {
			hit.others = true
			continue
		}
		fits := len(o.Vary) == 0 || h.selects(r, t, o)
		state := h.tiers.epochs.Check(key, o)
		if state == object.Hard {
			continue
		}
		if len(o.Vary) > 0 {
			decides = o.Vary
		}
		if !fits {
			hit.others = true
			continue
		}
		if !h.mayHave(t, key, o) {
			continue
		}
		this := found{object: o, key: key, soft: state == object.Soft}
		if len(o.Vary) > 0 || len(e.Variants) == 1 {
			return this
		}
		plain = this
	}
	if plain.object != nil {
		return plain
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
	if t.alone && (!t.hasPrivate || key.Full != t.private.Full) {
		return false
	}
	if !t.authorized && !t.personal || t.hasPrivate && key.Full == t.private.Full {
		return true
	}
	p := h.prepare(o)
	if t.authorized && !p.forAuthorized {
		// It was stored for nobody in particular, who may not be this client.
		return false
	}
	return !t.personal || !p.implicit
}

// judge says what may be done with a stored response now, and for how long it is
// still fresh.
func (h *Handler) judge(hit *found, wish *rfc9111.Wish, now time.Time) (rfc9111.Reuse, time.Duration) {
	o := hit.object
	stored := rfc9111.Candidate{
		Age: o.Age(now), Lifetime: o.Lifetime, StaleWhileRevalidate: o.StaleWhileRevalidate,
		MustRevalidate: o.MustRevalidate, NoCache: o.NoCache, Immutable: wish.MaxAge == 0 && h.prepare(o).immutable, Soft: hit.soft,
	}
	what, fresh := stored.Decide(wish), stored.Fresh()
	if what == rfc9111.UseFresh && h.EarlyRefresh && h.early(o, fresh) {
		what = rfc9111.UseRefreshing
	}
	return what, fresh
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

// mayServeStale reports whether the stored response may stand in for a service
// that answers with an error (RFC 5861 §4), or that cannot be reached at all (RFC
// 9111 §4.2.4).
func (x *inquiry) mayServeStale(now time.Time, disconnected bool) bool {
	o := x.hit.object
	if o == nil || o.MustRevalidate || o.NoCache || x.wish.NoCache {
		return false
	}
	window := o.StaleIfError
	if disconnected {
		window = max(window, time.Duration(x.h.StaleWhenDisconnected))
	}
	return -o.Fresh(now) < window
}

// isFailure reports whether the status is one that stale-if-error is for (RFC
// 5861 §4).
func isFailure(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
