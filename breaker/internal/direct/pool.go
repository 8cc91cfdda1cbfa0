package direct

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/benbjohnson/clock"
)

// sweepInterval is how often idle connections are looked at, so that those which
// the server closed do not stay half open until their timeout.
const sweepInterval = 10 * time.Second

// pool has the idle connections of a transport and counts all of them.
type pool struct {
	maxIdle, maxIdlePerHost, maxPerHost int
	timeout                             time.Duration
	clock                               clock.Clock

	mu      sync.Mutex
	hosts   map[string]*host
	idle    int  // of all hosts
	closing bool // what becomes idle is closed
	sweeper *clock.Timer
}

// host has the connections of one address. It exists while there are any. All of
// it is guarded by the pool.
type host struct {
	idle    []*conn // the one used last is at the end
	open    int     // idle, in use, or being dialed
	waiting []chan *conn
}

func newPool(o Options, c clock.Clock) *pool {
	return &pool{
		maxIdle: o.MaxIdle, maxIdlePerHost: o.MaxIdlePerHost, maxPerHost: o.MaxPerHost,
		timeout: o.IdleTimeout, clock: c, hosts: map[string]*host{},
	}
}

// take returns an idle connection, or none where the caller is to dial, which is
// counted then. It waits where the host has as many connections as it may. With
// dial it prefers a new connection.
func (p *pool) take(ctx context.Context, key string, dial bool) (*conn, *host, error) {
	for {
		c, h, wait := p.tryTake(key, dial)
		if wait != nil {
			var err error
			if c, err = p.wait(ctx, h, wait); err != nil {
				return nil, nil, err
			}
		}
		if c == nil || !p.expired(c, p.clock.Now()) && c.usable() {
			return c, h, nil
		}
		c.close()
	}
}

// tryTake returns an idle connection, or none to dial one, or a channel to wait
// on for either.
func (p *pool) tryTake(key string, dial bool) (*conn, *host, chan *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = false
	h := p.hosts[key]
	if h == nil {
		h = new(host)
		p.hosts[key] = h
		p.schedule()
	}
	free := p.maxPerHost <= 0 || h.open < p.maxPerHost
	if last := len(h.idle) - 1; last >= 0 && !(dial && free) {
		c := h.idle[last]
		h.idle[last] = nil
		h.idle = h.idle[:last]
		p.idle--
		return c, h, nil
	}
	if free {
		h.open++
		return nil, h, nil
	}
	wait := make(chan *conn, 1)
	h.waiting = append(h.waiting, wait)
	return nil, h, wait
}

// wait waits for a connection, or for none to dial one.
func (p *pool) wait(ctx context.Context, h *host, wait chan *conn) (*conn, error) {
	select {
	case c := <-wait:
		return c, nil
	case <-ctx.Done():
	}
	if !p.forget(h, wait) {
		// It was given one meanwhile.
		if c := <-wait; c != nil {
			p.put(c)
		} else {
			p.leave(h)
		}
	}
	return nil, context.Cause(ctx)
}

// forget removes a waiter, and reports whether it still waited.
func (p *pool) forget(h *host, wait chan *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range h.waiting {
		if w == wait {
			h.waiting = append(h.waiting[:i], h.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// serve gives the first waiter a connection, or with nil the right to dial one.
// It returns false if none waits. mu is held.
func (h *host) serve(c *conn) bool {
	if len(h.waiting) == 0 {
		return false
	}
	h.waiting[0] <- c
	h.waiting = h.waiting[1:]
	return true
}

// put makes a connection idle, or closes it where there are enough.
func (p *pool) put(c *conn) {
	if drop := p.tryPut(c); drop != nil {
		drop.close()
	}
}

// tryPut makes a connection idle. It returns the one to close in turn.
func (p *pool) tryPut(c *conn) *conn {
	now := p.clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.idleSince = now
	if c.host.serve(c) {
		return nil
	}
	if p.closing || c.raw == nil || len(c.host.idle) >= p.maxIdlePerHost {
		return c
	}
	c.host.idle = append(c.host.idle, c)
	p.idle++
	if p.maxIdle > 0 && p.idle > p.maxIdle {
		return p.removeOldest()
	}
	return nil
}

// removeOldest removes the connection that has been idle for the longest time. mu
// is held.
func (p *pool) removeOldest() *conn {
	var oldest *host
	for _, h := range p.hosts {
		if len(h.idle) > 0 && (oldest == nil || h.idle[0].idleSince.Before(oldest.idle[0].idleSince)) {
			oldest = h
		}
	}
	return p.remove(oldest, 0)
}

// remove takes a connection out of those that are idle. mu is held.
func (p *pool) remove(h *host, i int) *conn {
	c := h.idle[i]
	copy(h.idle[i:], h.idle[i+1:])
	h.idle[len(h.idle)-1] = nil
	h.idle = h.idle[:len(h.idle)-1]
	p.idle--
	return c
}

// leave gives up the place of a connection that was closed, or was not dialed.
func (p *pool) leave(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !h.serve(nil) {
		h.open--
	}
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	p.closing = true
	var idle []*conn
	for _, h := range p.hosts {
		idle = append(idle, h.idle...)
		h.idle = nil
	}
	p.idle = 0
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// schedule has the idle connections swept as long as there are any hosts. mu is
// held.
func (p *pool) schedule() {
	if p.sweeper != nil {
		return
	}
	interval := sweepInterval
	if p.timeout > 0 {
		interval = min(interval, p.timeout)
	}
	p.sweeper = p.clock.AfterFunc(interval, p.sweep)
}

// sweep closes what has been idle for too long or was closed by the server, and
// forgets hosts without connections.
func (p *pool) sweep() {
	p.mu.Lock()
	keys := make([]string, 0, len(p.hosts))
	for key := range p.hosts {
		keys = append(keys, key)
	}
	p.mu.Unlock()
	for _, key := range keys {
		for _, c := range p.sweepHost(key) {
			c.close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeper = nil
	for _, key := range keys {
		if h := p.hosts[key]; h != nil && h.open == 0 && len(h.waiting) == 0 {
			delete(p.hosts, key)
		}
	}
	if len(p.hosts) > 0 {
		p.schedule()
	}
}

// sweepHost returns the idle connections of a host that are to be closed.
func (p *pool) sweepHost(key string) (dead []*conn) {
	now := p.clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	if h == nil {
		return nil
	}
	for i, v := range slices.Backward(h.idle) {
		if p.expired(v, now) || !v.usable() {
			dead = append(dead, p.remove(h, i))
		}
	}
	return dead
}

func (p *pool) expired(c *conn, now time.Time) bool {
	return p.timeout > 0 && now.Sub(c.idleSince) >= p.timeout
}
