package rediscache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// responder answers with stored responses, and says in Cache-Status what the cache did.
type responder struct {
	storage     *storage
	cacheStatus string // the option
}

// outcome is how a request was answered: for the placeholder, the log and
// Cache-Status.
type outcome struct {
	word   string
	status rfc9111.Status
}

// hit sends a response that is fresh.
func (rs *responder) hit(w http.ResponseWriter, r *http.Request, found *match, now time.Time, fresh time.Duration) error {
	results.hit.Inc()
	return rs.stored(w, r, found.object, now, outcome{word: "hit", status: rfc9111.Status{Hit: true, TTL: seconds(fresh), HasTTL: true}})
}

// stale sends a response that is stale. failure names what made that necessary, if
// anything did.
func (rs *responder) stale(w http.ResponseWriter, r *http.Request, found *match, now time.Time, failure string) error {
	if failure == "" {
		results.stale.Inc()
	} else {
		results.staleError.Inc()
	}
	fresh := found.object.Fresh(now)
	if found.soft {
		fresh = min(fresh, 0)
	}
	return rs.stored(w, r, found.object, now, outcome{word: "stale", status: rfc9111.Status{Hit: true, TTL: seconds(fresh), HasTTL: true, Detail: failure}})
}

// stored sends a stored response: whole, a part of it, or a 304.
func (rs *responder) stored(w http.ResponseWriter, r *http.Request, o *object.Object, now time.Time, how outcome) error {
	report(r, how.word)
	fields := w.Header()
	if len(r.Header) > 0 && rfc9111.Conditional(r.Header) && rfc9111.NotModified(r.Header, o.Header, o.Status, o.ResponseTime) {
		rs.writeFields(fields, o, now, &how.status)
		sendNotModified(w)
		return nil
	}
	if len(r.Header["Range"]) > 0 && r.Method == http.MethodGet && rs.sendRange(w, r, o, now, &how.status) {
		return nil
	}
	rs.writeFields(fields, o, now, &how.status)
	if len(o.Trailer) > 0 {
		announce(fields, o.Trailer)
	}
	w.WriteHeader(o.Status)
	if r.Method != http.MethodHead && len(o.Body) > 0 {
		_, _ = w.Write(o.Body) // a client that is gone is not an error
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

// outerField is a field that handlers further out have set.
type outerField struct {
	name   string
	values []string
}

// writeFields puts the stored header, Age and Cache-Status into fields. It makes two
// allocations: one for all values that the response has, so that handlers further out
// can change their slices without changing the stored ones, and one for the text of
// what is new.
func (rs *responder) writeFields(fields http.Header, o *object.Object, now time.Time, s *rfc9111.Status) {
	p := rs.storage.prepare(o)
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
	if rs.cacheStatus == statusOff {
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

// sendNotModified sends a 304 with the fields that a 200 would have had, without those
// that describe its content (RFC 9110 §15.4.5).
func sendNotModified(w http.ResponseWriter) {
	fields := w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Trailer"} {
		delete(fields, name)
	}
	w.WriteHeader(http.StatusNotModified)
}

// cacheName is what this cache is called in Cache-Status.
const cacheName = "tentagate"

// addStatus adds the cache's member to Cache-Status (RFC 9211): it is the last, since
// this cache is nearer to the client than those that are there already. t may be nil.
func (rs *responder) addStatus(fields http.Header, s *rfc9111.Status, t *target) {
	if rs.cacheStatus == statusOff {
		return
	}
	if rs.cacheStatus == statusKey && t != nil {
		s.Key = strings.ToValidUTF8(t.shared.Full, "?")
	}
	var array [160]byte
	text := string(s.Append(array[:0], cacheName))
	fields["Cache-Status"] = append(slices.Clip(fields["Cache-Status"]), text)
}

// report sets the placeholder and the field of the access log.
func report(r *http.Request, word string) { reportWhy(r, word, "") }

// reportWhy is report where the request is not answered with what is stored, and why: as
// `fwd` of Cache-Status, or what has the request bypass the cache.
func reportWhy(r *http.Request, word, reason string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(placeholder, words[word])
	}
	if s := requeststate.Peek(r); s != nil {
		s.Decisions.Cache, s.Decisions.CacheReason = word, reason
	}
}

const placeholder = "http.cache.status"

// words are the values of the placeholder, boxed once.
var words = map[string]any{
	"hit": "hit", "stale": "stale", "revalidated": "revalidated", "miss": "miss", "collapsed": "collapsed", "bypass": "bypass", "invalidate": "invalidate",
}

// seconds rounds down, so that what is stale never looks fresh.
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}
