package circuit

import (
	"math/rand/v2"
	"time"
)

// Defaults of the open time.
const (
	defaultOpenFor = 30 * time.Second
	defaultOpenMax = 5 * time.Minute
)

// openTime grows: without a recovery in between, each open state lasts twice as
// long as the last.
type openTime struct {
	failures int
	last     time.Duration
	closedAt int64
}

// next returns how long the open state that begins now lasts.
func (o *openTime) next(s *Settings, now int64) time.Duration {
	first, most := s.OpenFor, s.OpenMax
	if first <= 0 {
		first = defaultOpenFor
	}
	if most <= 0 {
		most = max(defaultOpenMax, first)
	}
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
	return d
}
