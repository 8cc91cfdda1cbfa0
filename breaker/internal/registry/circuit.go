package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
)

// source is the clock of circuits and exchanges.
var source clock.Clock = clock.New()

// SetClock replaces the clock of all circuits of the process. It is for tests,
// before they make the first circuit.
func SetClock(c clock.Clock) { source = c }

// Now returns the time by the clock of the circuits.
func Now() time.Time { return source.Now() }

// Since returns the time that has passed by the clock of the circuits.
func Since(t time.Time) time.Duration { return source.Since(t) }

// Circuit is a breaker with a key.
type Circuit struct {
	*circuit.Breaker
	Key string

	owner   atomic.Pointer[Member] // the newest member that uses it: its rules apply, and it logs changes
	limiter atomic.Pointer[inflight.Limiter]
	used    atomic.Int64                   // Unix nanoseconds; guarded by the group's mu, except for the single one
	opening atomic.Pointer[circuit.Change] // the last one
}

// adopt gives the circuit the rules of a member of a newer configuration.
func (c *Circuit) adopt(m *Member) {
	owner := c.owner.Load()
	if owner == m || owner != nil && owner.sequence > m.sequence {
		return
	}
	if c.owner.CompareAndSwap(owner, m) {
		c.Configure(m.settings)
		c.setLimiter(m)
	}
}

func (c *Circuit) setLimiter(m *Member) {
	if m.inflight.Max <= 0 {
		c.limiter.Store(nil)
		return
	}
	if old := c.limiter.Load(); old != nil && (*old).Configure(m.inflight) {
		return
	}
	fresh := inflight.New(m.inflight)
	c.limiter.Store(&fresh)
}

// Limiter returns the limiter of concurrent requests, or nil.
func (c *Circuit) Limiter() inflight.Limiter {
	if l := c.limiter.Load(); l != nil {
		return *l
	}
	return nil
}

// maxKey bounds how much of a key is stored, in bytes: clients choose it.
const maxKey = 128

// boundKey shortens long keys, so that different ones stay different.
func boundKey(key string) string {
	if len(key) <= maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return key[:maxKey-2*sha256.Size] + hex.EncodeToString(sum[:])
}
