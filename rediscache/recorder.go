package rediscache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
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

	// given is the header that the handlers behind fill: it begins with outer, what
	// those in front have set, as without the cache. fields is what it is of the
	// response itself, once that is sent.
	given, outer, fields http.Header
	replaced             []string // names whose outer values the response replaces
	status               int
	requested, received  time.Time
	epoch                uint64

	sent bool // the header is out
	held bool // the response is kept from the client
	// invalid is the error that the client gets in place of the response.
	invalid error
	// unwritten: no handler answered, and net/http sends an empty 200.
	unwritten bool
	mute      bool // the client gets no content

	verdict rfc9111.Verdict
	head    *object.Object // what will be stored, without its content; nil if nothing
	key     object.Key
	stream  *stream // its content
	sized   bool    // the response says how long it is
	written int64
	alone   int // what came of it for nobody

	pump   *reader
	pumped chan struct{}
	lost   atomic.Bool // the client did not get all

	left atomic.Bool // the client has

	mu     sync.Mutex
	gone   bool // the client has left, or there never was one
	worth  bool // the response is still wanted when the client is gone
	judged bool // it is known whether it is
	timer  *time.Timer
}

// Header returns the header that the handlers behind fill.
func (c *fill) Header() http.Header { return c.given }

// Unwrap lets http.ResponseController reach the client's writer.
func (c *fill) Unwrap() http.ResponseWriter { return c.x.w }

// WriteHeader decides what becomes of the response, and sends its header.
// Informational responses pass and are not stored.
func (c *fill) WriteHeader(status int) {
	switch {
	case status < http.StatusContinue || status > 999:
		c.refuse(status)
		return
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		c.informational(status)
		return
	case c.status != 0:
		return
	}
	c.status = status
	c.take()
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

// refuse is for a status that is none: net/http would panic. The client gets a 502
// (RFC 9110 §15.6.3), or what is stored.
func (c *fill) refuse(status int) {
	if c.status == 0 && c.invalid == nil {
		c.invalid = problem.Error(problem.New(http.StatusBadGateway, "the service answered with the status "+strconv.Itoa(status)+", which is none"))
	}
}

// informational passes a 1xx response on, with its fields and no others.
func (c *fill) informational(status int) {
	if c.sent || c.x.background {
		return
	}
	fields, _ := c.own()
	delete(fields, "Server")
	out := c.x.w.Header()
	was := make(map[string][]string, len(fields))
	for name := range fields {
		was[name] = out[name]
	}
	addFields(out, fields)
	c.x.w.WriteHeader(status)
	for name, values := range was {
		if values == nil {
			delete(out, name)
		} else {
			out[name] = values
		}
	}
}

// own returns what of the given header is of the response itself, and the names
// of which it replaces what handlers in front have set, instead of adding to it.
func (c *fill) own() (fields http.Header, replaced []string) {
	fields = make(http.Header, len(c.given))
	for name, values := range c.given {
		switch outer := c.outer[name]; {
		case name == "Server", len(outer) == 0:
			fields[name] = values
		case len(values) >= len(outer) && slices.Equal(values[:len(outer)], outer):
			if len(values) > len(outer) {
				fields[name] = values[len(outer):]
			}
		default:
			fields[name], replaced = values, append(replaced, name)
		}
	}
	for name := range c.outer {
		if _, there := c.given[name]; !there {
			replaced = append(replaced, name)
		}
	}
	return fields, replaced
}

// take notes what the response has of its own.
func (c *fill) take() { c.fields, c.replaced = c.own() }

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

// sendHeader sends the header to the client.
func (c *fill) sendHeader() {
	x := c.x
	out := x.w.Header()
	c.sent = true
	// A 304 to the client's own condition, since the service did not hear of it.
	if c.judges && (c.head != nil || c.validating) && rfc9111.NotModified(x.r.Header, c.fields, c.status, c.received) {
		c.merge()
		c.addStatus(out)
		c.mute = true
		_ = notModified(x.w)
		return
	}
	c.mute = x.r.Method == http.MethodHead
	c.merge()
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

// merge puts the fields of the response into the client's header, as its handlers
// would have without the cache.
func (c *fill) merge() {
	out := c.x.w.Header()
	for _, name := range c.replaced {
		delete(out, name)
	}
	merge(out, c.fields)
}

// merge puts the fields of a response into the client's header. They are added to
// what handlers in front have put there.
func merge(out, fields http.Header) {
	addFields(out, fields)
	if len(fields) > 0 && fields["Server"] == nil {
		delete(out, "Server")
	}
}

func addFields(out, fields http.Header) {
	for name, values := range fields {
		switch {
		case strings.HasPrefix(name, http.TrailerPrefix):
		case name != "Server" && len(out[name]) > 0:
			out[name] = append(slices.Clip(out[name]), values...)
		default:
			out[name] = values
		}
	}
}

// Write passes content on.
func (c *fill) Write(p []byte) (int, error) {
	if c.invalid != nil {
		return len(p), nil
	}
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
	if c.forNobody(len(p)) {
		return 0, errForNobody
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
			chunk, err := pump.next(c.x.r.Context().Done())
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
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
	if c.status == 0 && c.invalid == nil {
		c.WriteHeader(http.StatusOK)
	}
	if c.invalid != nil || c.held || c.mute || c.head != nil || c.pump != nil || c.x.background {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	n, err := io.Copy(c.x.w, r)
	c.written += n
	return n, err
}

// FlushError flushes what the client has been sent.
func (c *fill) FlushError() error {
	if c.invalid != nil {
		return nil
	}
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
