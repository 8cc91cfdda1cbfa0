package circuit

import "time"

// forced is a state that somebody ordered.
type forced struct {
	state State
	until int64
}

// Force holds the breaker open or closed for a time, whatever the results. They
// are counted all the same, and decide when the time is over.
func (b *Breaker) Force(s State, d time.Duration) {
	b.forced.Store(&forced{s, b.now() + int64(d)})
}

// Unforce gives the breaker back to its rules.
func (b *Breaker) Unforce() { b.forced.Store(nil) }

// Forced returns the forced state and for how long, if there is one.
func (b *Breaker) Forced() (State, time.Duration, bool) {
	f := b.forced.Load()
	if f == nil {
		return Closed, 0, false
	}
	remaining := time.Duration(f.until - b.now())
	if remaining <= 0 {
		b.forced.CompareAndSwap(f, nil)
		return Closed, 0, false
	}
	return f.state, remaining, true
}
