package rediscache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/rediscache/object"
	"github.com/pythopus/tentagate/rediscache/rfc9111"
)

// direct is how much of a response that is kept is sent to its client by the
// goroutine that receives it. After that the client is a reader like others, so
// that a slow one does not slow those who share the answer.
const direct = 64 << 10

// fill is a request to the service and its response, on its way to the client
// and, if it may be kept, into the tiers. It is the http.ResponseWriter of the
// handlers behind. They get a header of their own, so that what is stored is the
// service's and not what handlers in front have set for this one request.
type fill struct {
	x   *inquiry
	f   *flight
	out *http.Request

	cancel  context.CancelFunc
	unwatch func() bool

	ownHeader  bool
	judges     bool           // the client's conditions were left out: they are judged here
	validating bool           // the request has conditions of ours
	completing *object.Object // what the request asks the rest of
	completed  bool           // and the rest came

	fields              http.Header
	status              int
	requested, received time.Time
	epoch               uint64

	sent bool // the header is out
	held bool // the response is kept from the client
	mute bool // the client gets no content

	verdict rfc9111.Verdict
	head    *object.Object // what will be stored, without its content; nil if nothing
	key     object.Key
	stream  *stream // its content
	written int64

	pump   *reader
	pumped chan struct{}
	lost   atomic.Bool // the client did not get all

	mu     sync.Mutex
	gone   bool // the client is
	worth  bool // the response is still wanted when the client is gone
	judged bool // it is known whether it is
	timer  *time.Timer
}

// Header returns the header that the handlers behind fill.
func (c *fill) Header() http.Header { return c.fields }

// Unwrap lets http.ResponseController reach the client's writer.
func (c *fill) Unwrap() http.ResponseWriter { return c.x.w }

// WriteHeader decides what becomes of the response, and sends its header.
// Informational responses pass and are not stored.
func (c *fill) WriteHeader(status int) {
	switch {
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		c.informational(status)
		return
	case c.status != 0:
		return
	}
	c.status = status
	c.received = time.Now()
	fillSeconds.Observe(c.received.Sub(c.requested).Seconds())
	if c.held = c.hold(); c.held {
		return
	}
	if c.completing != nil && status == http.StatusPartialContent {
		c.complete()
	}
	c.decide()
	c.sendHeader()
	if c.completed {
		_, _ = c.Write(c.completing.Body) // the beginning that was stored before
	}
}

// informational passes a 1xx response on, with its fields and no others.
func (c *fill) informational(status int) {
	if c.sent || c.x.background {
		return
	}
	out := c.x.w.Header()
	was := make(map[string][]string, len(c.fields))
	for name, values := range c.fields {
		if name != "Server" {
			was[name] = out[name]
			out[name] = values
		}
	}
	c.x.w.WriteHeader(status)
	for name, values := range was {
		if values == nil {
			delete(out, name)
		} else {
			out[name] = values
		}
	}
}

// hold reports whether the response is not for the client: see settle.
func (c *fill) hold() bool {
	switch {
	case c.validating && c.status == http.StatusNotModified:
		return true
	case isFailure(c.status):
		return c.x.mayServeStale(c.received, false)
	case c.completing != nil && c.status == http.StatusRequestedRangeNotSatisfiable:
		return true
	case c.completing != nil && c.status == http.StatusPartialContent:
		r, size, ok := rfc9111.ContentRange(c.fields)
		p := c.x.h.prepare(c.completing)
		return !ok || r.Start != p.part.End || r.End != p.size || size != p.size || !rfc9111.Combinable(c.completing.Header, c.fields)
	}
	return false
}

// complete turns the rest of a response into the whole (RFC 9111 §3.4).
func (c *fill) complete() {
	p := c.x.h.prepare(c.completing)
	c.status, c.completed = http.StatusOK, true
	for name, values := range c.completing.Header {
		if _, there := c.fields[name]; !there && name != "Age" {
			c.fields[name] = append([]string(nil), values...)
		}
	}
	delete(c.fields, "Content-Range")
	c.fields["Content-Length"] = []string{formatInt(p.size)}
}

