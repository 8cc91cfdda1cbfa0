// Package collapse lets requests for the same thing wait for the first of them
// (request collapsing), and remembers where waiting is of no use (hit-for-miss).
package collapse

import (
	"sync"
	"sync/atomic"
)

// Group holds the calls that are under way, by key. R is what a call results in.
type Group[R any] struct {
	// Ended, if set, is called with the number of requests that a call was for.
	Ended func(requests int)

	mu    sync.Mutex
	calls map[string]*Call[R]
}

// Call is one request to the origin that others may wait for.
type Call[R any] struct {
	key      string
	requests atomic.Int32
	once     sync.Once
	ready    chan struct{}
	result   R
}

// Join returns the call of the key. If leader is set there was none: the caller
// makes it, and ends it with End.
func (g *Group[R]) Join(key string) (c *Call[R], leader bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c = g.calls[key]; c != nil {
		c.requests.Add(1)
		return c, false
	}
	c = &Call[R]{key: key, ready: make(chan struct{})}
	c.requests.Store(1)
	if g.calls == nil {
		g.calls = map[string]*Call[R]{}
	}
	g.calls[key] = c
	return c, true
}

// End ends a call. Those who still wait get the zero result: each asks alone.
func (g *Group[R]) End(c *Call[R]) {
	if c == nil {
		return
	}
	var none R
	c.Publish(none)
	g.Retire(c)
}

// Retire lets the next request of the same key lead a new call, while this one is
// still under way.
func (g *Group[R]) Retire(c *Call[R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[c.key] != c {
		return
	}
	delete(g.calls, c.key)
	if g.Ended != nil {
		g.Ended(int(c.requests.Load()))
	}
}

// Stats returns the number of calls that are under way, and of the requests that
// have joined them beside their leaders.
func (g *Group[R]) Stats() (calls, followers int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		followers += int(c.requests.Load()) - 1
	}
	return len(g.calls), followers
}

// Publish gives those who wait, and those who join later, the result. The first
// result counts. A nil call has nobody who waits.
func (c *Call[R]) Publish(result R) {
	if c == nil {
		return
	}
	c.once.Do(func() {
		c.result = result
		close(c.ready)
	})
}

// Ready is closed when the result is known.
func (c *Call[R]) Ready() <-chan struct{} { return c.ready }

// Result returns the result. It may be called after Ready is closed.
func (c *Call[R]) Result() R { return c.result }
