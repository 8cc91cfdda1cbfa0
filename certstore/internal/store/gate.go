package store

import (
	"math/rand/v2"
	"sync"
	"time"
)

// probePause is the time between two operations that are let through while Redis
// does not answer.
const probePause = 500 * time.Millisecond

// gate makes operations fail at once while Redis does not answer, except for one
// now and then. certmagic reads the storage while it locks the certificates that
// handshakes need: a long wait there would stop the handshakes.
type gate struct {
	mu     sync.Mutex
	down   bool
	reason error
	next   time.Time // when the next operation is let through
}

// enter reports whether an operation may be sent, and otherwise why not.
func (g *gate) enter(now time.Time) (reason error, open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.down {
		return nil, true
	}
	if now.Before(g.next) {
		return g.reason, false
	}
	g.next = now.Add(probePause)
	return nil, true
}

// fail notes that an operation got no answer, and reports whether the one before had one.
func (g *gate) fail(now time.Time, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := !g.down
	g.down, g.reason, g.next = true, err, now.Add(jitter(probePause, probePause))
	return changed
}

// leave notes that the caller gave up, so that another may be let through.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Time{}
}

// succeed notes an answer, and reports whether the operation before had none.
func (g *gate) succeed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := g.down
	g.down, g.reason = false, nil
	return changed
}

// isDown reports whether the latest operation got no answer, and why.
func (g *gate) isDown() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down, g.reason
}

// jitter returns a time from least to least plus spread, so that gateways do not
// act in step.
func jitter(least, spread time.Duration) time.Duration {
	return least + rand.N(spread+1)
}
