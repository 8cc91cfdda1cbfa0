package exchange

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
)

// Body is a request body that records how the client sends it. A
// body that cannot be read is never the backend's fault, and neither is the time
// spent waiting for the client. Errors of Read are of type clientfault.Error.
type Body struct {
	io.ReadCloser

	// Ended, if set, is called once, when there is nothing more to wait for.
	Ended func()

	started atomic.Bool // reading began

	fault  atomic.Pointer[clientfault.Error]
	since  atomic.Int64 // start of the read in progress, in Unix nanoseconds, or 0
	closed atomic.Bool
	ended  atomic.Bool
	waited atomic.Int64

	mu      sync.Mutex
	reading bool // a read is in progress
	closing bool // the body is to be closed when that read returns
}

// HasBody reports whether there is a body to read. A request that is known to
// have none often comes with a reader all the same.
func HasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// Read reads from the client.
func (b *Body) Read(p []byte) (int, error) {
	b.started.Store(true)
	began := registry.Now()
	b.since.Store(began.UnixNano())
	n, err := b.read(p)
	b.addWait(began)
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

// Started reports whether any of the body may have been read.
func (b *Body) Started() bool { return b.started.Load() }

// addWait counts the wait that started at began, unless Close has.
func (b *Body) addWait(began time.Time) {
	if b.since.Swap(0) != 0 {
		b.waited.Add(int64(registry.Since(began)))
	}
}

// Close closes the body. It ends a wait in progress: the transport closes what
// it no longer sends.
func (b *Body) Close() error {
	if since := b.since.Load(); since != 0 {
		b.addWait(time.Unix(0, since))
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

// read reads, and closes the body if Close was called meanwhile: HTTP/2
// transports close a body that they are still reading, and Caddy's reader does
// not allow that.
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
		waited += time.Duration(registry.Now().UnixNano() - since)
	}
	return waited
}
