package circuit

import (
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v3"
)

// Defaults of the open time.
const (
	defaultOpenFor = 30 * time.Second
	defaultOpenMax = 5 * time.Minute
)

// openTime is the library's backoff: without a recovery in between, each open
// state lasts twice as long. The library calls it with its lock and the breaker's
// held.
type openTime struct {
	b        *Breaker
	failures int
	last     time.Duration
	closedAt int64
}

// NextBackOff returns how long the open state that begins now lasts. It never
// returns backoff.Stop, which would leave the breaker open for ever.
func (o *openTime) NextBackOff() time.Duration {
	s := o.b.settings.Load()
	first, most := s.OpenFor, s.OpenMax
	if first <= 0 {
		first = defaultOpenFor
	}
	if most <= 0 {
		most = max(defaultOpenMax, first)
	}
	now := o.b.now()
	// A recovery shorter than the last open time does not count.
	if o.closedAt != 0 && time.Duration(now-o.closedAt) >= o.last {
		o.failures = 0
	}
	o.closedAt = 0
	d := first
	for range min(o.failures, 40) {
		if d >= most/2 {
			d = most
			break
		}
		d *= 2
	}
	d = min(d, most)
	o.failures++
	o.last = d
	if spread := time.Duration(s.Jitter * float64(d)); spread > 0 {
		d += rand.N(spread)
	}
	d = max(d, time.Duration(o.b.notBefore-now)) // jitter does not lengthen Retry-After
	o.b.openUntil.Store(now + int64(d))
	return d
}

// Reset is called when the breaker closes. Whether it recovered is known only at
// the next opening.
func (*openTime) Reset() {}

// Interface guard
var _ backoff.BackOff = (*openTime)(nil)
