package rediscache

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// sendRange sends parts of a stored 200 if the request asks for them (RFC 9110 §14).
// Otherwise it reports false.
func (rs *responder) sendRange(w http.ResponseWriter, r *http.Request, o *object.Object, now time.Time, s *rfc9111.Status) bool {
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
	rs.writeFields(fields, o, now, s)
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

// storedPart answers with what is wanted of a stored part (RFC 9111 §3.3): the range
// must be wholly inside of it, or be what it was the answer to.
func (rs *responder) storedPart(w http.ResponseWriter, r *http.Request, q *request, now time.Time) (answered bool) {
	values, t := r.Header["Range"], &q.target
	specs, ok := rfc9111.ParseRange(values)
	if !ok || len(specs) != 1 {
		return false
	}
	s := rs.storage.parts()
	t.eachKey(func(key object.Key) bool {
		key = partKey(key)
		for _, o := range s.get(r, key) {
			found := match{object: o, key: key}
			state := s.epochs.Check(o)
			if state == object.Hard || !s.mayUse(t, key, o) || !rfc9111.IfRange(r.Header, o.Header, o.ResponseTime) {
				continue
			}
			found.soft = state == object.Soft
			reuse, fresh := s.evaluate(&found, &q.directives, now)
			body, span, size, ok := s.cut(o, r, specs[0], values[0])
			if reuse != rfc9111.UseFresh || !ok {
				continue
			}
			answered = true
			results.hit.Inc()
			report(r, "hit")
			rs.writeFields(w.Header(), o, now, &rfc9111.Status{Hit: true, TTL: seconds(fresh), HasTTL: true})
			if rfc9111.Conditional(r.Header) && rfc9111.NotModified(r.Header, o.Header, o.Status, o.ResponseTime) {
				sendNotModified(w)
			} else {
				writePart(w, w.Header(), body, span, size)
			}
			return true
		}
		return false
	})
	return answered
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
