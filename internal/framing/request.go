// Package framing ensures that the rest of a request body is never read as the next
// request of an HTTP/1 connection. Otherwise a client could send requests that are
// neither authenticated nor counted (request smuggling, RFC 9112 §11.2).
//
// Go's server decides by the type of the request's body whether it reads the rest of
// it or closes the connection. Caddy replaces the body with readers of its own, and a
// body that reverse_proxy closed early then looks as if it had been read. Package
// framing observes the body itself and sends `Connection: close` unless its end was
// reached.
package framing

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pythopus/tentagate/internal/headers"
)

// The rest of a body that no handler read is read before the response, as Go's
// server does, so that an ordinary request keeps its connection: up to maxRest
// bytes, as long as some arrive every `stall`. After a response that closes the
// connection, a client that still sends has `linger` to read it.
const (
	maxRest = 256 << 10
	stall   = 5 * time.Second
	linger  = time.Second
)

// Request is the state of one request with a body. It is the response writer, too.
type Request struct {
	headers.Writer

	body    io.ReadCloser
	trailer trailer
	length  int64         // announced, or -1
	bound   time.Duration // of reading the rest, 0 if body has deadlines of its own
	ceiling time.Time     // of reading anything, or zero
	framed  bool          // by HTTP/2 or HTTP/3, whose connections are not lost so
	ends    bool          // the connection is closed in any case
	waits   bool          // the client waits for 100 Continue
	old     bool          // the request is of HTTP/1.0
	duplex  bool          // handlers may read the body after the response header
	gone    bool          // the connection was hijacked
	beside  bool

	mu       sync.Mutex
	reading  int       // calls of Read that have not returned
	returned sync.Cond // one of them has
	read     int64     // so far
	ended    bool      // the end of the body was read
	closed   bool      // no handler reads on
	err      error     // why the end cannot be reached
}

// Key is the key of the state in the context of a request.
type Key struct{}

// From returns the state of the request, or nil.
func From(ctx context.Context) *Request {
	q, _ := ctx.Value(Key{}).(*Request)
	return q
}

// Watch observes a request. It returns the state, which is the response writer for
// the next handlers, and the request for them. The caller calls Send(0) on the state
// when they have returned.
func Watch(w http.ResponseWriter, r *http.Request) (*Request, *http.Request) {
	q := &Request{body: r.Body, trailer: newTrailer(r), length: r.ContentLength, framed: r.ProtoMajor != 1, ended: r.ContentLength == 0}
	q.Init(w, q)
	if !q.framed {
		q.old = !r.ProtoAtLeast(1, 1)
		q.ends = r.Close || q.old
		// Go's server has refused any other expectation.
		q.waits = r.Header.Get("Expect") != ""
		if len(r.TransferEncoding) > 0 {
			var unsure bool
			q.beside, unsure = lengthBeside(r)
			q.ends = q.ends || q.beside || unsure
		}
	}
	r = r.WithContext(context.WithValue(r.Context(), Key{}, q))
	if !q.ended {
		r.Body = (*watched)(q)
	}
	return q, r
}

// LengthBeside reports whether the request has a Content-Length beside its
// Transfer-Encoding, which is to be refused (RFC 9112 §6.3).
func (q *Request) LengthBeside() bool { return q.beside }

// KeepTrailers drops the trailer fields for which keep returns false, and their
// announcement. It is called before the body is read.
func (q *Request) KeepTrailers(keep func(name string) bool) { q.trailer.keepOnly(keep) }

// Failure returns the reason why the body could not be read to its end, if that
// is the client's fault: invalid framing, or a body that did not arrive in time. It
// is nil for a client that disconnected.
func (q *Request) Failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var broken *net.OpError
	if errors.Is(q.err, context.Canceled) || errors.Is(q.err, http.ErrBodyReadAfterClose) || errors.As(q.err, &broken) && !broken.Timeout() {
		return nil
	}
	return q.err
}

