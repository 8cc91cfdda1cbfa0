package rediscache

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// place returns the key under which a response is stored: everybody's, or that
// of the user who asked for it.
func (x *inquiry) place(v *rfc9111.Verdict) (object.Key, bool) {
	switch {
	case v.Shared == rfc9111.Stored:
		return x.t.shared, true
	case v.One == rfc9111.Stored && x.t.hasPrivate:
		return x.t.private, true
	}
	return object.Key{}, false
}

// newObject makes what is stored of a response, without its content.
func (c *fill) newObject(fields http.Header, status int, v *rfc9111.Verdict) *object.Object {
	x, h := c.x, c.x.h
	names, _ := rfc9111.Vary(fields)
	var omit []string
	if v.Shared == rfc9111.Stored {
		omit = v.Omit
	}
	header := rfc9111.StoredFields(fields, omit...)
	for name := range header {
		if strings.HasPrefix(name, "Access-Control-") && !h.StoreCORS {
			delete(header, name)
		}
	}
	if h.SetCookie != cookieStore {
		delete(header, "Set-Cookie")
	}
	delete(header, "Content-Length")
	if len(header["Date"]) == 0 {
		header["Date"] = []string{c.received.UTC().Format(http.TimeFormat)}
	}
	tags, _ := h.tagsOf(fields)
	o := &object.Object{
		Status: status, Header: object.Compact(header), Vary: names, Variant: rfc9111.Variant(names, x.r.Header),
		RequestTime: c.requested, Epoch: c.epoch, ResponseTime: c.received,
		InitialAge: v.Age, Lifetime: v.Lifetime,
		StaleWhileRevalidate: v.StaleWhileRevalidate, StaleIfError: v.StaleIfError,
		MustRevalidate: v.MustRevalidate, NoCache: v.NoCache,
		Scheme: x.t.scheme, Host: x.t.host, Path: x.t.pathQuery(), Tags: tags, Groups: x.groupsOf(fields["Cache-Groups"], v),
	}
	if !o.MustRevalidate && !o.NoCache {
		o.Keep = time.Duration(h.StaleWhenDisconnected)
	}
	if h.Jitter > 0 && o.Lifetime > o.InitialAge {
		o.Lifetime -= time.Duration(rand.Float64() * h.Jitter * float64(o.Lifetime-o.InitialAge))
	}
	rule, given := rfc9111.NoVarySearch(fields)
	o.AnyQuery = given || h.filtersQuery() || h.Key.QuerySort
	if h.queries.learn(x.t.asked(), x.t.path, rule, given) {
		fresh := h.targetDecided(x.r, x.t.content, x.t.decided)
		x.t.shared, x.t.private = fresh.shared, fresh.private
		if key, ok := x.place(v); ok {
			c.key = key
		}
	}
	return o
}

// keep puts the object into the tiers.
func (h *Handler) keep(r *http.Request, key object.Key, o *object.Object) {
	if h.tiers.memory != nil {
		h.addVariant(r, key, o)
	}
	if h.tiers.redis != nil {
		h.tiers.redis.Set(key, (*object.Entry)(nil).With(key, o, h.MaxVariants))
	}
}

// entryLocks are held while a variant is added to an entry of the memory tier, so
// that none that comes at the same time is lost. They are the process', as that
// tier is.
var entryLocks [64]sync.Mutex

// addVariant adds the object to the variants in the first tier.
func (h *Handler) addVariant(r *http.Request, key object.Key, o *object.Object) {
	lock := &entryLocks[key.Hash[0]%uint8(len(entryLocks))]
	lock.Lock()
	defer lock.Unlock()
	h.tiers.memory.Set(key, h.tiers.memory.Get(r.Context(), key).With(key, o, h.MaxVariants))
}

// forget removes what must not be used any more.
func (h *Handler) forget(r *http.Request, key object.Key, o *object.Object) {
	if h.tiers.memory != nil {
		if e := h.tiers.memory.Get(r.Context(), key); e != nil && slices.Contains(e.Variants, o) {
			h.tiers.memory.Delete(key)
		}
	}
	if h.tiers.redis != nil {
		h.tiers.redis.Delete(key)
	}
}

// maxParts is how many parts of one response are kept.
const maxParts = 8

