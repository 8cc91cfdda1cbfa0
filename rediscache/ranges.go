package rediscache

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// answerRange sends parts of a stored 200, or a part that is stored, if the
// request asks for them (RFC 9110 §14). Otherwise it reports false.
func (h *Handler) answerRange(w http.ResponseWriter, r *http.Request, o *object.Object, p *prepared, now time.Time, s *rfc9111.Status) bool {
	if o.Status != http.StatusOK || len(o.Trailer) > 0 {
		return false
	}
	specs, ok := rfc9111.ParseRange(r.Header["Range"])
	if !ok || !rfc9111.IfRange(r.Header, o.Header, o.ResponseTime) {
		return false
	}
	size := int64(len(o.Body))
	ranges, whole := rfc9111.ResolveAll(specs, size)
	if whole {
		return false
	}
	fields := w.Header()
	h.writeFields(fields, o, p, now, s)
	fields["Accept-Ranges"] = []string{"bytes"}
	switch len(ranges) {
	case 0:
		fields["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
		for _, name := range []string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified"} {
			delete(fields, name)
		}
		fields["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	case 1:
		writePart(w, fields, o.Body[ranges[0].Start:ranges[0].End], ranges[0], size)
	default:
		writeParts(w, fields, o.Body, ranges)
	}
	return true
}

func writePart(w http.ResponseWriter, fields http.Header, body []byte, r rfc9111.Range, size int64) {
	if fields["Content-Type"] == nil {
		fields["Content-Type"] = nil // or net/http would guess one from the part
	}
	fields["Content-Range"] = []string{rfc9111.FormatContentRange(r, size)}
	fields["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(body)
}

// writeParts sends several parts (RFC 9110 §14.6).
func writeParts(w http.ResponseWriter, fields http.Header, body []byte, ranges []rfc9111.Range) {
	boundary := rand.Text()
	kind := ""
	if values := fields["Content-Type"]; len(values) > 0 {
		kind = "Content-Type: " + values[0] + "\r\n"
	}
	size := int64(len(body))
	heads := make([]string, len(ranges))
	total := 0
	for i, r := range ranges {
		heads[i] = "\r\n--" + boundary + "\r\n" + kind + "Content-Range: " + rfc9111.FormatContentRange(r, size) + "\r\n\r\n"
		if i == 0 {
			heads[i] = heads[i][2:]
		}
		total += len(heads[i]) + int(r.Len())
	}
	end := "\r\n--" + boundary + "--\r\n"
	fields["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	fields["Content-Length"] = []string{strconv.Itoa(total + len(end))}
	w.WriteHeader(http.StatusPartialContent)
	for i, r := range ranges {
		if _, err := w.Write([]byte(heads[i])); err != nil {
			return
		}
		if _, err := w.Write(body[r.Start:r.End]); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte(end))
}

// answerPart sends what is wanted of a stored part (RFC 9111 §3.3): the range
// must be wholly inside of it, or be what it was the answer to.
func (h *Handler) answerPart(w http.ResponseWriter, r *http.Request, t *target, now time.Time, wish *rfc9111.Wish) bool {
	values := r.Header["Range"]
	specs, ok := rfc9111.ParseRange(values)
	if !ok || len(specs) != 1 {
		return false
	}
	answered := false
	t.keys(func(key object.Key) bool {
		key = partKey(key)
		for _, o := range h.parts(r, t, key) {
			hit := found{object: o, key: key}
			state := h.tiers.epochs.Check(key, o)
			if state == object.Hard || !h.mayHavePart(t, key, o) || !rfc9111.IfRange(r.Header, o.Header, o.ResponseTime) {
				continue
			}
			hit.soft = state == object.Soft
			what, fresh := h.judge(&hit, wish, now)
			if what != rfc9111.UseFresh {
				continue
			}
			p := h.prepare(o)
			status := rfc9111.Status{Hit: true, TTL: seconds64(fresh), HasTTL: true}
			part, size, body := p.part, p.size, o.Body
			if partVariant(o.Vary, r.Header, values[0]) != o.Variant {
				if o.Variant[:len(o.Variant)-len(rangeOf(o.Variant))] != partVariant(o.Vary, r.Header, "") || p.size < 0 {
					continue
				}
				want, ok := specs[0].Resolve(p.size)
				if !ok || want.Start < part.Start || want.End > part.End {
					continue
				}
				body, part = body[want.Start-part.Start:want.End-part.Start], want
			} else if r, n, ok := rfc9111.ContentRange(o.Header); ok {
				part, size = r, n // as it was
			}
			results.hit.Inc()
			h.tell(r, "hit")
			h.writeFields(w.Header(), o, p, now, &status)
			answered = true
			if rfc9111.Conditional(r.Header) && rfc9111.NotModified(r.Header, o.Header, o.Status, o.ResponseTime) {
				_ = notModified(w)
				return true
			}
			writePart(w, w.Header(), body, part, size)
			return true
		}
		return false
	})
	return answered
}

func (h *Handler) mayHavePart(t *target, key object.Key, o *object.Object) bool {
	if t.hasPrivate && key.Full == partKey(t.private).Full {
		return true
	}
	return h.mayHave(t, key, o)
}

// partsKept is set when this process has kept a part.
var partsKept atomic.Bool

// knownParts returns the stored parts of a key that are found without a look into the
// second tier, unless there is no other. It is for requests that do not ask for
// a part: most have none.
func (h *Handler) knownParts(r *http.Request, t *target, key object.Key) []*object.Object {
	if h.tiers.memory == nil {
		if !partsKept.Load() {
			return nil
		}
		return h.parts(r, t, key)
	}
	if e := h.tiers.memory.Get(r.Context(), key); e != nil {
		return e.Variants
	}
	return nil
}

// parts returns the stored parts of a key, of both tiers.
func (h *Handler) parts(r *http.Request, t *target, key object.Key) []*object.Object {
	var list []*object.Object
	if h.tiers.memory != nil {
		if e := h.tiers.memory.Get(r.Context(), key); e != nil {
			list = append(list, e.Variants...)
		}
	}
	if len(list) == 0 && h.tiers.redis != nil {
		if e := h.tiers.redis.Get(t.waiting(r), key); e != nil {
			list = append(list, e.Variants...)
		}
	}
	return list
}

// partVariant is the variant of a part: the values of its Vary fields, and the
// range that was asked for.
func partVariant(names []string, request http.Header, asked string) string {
	b := appendPart(nil, rfc9111.Variant(names, request))
	return string(append(b, asked...))
}

// rangeOf returns the range that partVariant put at the end.
func rangeOf(variant string) string {
	length, rest, ok := cutNumber(variant)
	if !ok || length > len(rest) {
		return ""
	}
	return rest[length:]
}

func cutNumber(s string) (n int, rest string, ok bool) {
	for i := range len(s) {
		if s[i] == ':' {
			n, err := strconv.Atoi(s[:i])
			return n, s[i+1:], err == nil
		}
	}
	return 0, "", false
}
