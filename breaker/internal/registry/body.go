package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/internal/clientfault"
)

// Body is a request body that notes what reading it tells of the client: a body
// that cannot be read is never the backend's fault, and neither is the time for
// which the client lets the gateway wait. What it fails with is a
// clientfault.Error.
type Body struct {
	io.ReadCloser

	// Ended, if set, is called once, when there is nothing more to wait for.
	Ended func()

	fault  atomic.Pointer[clientfault.Error]
	since  atomic.Int64 // when the read under way began, in Unix nanoseconds, or 0
	closed atomic.Bool
	ended  atomic.Bool
	waited atomic.Int64

	mu      sync.Mutex
	reading bool // a read is under way
	closing bool // the body is closed when the read is over
}

// Wraps reports whether there is a body to read. A request of which it is known
// that it has none often comes with a reader all the same.
func Wraps(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// Read reads from the client.
func (b *Body) Read(p []byte) (int, error) {
	began := Clock.Now()
	b.since.Store(began.UnixNano())
	n, err := b.read(p)
	b.waits(began)
	if err != nil {
		// The transport closes a body that it no longer needs, perhaps while it
		// still reads.
		if !errors.Is(err, io.EOF) && !b.closed.Load() {
			fault := clientfault.Of(err)
			b.fault.CompareAndSwap(nil, fault)
			err = fault
		}
		b.end()
	}
	return n, err
}

// waits adds the wait that began at a moment, unless Close has.
func (b *Body) waits(began time.Time) {
	if b.since.Swap(0) != 0 {
		b.waited.Add(int64(Clock.Since(began)))
	}
}

// Close closes the body. A wait that is under way is over: the transport closes
// what it gave up to send.
func (b *Body) Close() error {
	if since := b.since.Load(); since != 0 {
		b.waits(time.Unix(0, since))
	}
	b.closed.Store(true)
	b.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reading {
		b.closing = true
		return nil
	}
	return b.ReadCloser.Close()
}

// read reads, and closes the body if that was asked for meanwhile: HTTP/2
// transports close what they still read, which Caddy's reader does not bear.
func (b *Body) read(p []byte) (int, error) {
	b.mu.Lock()
	b.reading = true
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	if b.closing {
		b.closing = false
		_ = b.ReadCloser.Close()
	}
	return n, err
}

func (b *Body) end() {
	if b.Ended != nil && b.ended.CompareAndSwap(false, true) {
		b.Ended()
	}
}

// Fault returns what was wrong with what the client sent, or nil.
func (b *Body) Fault() *clientfault.Error { return b.fault.Load() }

// Failed reports whether the client did not send its body as it should.
func (b *Body) Failed() bool { return b.Fault() != nil }

// Waited returns how long the gateway waited for the client.
func (b *Body) Waited() time.Duration {
	waited := time.Duration(b.waited.Load())
	if since := b.since.Load(); since != 0 {
		waited += time.Duration(Clock.Now().UnixNano() - since)
	}
	return waited
}

// Gone reports whether the client went away, as opposed to a deadline that the
// gateway set for the request.
func Gone(r *http.Request) bool { return errors.Is(r.Context().Err(), context.Canceled) }

// heldUp is how long a client must have held up an exchange to be blamed for its
// end.
const heldUp = time.Second

// HeldUp reports whether an exchange that broke off was waiting for the client
// most of the time: that a backend does not wait for ever for a client that
// neither sends nor reads is no failure.
func HeldUp(client, all time.Duration) bool { return client >= heldUp && client > all/2 }