// decide judges whether the response may be stored and who of those who wait
// may have it.
func (c *fill) decide() {
	x, h := c.x, c.x.h
	reason := c.judge()
	if reason != rfc9111.Stored {
		notStored.WithLabelValues(string(reason)).Inc()
		c.f.arrive(func() {})
		c.rememberPass()
		c.settleWorth(false)
		return
	}
	c.head = c.newObject(c.fields, c.status, &c.verdict)
	if c.status == http.StatusPartialContent {
		c.head.Variant = partVariant(c.head.Vary, x.r.Header, x.r.Header.Get("Range"))
		c.key = partKey(c.key)
	}
	length := int64(-1)
	if v, ok := contentLength(c.fields); ok {
		length = v
	}
	c.stream = newStream(h.MaxObjectSize, length, h.tiers.room.share())
	if c.f != nil {
		if reusable(&c.verdict) && c.status != http.StatusPartialContent && (len(c.fields["Set-Cookie"]) == 0 || h.SetCookie == cookieStrip) {
			notShared.forget(c.f.key)
			c.head.SetPrepared(h.newPrepared(c.head, false))
			c.f.arrive(func() {
				x.arrived(c.f, arrivedStream, c.head, c.key)
				c.f.stream = c.stream
				if length >= 0 && len(c.fields["Trailer"]) == 0 {
					c.f.length = formatInt(length)
				}
			})
			if c.verdict.Shared != rfc9111.Stored {
				c.rememberPass()
			}
		} else {
			c.f.arrive(func() {})
			c.rememberPass()
		}
	}
	if c.f == nil && reusable(&c.verdict) {
		notShared.forget(x.t.flightKey(false)) // it can be shared by now
	}
	c.settleWorth(true)
}

// judge returns why the response is not stored.
func (c *fill) judge() rfc9111.Reason {
	x, h := c.x, c.x.h
	c.verdict = h.policy.Judge(&rfc9111.Exchange{
		Method: x.r.Method, Authorized: x.t.authorized, Cookie: x.t.cookie, Range: len(c.out.Header["Range"]) > 0,
		Status: c.status, Header: c.fields, Requested: c.requested, Received: c.received,
	})
	var ok bool
	c.key, ok = x.place(&c.verdict)
	switch kind := c.fields.Get("Content-Type"); {
	case !ok && c.verdict.One != rfc9111.Stored:
		return c.verdict.One
	case !ok:
		return c.verdict.Shared
	case c.isFallback():
		return "fallback"
	case len(c.fields["Set-Cookie"]) > 0 && h.SetCookie == cookieBypass:
		return "set-cookie"
	case strings.HasPrefix(kind, "text/event-stream"), strings.HasPrefix(kind, "application/grpc"):
		return "stream"
	case h.MatchType && !typeAgrees(x.t.path, c.fields):
		return "type"
	case x.r.Method == http.MethodPost && !c.describesTarget():
		return "method"
	case c.status == http.StatusPartialContent && !c.singlePart():
		return "multipart"
	case !c.judges && rfc9111.Conditional(c.out.Header) && c.status != http.StatusOK:
		return "conditional"
	}
	if length, ok := contentLength(c.fields); ok && length > h.MaxObjectSize {
		return "size"
	}
	return rfc9111.Stored
}

// isFallback reports whether an open circuit breaker answers in place of the
// service. That is over when the service is back.
func (c *fill) isFallback() bool {
	repl, _ := c.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl == nil {
		return false
	}
	state, _ := repl.GetString("http.circuit_breaker.state")
	return state == "open"
}

// singlePart reports whether a 206 has one part, of a single range.
func (c *fill) singlePart() bool {
	_, _, ok := rfc9111.ContentRange(c.fields)
	specs, asked := rfc9111.ParseRange(c.out.Header["Range"])
	return ok && asked && len(specs) == 1 && len(c.x.r.Header["Range"]) == 1
}

