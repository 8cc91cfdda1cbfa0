package rediscache

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// recorder is the http.ResponseWriter of the handlers behind the cache. It evaluates
// the response when its header comes, sends it to the client, and keeps what may be
// stored. Its phase says which of this it does.
type recorder struct {
	f     *fetch
	phase phase

	// header is what handlers fill: at first the client's own, as without the cache.
	header http.Header
	fields *ownFields // what of it is the response's

	status   int
	received time.Time
	invalid  error // in place of the response
	// unanswered: no handler sent a header, so net/http sends an empty 200.
	unanswered bool
	written    int64

	record  record
	content *stream.Stream // while the phase keeps it
	cutOff  bool           // a reader was too slow
	client  delivery
}

// record is what will be stored of a response.
type record struct {
	decision rfc9111.Decision
	object   *object.Object // without its content
	key      object.Key
	// completed: it is made of a stored beginning and a rest that came.
	completed bool
	// lengthKnown: the response says how long it is.
	lengthKnown bool
}

func (r *recorder) init(f *fetch) {
	r.f = f
	r.header = f.x.w.Header()
	r.fields = newOwnFields(r.header)
	r.client.w = f.x.w
}

// sent reports whether the header is sent.
func (r *recorder) sent() bool { return r.phase.sent() }

// Header returns the header that the handlers behind fill.
func (r *recorder) Header() http.Header { return r.header }

// Unwrap lets http.ResponseController reach the client's writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.client.w }

// WriteHeader takes the header of the response. The first final one counts;
// informational responses pass and are not stored.
func (r *recorder) WriteHeader(status int) {
	switch {
	case r.phase != awaitingHeader:
	case status < http.StatusContinue || status > 999:
		// net/http would panic. The client gets a 502 (RFC 9110 §15.6.3), or what is stored.
		r.phase.advance(invalid)
		r.invalid = problem.Error(problem.New(http.StatusBadGateway, "the service answered with the invalid status "+strconv.Itoa(status)))
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		if !r.f.x.background {
			r.client.w.WriteHeader(status)
		}
	default:
		r.takeHeader(status)
	}
}

// takeHeader decides what becomes of the response, and sends its header.
func (r *recorder) takeHeader(status int) {
	r.status, r.received = status, time.Now()
	r.fields.read(r.header)
	fillSeconds.Observe(r.received.Sub(r.f.requested).Seconds())
	if r.mustWithhold() {
		r.phase.advance(withheld)
		return
	}
	if r.f.conditions.completing != nil && status == http.StatusPartialContent {
		r.complete()
	}
	if reason := r.evaluate(); reason != rfc9111.Stored {
		r.forward(reason)
	} else {
		r.startRecording()
	}
	r.sendHeader()
	if r.record.completed {
		_, _ = r.Write(r.f.conditions.completing.Body) // the beginning that was stored before
	}
}

// mustWithhold reports whether the response is not for the client: see
// fetch.replaceWithheld.
func (r *recorder) mustWithhold() bool {
	x, conditions := r.f.x, &r.f.conditions
	switch {
	case conditions.validating && r.status == http.StatusNotModified:
		return true
	case isFailure(r.status):
		return x.mayServeStale(r.received, false)
	case conditions.completing == nil:
		return false
	case r.status == http.StatusRequestedRangeNotSatisfiable:
		return true
	case r.status == http.StatusPartialContent:
		part, size, ok := rfc9111.ContentRange(r.fields.own)
		p := x.h.storage.prepare(conditions.completing)
		return !ok || part.Start != p.part.End || part.End != p.size || size != p.size || !rfc9111.Combinable(conditions.completing.Header, r.fields.own)
	}
	return false
}

// complete turns the rest of a response into the whole (RFC 9111 §3.4).
func (r *recorder) complete() {
	completing := r.f.conditions.completing
	r.status, r.record.completed = http.StatusOK, true
	for name, values := range completing.Header {
		if _, there := r.fields.own[name]; !there && name != "Age" {
			r.fields.set(r.header, name, values...)
		}
	}
	r.fields.set(r.header, "Content-Range")
	r.fields.set(r.header, "Content-Length", strconv.FormatInt(r.f.x.h.storage.prepare(completing).size, 10))
}

