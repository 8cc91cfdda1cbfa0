package direct

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection. One exchange uses it at a time: one goroutine reads, and
// one writes. Only close may be called by others.
type conn struct {
	t      *Transport
	host   *host
	nc     net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	raw    syscall.RawConn // nil if the connection is not a socket
	peek   func(fd uintptr) bool
	cancel func() // close, as a value

	reused    bool      // an exchange was completed on it
	idleSince time.Time // guarded by the pool
	closed    atomic.Bool

	// Of the exchange: the reader's.
	limit int64 // how much may be read
	eof   bool  // the end of the stream was seen
	quiet bool  // result of peek
	keeps bool  // what is read is added to kept
	kept  []byte

	// Of the exchange: the writer's.
	written  int64
	writeErr error    // the first error of the connection itself
	names    []string // scratch space of writeHead

	mu       sync.Mutex // guards what follows
	answered bool       // the response header is complete
	header   time.Time  // by when it must be, or zero
	read     time.Time  // by when the read under way must end, or zero
}

func newConn(t *Transport, h *host, nc net.Conn) *conn {
	c := &conn{t: t, host: h, nc: nc}
	c.r = bufio.NewReaderSize(c, t.options.ReadBuffer)
	c.w = bufio.NewWriterSize(c, t.options.WriteBuffer)
	c.cancel = c.close
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.peek = raw, c.look
		}
	}
	return c
}

// begin prepares the connection for an exchange.
func (c *conn) begin() {
	c.limit, c.written = c.t.options.MaxHeaderBytes, 0
	c.mu.Lock()
	c.answered = false
	c.mu.Unlock()
}

// close closes the connection and gives up its place in the pool, once.
func (c *conn) close() {
	if c.closed.CompareAndSwap(false, true) {
		_ = c.nc.Close()
		c.t.pool.leave(c.host)
	}
}

// detach gives up the place in the pool of a connection that goes on as a tunnel.
// It returns false if the connection was closed meanwhile.
func (c *conn) detach() bool {
	if !c.closed.CompareAndSwap(false, true) {
		return false
	}
	c.t.pool.leave(c.host)
	return true
}

// usable reports whether an idle connection is open and silent. Bytes that come
// before a request are no response to it: a server that sends them could answer
// the wrong request (RFC 9112 §9.2).
func (c *conn) usable() bool {
	if c.closed.Load() || c.raw == nil || c.r.Buffered() > 0 {
		return false
	}
	c.quiet = false
	return c.raw.Read(c.peek) == nil && c.quiet
}

var errHeaderTooLarge = errors.New("the response header is too large")

// Read reads for the bufio.Reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errHeaderTooLarge
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	if c.t.options.ReadTimeout > 0 {
		c.mu.Lock()
		c.read = time.Now().Add(c.t.options.ReadTimeout)
		c.setReadDeadline()
		c.mu.Unlock()
	}
	n, err := c.nc.Read(p)
	c.limit -= int64(n)
	if c.keeps {
		c.kept = append(c.kept, p[:n]...)
	}
	if errors.Is(err, io.EOF) {
		c.eof = true
	}
	return n, err
}

// Write writes for the bufio.Writer.
func (c *conn) Write(p []byte) (int, error) {
	if c.t.options.WriteTimeout > 0 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.t.options.WriteTimeout))
	}
	n, err := c.nc.Write(p)
	c.written += int64(n)
	if err != nil && c.writeErr == nil {
		c.writeErr = err
	}
	return n, err
}

const copySize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// ReadFrom sends each piece of a request body as it comes. Without it the
// bufio.Writer would collect them.
func (c *conn) ReadFrom(r io.Reader) (n int64, err error) {
	buffer := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buffer)
	for {
		read, readErr := r.Read(buffer[:])
		if read > 0 {
			written, err := c.Write(buffer[:read])
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		if readErr == io.EOF {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}

// expectHeader bounds the wait for the response header from now on. The writer
// calls it when the request is sent, perhaps after the response.
func (c *conn) expectHeader(within time.Duration) {
	if within <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answered {
		c.header = time.Now().Add(within)
		c.setReadDeadline()
	}
}

// gotHeader ends the bound of expectHeader.
func (c *conn) gotHeader() {
	c.limit = unlimited
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	if !c.header.IsZero() {
		c.header = time.Time{}
		c.setReadDeadline()
	}
}

// headerLate reports whether the bound of expectHeader has passed.
func (c *conn) headerLate() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.header.IsZero() && !time.Now().Before(c.header)
}

// setReadDeadline sets the earlier of the two deadlines. mu is held.
func (c *conn) setReadDeadline() {
	deadline := c.read
	if deadline.IsZero() || !c.header.IsZero() && c.header.Before(deadline) {
		deadline = c.header
	}
	_ = c.nc.SetReadDeadline(deadline)
}

// maxIdleKept is the most memory for a header section that an idle connection holds.
const maxIdleKept = 16 << 10

// rest prepares the connection for the pool: a deadline that passes while it is
// idle would make it look closed.
func (c *conn) rest() {
	c.reused = true
	if cap(c.kept) > maxIdleKept {
		c.kept = nil
	}
	if c.t.options.ReadTimeout > 0 {
		_ = c.nc.SetReadDeadline(time.Time{})
	}
}
