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

// Call is one request to the origin that others may wait for. If it fails, one of them
// makes the next attempt, and the others go on waiting.
type Call[R any] struct {
	key      string
	requests atomic.Int32
	ready    chan struct{}
	result   R

	// turn holds a token while the call has no leader. The others are guarded by mu of
	// the group.
	turn      chan struct{}
	waiting   int // who may take it
	published bool
	attempts  atomic.Int32 // that failed
}

// Join returns the call of the key. If leader is set there was none: the caller
// makes it, and ends it with End or HandOver. Others wait for Ready or Turn, and call TakeTurn
// or Leave.
func (g *Group[R]) Join(key string) (c *Call[R], leader bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c = g.calls[key]; c != nil {
		c.requests.Add(1)
		c.waiting++
		return c, false
	}
	c = &Call[R]{key: key, ready: make(chan struct{}), turn: make(chan struct{}, 1)}
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
	g.Publish(c, none)
	g.Retire(c)
}

// HandOver is End for a leader that failed: the one who has waited longest leads from
// now on, unless something was published.
func (g *Group[R]) HandOver(c *Call[R]) {
	if c == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.published || c.waiting == 0 {
		g.retire(c)
		return
	}
	c.attempts.Add(1)
	if g.Ended != nil {
		g.Ended(1)
	}
	c.requests.Add(-1)
	c.turn <- struct{}{}
}

// TakeTurn makes a caller that received from Turn the leader.
func (g *Group[R]) TakeTurn(c *Call[R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.waiting--
}

// Leave is for a caller that joined a call and waits no longer.
func (g *Group[R]) Leave(c *Call[R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waiting--; c.waiting > 0 {
		return
	}
	select {
	case <-c.turn:
		g.retire(c) // nobody is left to lead
	default:
	}
}

// Retire lets the next request of the same key lead a new call, while this one is
// still under way.
func (g *Group[R]) Retire(c *Call[R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retire(c)
}

func (g *Group[R]) retire(c *Call[R]) {
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
func (g *Group[R]) Publish(c *Call[R], result R) {
	if c == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.published {
		return
	}
	c.result, c.published = result, true
	close(c.ready)
}

// Ready is closed when the result is known.
func (c *Call[R]) Ready() <-chan struct{} { return c.ready }

// Turn has a token for one of those who wait when the leader has failed.
func (c *Call[R]) Turn() <-chan struct{} { return c.turn }

// Failed reports whether an attempt has failed.
func (c *Call[R]) Failed() bool { return c.attempts.Load() > 0 }

// Result returns the result. It may be called after Ready is closed.
func (c *Call[R]) Result() R { return c.result }
