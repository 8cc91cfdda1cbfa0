package rediscache

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// outcome is how a request was answered: for the placeholder, the log and
// Cache-Status.
type outcome struct {
	word   string
	status rfc9111.Status
}

// answerStale sends a stale response. failed names what made it necessary.
func (h *Handler) answerStale(w http.ResponseWriter, r *http.Request, hit *found, now time.Time, failed string) error {
	if failed == "" {
		results.stale.Inc()
	} else {
		results.staleError.Inc()
	}
	fresh := hit.object.Fresh(now)
	if hit.soft {
		fresh = min(fresh, 0)
	}
	return h.answer(w, r, hit.object, now, outcome{word: "stale", status: rfc9111.Status{Hit: true, TTL: seconds64(fresh), HasTTL: true, Detail: failed}})
}

// answer sends a stored response: whole, a part of it, or the word that it has
// not changed.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, o *object.Object, now time.Time, how outcome) error {
	h.tell(r, how.word)
	p := h.prepare(o)
	if len(r.Header) > 0 && rfc9111.Conditional(r.Header) && rfc9111.NotModified(r.Header, o.Header, o.Status, o.ResponseTime) {
		h.writeFields(w.Header(), o, p, now, &how.status)
		return notModified(w)
	}
	if ranges := r.Header["Range"]; len(ranges) > 0 && r.Method == http.MethodGet {
		if answered := h.answerRange(w, r, o, p, now, &how.status); answered {
			return nil
		}
	}
	fields := w.Header()
	h.writeFields(fields, o, p, now, &how.status)
	if len(o.Trailer) > 0 {
		announce(fields, o.Trailer)
	}
	w.WriteHeader(o.Status)
	if r.Method != http.MethodHead && len(o.Body) > 0 {
		_, _ = w.Write(o.Body) // a client that is gone is no error
	}
	for name, values := range o.Trailer {
		fields[name] = append([]string(nil), values...)
	}
	return nil
}

// announce makes net/http send the trailer, which needs a body in chunks.
func announce(fields, trailer http.Header) {
	delete(fields, "Content-Length")
	for name := range trailer {
		fields["Trailer"] = append(fields["Trailer"], name)
	}
}

// writeFields puts the stored header, Age and Cache-Status into fields. It
// makes two allocations: one for all values that the response has, so that
// handlers further out can change their slices without changing the stored
// ones, and one for the text of what is new.
func (h *Handler) writeFields(fields http.Header, o *object.Object, p *prepared, now time.Time, s *rfc9111.Status) {
	n := len(p.values)
	values := make([]string, n+2)
	copy(values, p.values)
	// What handlers further out have set stays: the response adds to it.
	var array [4]outerField
	outer := array[:0]
	for name, values := range fields {
		if len(values) > 0 && name != "Server" && name != "Age" && (name == "Cache-Status" || len(o.Header[name]) > 0) {
			outer = append(outer, outerField{name, values})
		}
	}
	at := 0
	for i, name := range p.names {
		end := at + p.counts[i]
		fields[name], at = values[at:end:end], end
	}
	for _, f := range outer {
		stored := o.Header[f.name]
		fields[f.name] = append(append(make([]string, 0, len(f.values)+len(stored)+1), f.values...), stored...)
	}
	if !p.hasServer {
		delete(fields, "Server") // as reverse_proxy does
	}

	var text192 [192]byte
	b := strconv.AppendInt(text192[:0], int64(o.Age(now)/time.Second), 10)
	age := len(b)
	if h.CacheStatus == statusOff {
		values[n] = string(b)
		fields["Age"] = values[n : n+1 : n+1]
		return
	}
	b = s.Append(b, cacheName)
	text := string(b)
	values[n] = text[:age]
	fields["Age"] = values[n : n+1 : n+1]
	values[n+1] = text[age:]
	if others := fields["Cache-Status"]; len(others) > 0 {
		fields["Cache-Status"] = append(slices.Clip(others), values[n+1])
		return
	}
	fields["Cache-Status"] = values[n+1 : n+2 : n+2]
}

// outerField is a field that handlers further out have set.
type outerField struct {
	name   string
	values []string
}

// notModified sends a 304 with the fields that a 200 would have had, but those
// that describe its content (RFC 9110 §15.4.5).
func notModified(w http.ResponseWriter) error {
	fields := w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Trailer"} {
		delete(fields, name)
	}
	w.WriteHeader(http.StatusNotModified)
	return nil
}
