package framing

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// checks is how often a connection is looked at before it counts as held.
const checks = 4

// held ends HTTP/1 connections on which Go's server waits without a bound in time. It
// answers an `Expect` that it does not know with 417 itself, and then reads the body
// before it closes, with no deadline and without calling a handler.
//
// The server bounds the time between two requests and that of a header. So a connection
// on which no handler has run for longer than both is held.
type held struct {
	tick  time.Duration
	mu    sync.Mutex
	conns map[net.Conn]*connection
}

// newHeld returns nil where the server has no bounds.
func newHeld(server *http.Server) *held {
	header, idle := server.ReadHeaderTimeout, server.IdleTimeout
	if header == 0 {
		header = server.ReadTimeout
	}
	if idle == 0 {
		idle = server.ReadTimeout
	}
	if header <= 0 || idle <= 0 {
		return nil
	}
	// A TLS handshake may take as long as a header.
	return &held{tick: (idle + 2*header) / (checks - 1), conns: map[net.Conn]*connection{}}
}

// connection is one that may be held.
type connection struct {
	conn   net.Conn
	framed atomic.Bool  // by HTTP/2, which has bounds of its own
	turns  atomic.Int64 // odd while a handler runs

	mu    sync.Mutex
	timer *time.Timer // nil when it was closed
	seen  int64       // turns when it was looked at last
	quiet int         // how often it has not changed since
}

// add watches a connection until it is closed. It is nil where held is.
func (h *held) add(conn net.Conn) *connection {
	c := &connection{conn: conn}
	if h == nil {
		return c
	}
	h.mu.Lock()
	h.conns[conn] = c
	h.mu.Unlock()
	c.mu.Lock()
	c.timer = time.AfterFunc(h.tick, func() { c.check(h.tick) })
	c.mu.Unlock()
	return c
}

// connState is the hook of the server.
func (h *held) connState(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	h.mu.Lock()
	c := h.conns[conn]
	delete(h.conns, conn)
	h.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// check ends the connection if it is held.
func (c *connection) check(tick time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil || c.framed.Load() {
		return
	}
	turns := c.turns.Load()
	if turns != c.seen || turns&1 == 1 {
		c.seen, c.quiet = turns, 0
	} else if c.quiet++; c.quiet >= checks {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
	c.timer.Reset(tick)
}

// turn notes that a handler begins, or has ended.
func (c *connection) turn(r *http.Request) {
	switch {
	case c == nil:
	case r.ProtoMajor == 1:
		c.turns.Add(1)
	case !c.framed.Load():
		c.framed.Store(true)
	}
}