// forward has the response only pass, for the reason that it is not stored.
func (r *recorder) forward(reason rfc9111.Reason) {
	r.phase.advance(forwarding)
	notStored.WithLabelValues(string(reason)).Inc()
	if r.status >= http.StatusInternalServerError {
		r.f.x.handOver()
	} else {
		calls.Publish(r.f.call, result{})
	}
	r.f.x.rememberHitForMiss(r.status, r.received, false)
	r.f.lifetime.setWanted(false)
}

// startRecording keeps the response from now on, and gives it to those who wait if
// they may have it.
func (r *recorder) startRecording() {
	f, x := r.f, r.f.x
	r.phase.advance(recording)
	o := newObject(f, r.fields.own, r.status, &r.record.decision)
	r.record.object = o
	r.record.key, _ = x.target.storageKey(&r.record.decision) // after newObject, which may have changed it
	if r.status == http.StatusPartialContent {
		o.Variant = partVariant(o.Vary, x.r.Header, x.r.Header.Get("Range"))
		r.record.key = partKey(r.record.key)
	}
	length := int64(-1)
	if v, ok := contentLength(r.fields.own); ok {
		length, r.record.lengthKnown = v, true
	}
	content := stream.New(x.h.MaxObjectSize, length, x.h.storage.budget, f.lifetime.unread)
	f.lifetime.setContent(content)
	r.header = maps.Clone(r.header) // trailers come while a client may be sent content
	r.share(length)
	f.lifetime.setWanted(true)
}

// share publishes the response while it arrives, and remembers whether those to come
// should wait for each other.
func (r *recorder) share(length int64) {
	f, x := r.f, r.f.x
	reusable := isReusable(&r.record.decision) && r.status != http.StatusPartialContent
	hasCookies := len(r.fields.own["Set-Cookie"]) > 0 && x.h.SetCookie != cookieStrip
	forEverybody := r.record.decision.Shared == rfc9111.Stored
	switch {
	case f.call == nil && forEverybody && isReusable(&r.record.decision):
		return // it can be shared by now, if it is not too large: see store
	case f.call == nil:
		x.rememberHitForMiss(r.status, r.received, isReusable(&r.record.decision))
		return
	case !reusable || hasCookies:
		calls.Publish(f.call, result{})
		x.rememberHitForMiss(r.status, r.received, false)
		return
	}
	hitForMiss.Remove(x.calls.led)
	r.record.object.Arriving = true
	res := x.target.found(arrivingResponse, r.record.object, r.record.key)
	res.content = r.content
	if length >= 0 && len(r.fields.own["Trailer"]) == 0 {
		res.length = strconv.FormatInt(length, 10)
	}
	calls.Publish(f.call, res)
	if !forEverybody {
		x.rememberHitForMiss(r.status, r.received, true)
	}
}

// sendHeader sends the header to the client.
func (r *recorder) sendHeader() {
	x := r.f.x
	out := r.client.w.Header()
	status := rfc9111.Status{Fwd: x.fwd(), FwdStatus: r.status, Stored: r.phase == recording}
	if r.record.completed {
		status.Fwd, status.FwdStatus = "partial", http.StatusPartialContent
	}
	x.h.responder.addStatus(out, &status, &x.target)
	r.client.mute = x.background || x.r.Method == http.MethodHead
	// The client's own condition, which was not sent to the origin.
	conditions := &r.f.conditions
	if conditions.own && (r.phase == recording || conditions.validating) && rfc9111.NotModified(x.r.Header, r.fields.own, r.status, r.received) {
		r.client.mute = true
		sendNotModified(r.client.w)
		return
	}
	if r.phase == recording && len(r.fields.own["Date"]) == 0 {
		out["Date"] = r.record.object.Header["Date"]
	}
	r.client.w.WriteHeader(r.status)
}