// rememberPass has requests not wait for each other for a while.
func (c *fill) rememberPass() {
	if c.f == nil || c.x.background {
		return
	}
	life := time.Duration(c.x.h.HitForMiss)
	if c.status >= http.StatusInternalServerError {
		life = min(life, time.Second) // an error is not for long
	}
	notShared.add(c.f.key, c.received.Add(life))
}

// reusable reports whether a response may answer other requests without asking
// again.
func reusable(v *rfc9111.Verdict) bool { return !v.NoCache && v.Lifetime > v.Age }

// sendHeader sends the header to the client.
func (c *fill) sendHeader() {
	x := c.x
	out := x.w.Header()
	c.sent = true
	// A 304 to the client's own condition, since the service did not hear of it.
	if c.judges && (c.head != nil || c.validating) && rfc9111.NotModified(x.r.Header, c.fields, c.status, c.received) {
		merge(out, c.fields)
		c.addStatus(out)
		c.mute = true
		_ = notModified(x.w)
		return
	}
	c.mute = x.r.Method == http.MethodHead
	merge(out, c.fields)
	c.addStatus(out)
	if c.head != nil && len(c.fields["Date"]) == 0 {
		out["Date"] = c.head.Header["Date"]
	}
	x.w.WriteHeader(c.status)
}

func (c *fill) addStatus(out http.Header) {
	s := rfc9111.Status{Fwd: c.x.fwd(), FwdStatus: c.status, Stored: c.head != nil}
	if c.completed {
		s.Fwd, s.FwdStatus = "partial", http.StatusPartialContent
	}
	c.x.h.addStatus(out, &s, c.x.t)
}

// merge puts the fields of a response into the client's header. Vary and
// Cache-Status are added to what handlers in front have put there.
func merge(out, fields http.Header) {
	for name, values := range fields {
		switch {
		case strings.HasPrefix(name, http.TrailerPrefix):
		case name == "Vary" && len(out[name]) > 0, name == "Cache-Status" && len(out[name]) > 0:
			out[name] = append(append([]string(nil), out[name]...), values...)
		default:
			out[name] = values
		}
	}
	if len(fields) > 0 && fields["Server"] == nil {
		delete(out, "Server")
	}
}

// Write passes content on.
func (c *fill) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.held {
		return len(p), nil
	}
	c.written += int64(len(p))
	if c.stream != nil && c.head != nil && !c.stream.write(p) {
		c.tooLarge()
	}
	if c.pump != nil {
		return len(p), nil
	}
	if c.mute || c.x.background {
		return len(p), nil
	}
	if c.head != nil && c.f != nil && c.written > direct {
		if c.startPump(c.written - int64(len(p))) {
			return len(p), nil
		}
	}
	n, err := c.x.w.Write(p)
	if err != nil && c.wantedWithoutClient() {
		c.mute = true
		return len(p), nil
	}
	return n, err
}

// tooLarge gives up storing. Who follows already goes on doing so.
func (c *fill) tooLarge() {
	if c.key.Full == "" {
		return
	}
	notStored.WithLabelValues("size").Inc()
	c.key = object.Key{}
	if c.f != nil {
		inFlight.land(c.f)
	}
	if c.pump == nil && !c.stream.watched() {
		c.head = nil
	}
	c.settleWorth(false)
}

// startPump makes the client a reader of the stream.
func (c *fill) startPump(at int64) bool {
	c.pump = c.stream.follow(at)
	if c.pump == nil {
		return false
	}
	c.pumped = make(chan struct{})
	w, pump := c.x.w, c.pump
	go func() {
		defer close(c.pumped)
		defer pump.close()
		// A writer that panics must not end the process.
		defer func() { _ = recover() }()
		for {
			chunk, err := pump.next(nil)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					c.lost.Store(true)
				}
				return
			}
			if _, err := w.Write(chunk); err != nil {
				return
			}
			if pump.idle() {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}()
	return true
}