// keepPart keeps a part. If it continues another of the same response, they
// become one (RFC 9111 §3.4); if all is there, it is kept as the whole.
func (h *Handler) keepPart(r *http.Request, t *target, key object.Key, o *object.Object) {
	span, size, ok := rfc9111.ContentRange(o.Header)
	if !ok {
		return
	}
	exact := span.Len() == int64(len(o.Body))
	if !exact && h.Profile != profileRFC9111 {
		return // its Content-Range is wrong, or something is missing
	}
	entry := &object.Entry{Key: key, Variants: h.parts(r, t, key)}
	for _, other := range entry.Variants {
		p := h.prepare(other)
		if !exact || !rfc9111.Combinable(o.Header, other.Header) || p.part.Len() != int64(len(other.Body)) || size != p.size ||
			h.tiers.epochs.Check(key, other) != object.Valid || partVariant(other.Vary, r.Header, rangeOf(other.Variant)) != other.Variant {
			continue
		}
		if joined, at, ok := join(o.Body, span, other.Body, p.part); ok && int64(len(joined)) <= h.MaxObjectSize {
			o = o.Clone()
			o.Body, span = joined, at
			o.Header = o.Header.Clone()
			o.Header["Content-Range"] = []string{rfc9111.FormatContentRange(span, size)}
		}
	}
	if exact && span.Start == 0 && span.End == size {
		whole := o.Clone()
		whole.Status = http.StatusOK
		whole.Header = o.Header.Clone()
		delete(whole.Header, "Content-Range")
		whole.Variant = rfc9111.Variant(whole.Vary, r.Header)
		at := t.shared
		if t.hasPrivate && key.Full == partKey(t.private).Full {
			at = t.private
		}
		h.keep(r, at, whole)
		h.forgetKey(key)
		return
	}
	partsKept.Store(true)
	if h.tiers.memory != nil {
		h.tiers.memory.Set(key, entry.With(key, o, maxParts))
	}
	if h.tiers.redis != nil {
		h.tiers.redis.Set(key, (*object.Entry)(nil).With(key, o, maxParts))
	}
}

// join makes one part of two that overlap or touch.
func join(a []byte, at rfc9111.Range, b []byte, bt rfc9111.Range) ([]byte, rfc9111.Range, bool) {
	if bt.Start < at.Start {
		a, at, b, bt = b, bt, a, at
	}
	if bt.Start > at.End {
		return nil, at, false
	}
	if bt.End <= at.End {
		return a, at, true
	}
	joined := append(append(make([]byte, 0, bt.End-at.Start), a...), b[at.End-bt.Start:]...)
	return joined, rfc9111.Range{Start: at.Start, End: bt.End}, true
}

func (h *Handler) forgetKey(key object.Key) {
	if h.tiers.memory != nil {
		h.tiers.memory.Delete(key)
	}
	if h.tiers.redis != nil {
		h.tiers.redis.Delete(key)
	}
}

// forgetParts forgets the parts of what the target names.
func (h *Handler) forgetParts(t *target) {
	t.keys(func(key object.Key) bool {
		h.forgetKey(partKey(key))
		return false
	})
}

// single answers a HEAD request, or one for a part: it is not shared while it is
// fetched.
func (x *inquiry) single() error {
	h := x.h
	if x.r.Method == http.MethodGet && x.hit.object == nil && h.answerPart(x.w, x.r, x.t, time.Now(), &x.wish) {
		return nil
	}
	if answered, err := x.second(); answered {
		return err
	}
	if x.r.Method == http.MethodHead {
		return x.head()
	}
	return x.fetch(nil)
}

// head passes a HEAD request on. Its answer freshens what is stored of a GET, or
// shows that it is out of date (RFC 9111 §4.3.5).
func (x *inquiry) head() error {
	stored := x.hit
	if stored.object == nil || stored.object.Status != http.StatusOK {
		return x.fetch(nil)
	}
	h := x.h
	epoch, requested := h.tiers.epochs.Now(), time.Now()
	inner := x.next
	x.next = handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return inner.ServeHTTP(beforeHeader(w, func(fields http.Header, status int) {
			if status != http.StatusOK {
				return
			}
			if asked, ok := w.(*fill); ok {
				fields, _ = asked.own()
			}
			if !rfc9111.SameRepresentation(stored.object.Header, fields, int64(len(stored.object.Body))) {
				h.forget(x.r, stored.key, stored.object)
				return
			}
			c := &fill{x: x, requested: requested, received: time.Now(), epoch: epoch}
			header := rfc9111.Update(stored.object.Header, fields)
			v := h.policy.Judge(&rfc9111.Exchange{
				Method: http.MethodGet, Authorized: x.t.authorized, Personal: x.t.personal, Status: http.StatusOK, Header: header,
				Requested: c.requested, Received: c.received,
			})
			x.restrict(&v, header, http.StatusOK)
			key, ok := x.place(&v)
			if !ok || key.Full != stored.key.Full || !c.named(header) {
				h.forget(x.r, stored.key, stored.object) // it is no longer for whom it was stored
				return
			}
			o := c.newObject(header, http.StatusOK, &v)
			o.Body, o.Trailer = stored.object.Body, stored.object.Trailer
			h.keep(x.r, key, o)
		}), r)
	})
	return x.fetch(nil)
}

// describesTarget reports whether the answer to a POST is what a GET of the same
// URL would get (RFC 9110 §9.3.3).
func (c *fill) describesTarget() bool {
	values := c.fields["Content-Location"]
	if len(values) != 1 || c.status != http.StatusOK {
		return false
	}
	base, err := url.Parse(c.x.t.url())
	if err != nil {
		return false
	}
	u, err := base.Parse(values[0])
	return err == nil && u.Fragment == "" && rfc9111.SameOrigin(base, u) && u.EscapedPath() == base.EscapedPath() && u.RawQuery == base.RawQuery
}