// Write takes content.
func (r *recorder) Write(p []byte) (int, error) {
	if r.phase == awaitingHeader {
		r.WriteHeader(http.StatusOK)
	}
	switch r.phase {
	case forwarding:
		r.written += int64(len(p))
		return r.client.write(p)
	case recording, relaying:
		r.written += int64(len(p))
		return r.keep(p)
	case awaitingHeader, invalid, withheld, complete, aborted: // it is discarded
	}
	return len(p), nil
}

// ReadFrom keeps the way open for sendfile where nothing is kept.
func (r *recorder) ReadFrom(from io.Reader) (int64, error) {
	if r.phase == awaitingHeader {
		r.WriteHeader(http.StatusOK)
	}
	if r.phase != forwarding || r.client.mute {
		return io.Copy(struct{ io.Writer }{r}, from)
	}
	n, err := io.Copy(r.client.w, from)
	r.written += n
	return n, err
}

// finishHeader is called when the handlers have returned: without a header, net/http
// sends an empty 200.
func (r *recorder) finishHeader() {
	if r.phase == awaitingHeader {
		r.unanswered = true
		r.WriteHeader(http.StatusOK)
	}
}

// finish ends a response that came to its end, and stores it if it is whole.
func (r *recorder) finish() {
	x := r.f.x
	if length, ok := contentLength(r.fields.own); ok && statusHasContent(r.status) && x.r.Method != http.MethodHead && length != r.written {
		// It is shorter than it said. net/http breaks the connection off, and so must
		// those who follow.
		r.abort()
		return
	}
	if r.phase.keeps() {
		trailer := trailersOf(r.header)
		body, kept := r.content.End(nil)
		if kept && r.phase == recording {
			r.store(body, trailer)
		}
		x.stopLeading(endCall) // others need not wait until the client has read it
		r.client.sendHeld(body)
		if !r.client.finish() && !x.background {
			panic(http.ErrAbortHandler)
		}
		if !r.client.mute {
			out := r.client.w.Header()
			for name, values := range trailer {
				out[http.TrailerPrefix+name] = values
			}
		}
	}
	r.phase.advance(complete)
}

// store puts the whole response into the tiers.
func (r *recorder) store(body []byte, trailer http.Header) {
	if cap(body)-len(body) > len(body)/8+512 {
		body = append(make([]byte, 0, len(body)), body...)
	}
	o, x := r.record.object, r.f.x
	if o.Arriving {
		o = o.Clone() // others send the one without content
	}
	o.Body, o.Trailer = body, trailer
	if r.status == http.StatusPartialContent {
		x.h.storage.parts().put(x.r, &x.target, r.record.key, o)
		return
	}
	x.h.storage.put(r.record.key, o)
	if r.f.call == nil && r.record.decision.Shared == rfc9111.Stored && isReusable(&r.record.decision) {
		hitForMiss.Remove(x.target.callHash(false))
	}
}

// abort ends a response that broke off: it is not stored, and nobody who has a part
// of it may take it for whole.
func (r *recorder) abort() {
	r.phase.advance(aborted)
	if r.content != nil {
		body, _ := r.content.End(stream.ErrAborted)
		r.f.x.stopLeading(endCall) // nobody more may have it
		r.client.sendHeld(body)
	}
	r.client.finish()
}

// restoreHeader makes the client's header what it was before the handlers behind the
// cache were called, for another response.
func (r *recorder) restoreHeader() { r.fields.restore(r.client.w.Header()) }

// ownFields returns the fields that the handlers behind have set so far.
func (r *recorder) ownFields() http.Header {
	r.fields.read(r.header)
	return r.fields.own
}

// close frees what the recorder holds. A handler that writes later, writes nothing.
func (r *recorder) close() {
	r.phase.advance(aborted)
	if r.content != nil {
		r.content.End(stream.ErrAborted)
	}
	r.fields.release()
}