// ReadFrom keeps the way open for sendfile where nothing is kept.
func (c *fill) ReadFrom(r io.Reader) (int64, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.held || c.mute || c.head != nil || c.pump != nil || c.x.background {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	n, err := io.Copy(c.x.w, r)
	c.written += n
	return n, err
}

// FlushError flushes what the client has been sent.
func (c *fill) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.held || c.pump != nil || c.x.background {
		return nil
	}
	err := http.NewResponseController(c.x.w).Flush()
	if err != nil && c.wantedWithoutClient() {
		return nil
	}
	return err
}

// finish is for a response that came to its end.
func (c *fill) finish() error {
	x := c.x
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
		if c.held {
			return c.settle()
		}
	}
	if length, ok := contentLength(c.fields); ok && hasContent(c.status) && x.r.Method != http.MethodHead && length != c.written {
		// It is shorter than it said. net/http breaks the connection off; so
		// must those who follow.
		c.abort()
		return nil
	}
	trailer := c.trailers()
	if c.stream != nil {
		body, kept := c.stream.end(nil)
		if kept && c.head != nil && c.key.Full != "" {
			c.commit(body, trailer)
		}
	}
	if c.pumped != nil {
		<-c.pumped
		if c.lost.Load() && !x.background {
			panic(http.ErrAbortHandler)
		}
	}
	if !x.background && !c.mute {
		out := x.w.Header()
		for name, values := range trailer {
			out[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

// commit stores the response.
func (c *fill) commit(body []byte, trailer http.Header) {
	if cap(body)-len(body) > len(body)/8+512 {
		body = append(make([]byte, 0, len(body)), body...)
	}
	o := c.head.Clone()
	o.Body, o.Trailer = body, trailer
	if c.status == http.StatusPartialContent {
		c.x.h.keepPart(c.x.r, c.x.t, c.key, o)
		return
	}
	c.x.h.keep(c.x.r, c.key, o)
}

// trailers returns the trailer fields that came after the content.
func (c *fill) trailers() http.Header {
	var trailer http.Header
	add := func(name string, values []string) {
		if trailer == nil {
			trailer = http.Header{}
		}
		trailer[name] = append([]string(nil), values...)
	}
	for _, value := range c.fields["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values := c.fields[name]; len(values) > 0 {
				add(name, values)
			}
		}
	}
	for name, values := range c.fields {
		if n, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(n, values)
		}
	}
	return trailer
}

// abort is for a response that broke off: it is not stored, and nobody who has
// a part of it may take it for whole.
func (c *fill) abort() {
	c.head = nil
	if c.stream != nil {
		c.stream.end(errAborted)
	}
	if c.pumped != nil {
		<-c.pumped
	}
}

// clientGone is called when the client's request has ended before the
// response.
func (c *fill) clientGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.giveUp()
}

// settleWorth notes whether the response is wanted without its client.
func (c *fill) settleWorth(worth bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.worth, c.judged = worth, true
	if c.gone {
		c.giveUp()
	}
}

// giveUp ends the request to the service if nobody wants its answer, or in a
// while. It is called with the lock held.
func (c *fill) giveUp() {
	if c.cancel == nil {
		return
	}
	if c.judged && !c.worth && (c.stream == nil || !c.stream.watched()) || !c.judged && c.f == nil {
		c.cancel()
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Duration(c.x.h.FillTimeout), c.cancel)
	}
}

// wantedWithoutClient reports whether to go on when the client is gone.
func (c *fill) wantedWithoutClient() bool { return c.head != nil }

// close frees what the fill holds.
func (c *fill) close() {
	if c.unwatch != nil {
		c.unwatch()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

func contentLength(h http.Header) (int64, bool) {
	values := h["Content-Length"]
	if len(values) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return n, err == nil && n >= 0
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