// Late reports whether a failure is a timeout.
func Late(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// Overdue returns the error of a body that did not arrive in time, or nil. Go's
// server cancels the context of such a request, as if its client were gone, when
// the read that fails has yet to return.
func (q *Request) Overdue() error {
	if q == nil || q.framed || q.trailer.request.Context().Err() == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.returned.L = &q.mu; q.reading > 0; {
		q.returned.Wait()
	}
	if q.err == nil || !Late(q.err) {
		return nil
	}
	return q.err
}

// BeforeHeader closes the connection unless the body was read to its end.
func (q *Request) BeforeHeader(h http.Header, status int) {
	if q.framed || status == http.StatusSwitchingProtocols {
		return // no request follows on the connection
	}
	if q.ends || !q.finish(h) {
		h["Connection"] = []string{"close"}
	}
}

// WriteHeader sends no informational response to a client of HTTP/1.0, which does
// not know them (RFC 9110 §15.2).
func (q *Request) WriteHeader(status int) {
	if q.old && status < http.StatusOK && status != http.StatusSwitchingProtocols {
		return
	}
	q.Writer.WriteHeader(status)
}

// finish reports whether the end of the body is reached. It reads the rest unless a
// handler reads the body.
func (q *Request) finish(h http.Header) bool {
	q.mu.Lock()
	started := q.read > 0 && !q.closed
	switch {
	case q.ended:
		q.mu.Unlock()
		return true
	case q.err != nil, q.waits, q.duplex, q.reading > 0, started, q.length-q.read > maxRest, strings.EqualFold(h.Get("Connection"), "close"):
		// A handler may read on.
		q.mu.Unlock()
		return false
	}
	q.closed = true
	q.mu.Unlock()
	return q.readRest()
}

// readRest reads the rest of the body, and reports whether it reached the end.
func (q *Request) readRest() (ended bool) {
	buf := make([]byte, 4<<10)
	begin := time.Now()
	for rest, done := 0, false; !done && rest <= maxRest; {
		q.arm(begin)
		n, err := q.readBody(buf)
		rest += n
		ended, done = errors.Is(err, io.EOF), err != nil
		q.mu.Lock()
		q.note(n, err)
		q.mu.Unlock()
	}
	q.disarm()
	return ended
}

// arm bounds the next read of the rest.
func (q *Request) arm(begin time.Time) {
	if q.bound == 0 {
		return
	}
	deadline := time.Now().Add(min(stall, q.bound))
	for _, bound := range []time.Time{begin.Add(q.bound), q.ceiling} {
		if !bound.IsZero() && bound.Before(deadline) {
			deadline = bound
		}
	}
	_ = http.NewResponseController(q.ResponseWriter).SetReadDeadline(deadline)
}

func (q *Request) disarm() {
	if q.bound != 0 {
		_ = http.NewResponseController(q.ResponseWriter).SetReadDeadline(q.ceiling)
	}
}

// linger bounds what Go's server reads after the response of a body whose end was
// not reached. A read in progress, as in a proxy whose service answered early, is
// interrupted before: Go's server would do that itself, and reset the deadline.
func (q *Request) linger() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.framed || q.ended || q.gone {
		return
	}
	controller := http.NewResponseController(q.ResponseWriter)
	q.closed = true
	if q.reading > 0 && controller.SetReadDeadline(time.Unix(1, 0)) == nil {
		for q.returned.L = &q.mu; q.reading > 0; {
			q.returned.Wait()
		}
	}
	_ = controller.SetReadDeadline(time.Now().Add(linger))
}

// readBody reads from the body, and checks the trailer at its end.
func (q *Request) readBody(p []byte) (int, error) {
	n, err := q.body.Read(p)
	if errors.Is(err, io.EOF) {
		if e := q.trailer.check(); e != nil {
			err = e
		}
	}
	return n, err
}

// note records the result of a read of the body.
func (q *Request) note(n int, err error) {
	q.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		q.ended = true
	case err != nil && q.err == nil:
		q.err = err
	}
}

// Hijack takes over the connection.
func (q *Request) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := q.Writer.Hijack()
	if err == nil {
		q.mu.Lock()
		q.gone = true
		q.mu.Unlock()
	}
	return conn, rw, err
}

// EnableFullDuplex lets handlers read the body after the response header.
func (q *Request) EnableFullDuplex() error {
	q.duplex = true
	return http.NewResponseController(q.ResponseWriter).EnableFullDuplex()
}

// watched is the body of a request.
type watched Request

func (b *watched) Read(p []byte) (int, error) {
	q := (*Request)(b)
	q.mu.Lock()
	if q.closed {
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return 0, io.EOF
		}
		return 0, http.ErrBodyReadAfterClose
	}
	q.reading++
	q.mu.Unlock()
	n, err := q.readBody(p)
	q.mu.Lock()
	q.reading--
	q.note(n, err)
	q.returned.Broadcast()
	q.mu.Unlock()
	return n, err
}

// Close ends the reads of handlers. The server closes the body itself.
func (b *watched) Close() error {
	q := (*Request)(b)
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return nil
}

// BytesRead returns how much of the body was read so far.
func (q *Request) BytesRead() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.read
}
