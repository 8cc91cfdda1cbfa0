package rediscache

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// partStore stores parts (206) of responses, each key's together.
type partStore struct{ *storage }

// maxParts is how many parts of one response are stored.
const maxParts = 8

// anyStored is set when this process has stored a part.
var anyStored atomic.Bool

// get returns the stored parts of a key, of both tiers.
func (s partStore) get(r *http.Request, key object.Key) []*object.Object {
	var e *object.Entry
	if s.memory != nil {
		e = s.memory.Get(key)
	}
	if e == nil && s.redis != nil {
		e = s.redis.Get(redisContext(r), key)
	}
	if e == nil {
		return nil
	}
	return e.Variants
}

// getFast is get without a look into the Redis tier, unless there is no other.
func (s partStore) getFast(r *http.Request, key object.Key) []*object.Object {
	if s.memory == nil {
		return s.get(r, key)
	}
	if e := s.memory.Get(key); e != nil {
		return e.Variants
	}
	return nil
}

// mayUse is storage.mayUse for a part.
func (s partStore) mayUse(t *target, key object.Key, o *object.Object) bool {
	return t.hasPartition() && key.Full == partKey(t.private).Full || s.storage.mayUse(t, key, o)
}

// matches reports whether a stored part is of the variant that the request selects.
func (s partStore) matches(o *object.Object, r *http.Request) bool {
	return partVariant(o.Vary, r.Header, rangeOf(o.Variant)) == o.Variant
}

// completable returns the stored beginning of what is asked for, if the rest of it
// would make it whole (RFC 9111 §3.3).
func (s partStore) completable(r *http.Request, t *target) (best *object.Object) {
	if !anyStored.Load() {
		return nil // as for most requests, which need not look for any
	}
	now := time.Now()
	t.eachKey(func(key object.Key) bool {
		key = partKey(key)
		for _, o := range s.getFast(r, key) {
			p := s.prepare(o)
			switch {
			case p.part.Start != 0, p.part.End != int64(len(o.Body)), p.size <= p.part.End, !s.matches(o, r),
				s.epochs.Check(o) != object.Valid, !s.mayUse(t, key, o), o.Fresh(now) <= 0,
				!rfc9111.IsStrong(o.Header.Get("Etag")) && !s.lenient:
			case best == nil || len(o.Body) > len(best.Body):
				best = o
			}
		}
		return best != nil
	})
	return best
}

// put stores a part. If it continues another of the same response, they become one
// (RFC 9111 §3.4); if all is there, it is stored as the whole.
func (s partStore) put(r *http.Request, t *target, key object.Key, o *object.Object) {
	span, size, ok := rfc9111.ContentRange(o.Header)
	if !ok {
		return
	}
	exact := span.Len() == int64(len(o.Body))
	if !exact && !s.lenient {
		return // its Content-Range is wrong, or something is missing
	}
	entry := &object.Entry{Key: key, Variants: s.get(r, key)}
	for _, other := range entry.Variants {
		p := s.prepare(other)
		if !exact || !rfc9111.Combinable(o.Header, other.Header) || p.part.Len() != int64(len(other.Body)) || size != p.size ||
			s.epochs.Check(other) != object.Valid || !s.matches(other, r) {
			continue
		}
		if joined, at, ok := join(o.Body, span, other.Body, p.part); ok && int64(len(joined)) <= s.maxObjectSize {
			o = o.Clone()
			o.Body, span = joined, at
			o.Header = o.Header.Clone()
			o.Header["Content-Range"] = []string{rfc9111.FormatContentRange(span, size)}
		}
	}
	if exact && span.Start == 0 && span.End == size {
		s.putWhole(r, t, key, o)
		return
	}
	anyStored.Store(true)
	if s.memory != nil {
		s.memory.Set(key, entry.With(key, o, maxParts))
	}
	if s.redis != nil {
		s.redis.Set(key, o)
	}
}

// putWhole stores a part that is all of the response, in place of its parts.
func (s partStore) putWhole(r *http.Request, t *target, key object.Key, part *object.Object) {
	whole := part.Clone()
	whole.Status = http.StatusOK
	whole.Header = part.Header.Clone()
	delete(whole.Header, "Content-Range")
	whole.Variant = rfc9111.Variant(whole.Vary, r.Header)
	at := t.shared
	if t.hasPartition() && key.Full == partKey(t.private).Full {
		at = t.private
	}
	s.storage.put(at, whole)
	s.removeKey(key)
}

// remove removes the parts of what the target names.
func (s partStore) remove(t *target) {
	t.eachKey(func(key object.Key) bool {
		s.removeKey(partKey(key))
		return false
	})
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

// partVariant is the variant of a part: the values of its Vary fields, and the range
// that was asked for.
func partVariant(names []string, request http.Header, asked string) string {
	return string(append(cachekey.AppendPart(nil, rfc9111.Variant(names, request)), asked...))
}

// rangeOf returns the range that partVariant put at the end.
func rangeOf(variant string) string {
	_, asked, _ := cachekey.CutPart(variant)
	return asked
}

// cut returns what a range wants of a stored part.
func (s partStore) cut(o *object.Object, r *http.Request, spec rfc9111.Spec, asked string) (body []byte, span rfc9111.Range, size int64, ok bool) {
	p := s.prepare(o)
	if partVariant(o.Vary, r.Header, asked) == o.Variant {
		if span, size, ok = rfc9111.ContentRange(o.Header); ok {
			return o.Body, span, size, true // as it was
		}
		return o.Body, p.part, p.size, true
	}
	if strings.TrimSuffix(o.Variant, rangeOf(o.Variant)) != partVariant(o.Vary, r.Header, "") || p.size < 0 {
		return nil, span, 0, false
	}
	want, ok := spec.Resolve(p.size)
	if !ok || want.Start < p.part.Start || want.End > p.part.End {
		return nil, span, 0, false
	}
	return o.Body[want.Start-p.part.Start : want.End-p.part.Start], want, p.size, true
}
