// Package circuit is a circuit breaker with a rolling window, bounded probes and
// growing open time.
//
// The state machine is mercari/go-circuitbreaker's, used for the three states,
// their changes and the timer alone. What counts as enough failures, which
// requests may probe, and which results still matter is decided here: the library
// counts in fixed windows, admits every request when half-open and takes late
// results for new ones.
package circuit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	circuitbreaker "github.com/mercari/go-circuitbreaker"
)

// machine is the part of the library that is used.
type machine interface {
	// Fail opens, when closed or half-open.
	Fail()
	// Success closes, when half-open.
	Success()
	// Reset closes and ends the timer.
	Reset()
}

// Permit is what an admitted request holds until Done.
type Permit struct {
	generation uint64
	probe      bool
}

// Probe reports whether the permit is one of the few of the half-open state.
func (p Permit) Probe() bool { return p.probe }

// forced is a state that an operator ordered.
type forced struct {
	state State
	until int64
}

// Breaker is a circuit breaker. Its methods may be called by many goroutines.
type Breaker struct {
	clock    clock.Clock
	start    time.Time // times are counted from it, as the wall clock may be set
	machine  machine
	settings atomic.Pointer[Settings]
	notifier notifier

	word       atomic.Uint64 // see word
	openUntil  atomic.Int64
	probeSince atomic.Int64 // when the probes in progress began, or last brought a result
	halfSince  atomic.Int64 // when the first probe of this half-open state began, or 0
	hinted     atomic.Int64 // until when a hint of another gateway halves the minimum of requests
	forced     atomic.Pointer[forced]

	mu          sync.Mutex
	window      window // guarded by mu
	consecutive int    // failures in a row; guarded by mu
	recovered   int    // successful probes of this half-open state; guarded by mu
	uploads     int    // probes that wait for their client's upload; guarded by mu
	unanswered  int64  // how long canceled probes waited for an answer; guarded by mu
	notBefore   int64  // until when Retry-After asks for no requests; guarded by mu
	last        Result // the last failure; guarded by mu
	pending     Change // the reason of the next change; guarded by mu
	closed      bool   // guarded by mu
	backoff     openTime

	openedAt  atomic.Int64
	openTotal atomic.Int64 // nanoseconds in the open state before openedAt
}

// New returns a closed breaker. notify is called after each change of state, in
// a goroutine of its own and in the order of the changes; it may be nil. Close
// must be called at the end.
func New(s Settings, c clock.Clock, notify func(Change)) *Breaker {
	if c == nil {
		c = clock.New()
	}
	b := &Breaker{clock: c, start: c.Now(), notifier: notifier{listener: notify}}
	b.settings.Store(&s)
	b.window.resize(s.Window)
	b.backoff.b = b
	b.machine = circuitbreaker.New(
		circuitbreaker.WithClock(c),
		circuitbreaker.WithCounterResetInterval(-1), // otherwise each breaker keeps a goroutine
		circuitbreaker.WithHalfOpenMaxSuccesses(1),  // Success is called once enough probes succeeded
		circuitbreaker.WithOpenTimeoutBackOff(&b.backoff),
		circuitbreaker.WithFailOnContextCancel(true),
		circuitbreaker.WithFailOnContextDeadline(true),
		circuitbreaker.WithTripFunc(func(*circuitbreaker.Counters) bool { return true }), // Fail is called once the rules decided
		circuitbreaker.WithOnStateChangeHookFn(b.changed),
	)
	return b
}

// now is the time since the breaker was made, in nanoseconds.
func (b *Breaker) now() int64 { return int64(b.clock.Since(b.start)) }

// Configure applies other settings to the live breaker. Counts are kept, unless
// the window has another length.
func (b *Breaker) Configure(s Settings) { b.settings.Store(&s) }

// State returns the state, a forced one if there is one.
func (b *Breaker) State() State {
	if s, _, ok := b.Forced(); ok {
		return s
	}
	return word(b.word.Load()).state()
}

// Allow asks for admission. A refusal says how long it will last, or zero where
// that depends on probes in progress.
func (b *Breaker) Allow() (p Permit, wait time.Duration, ok bool) {
	w := word(b.word.Load())
	if f := b.forced.Load(); f != nil {
		if remaining := f.until - b.now(); remaining > 0 {
			if f.state == Open {
				return Permit{}, time.Duration(remaining), false
			}
			return Permit{generation: w.generation()}, 0, true
		}
		b.forced.CompareAndSwap(f, nil)
	}
	switch w.state() {
	case Open:
		return Permit{}, b.OpenFor(), false
	case HalfOpen:
		return b.allowProbe()
	default:
		return Permit{generation: w.generation()}, 0, true
	}
}

// Ready reports whether Allow would admit, without taking a probe's place.
func (b *Breaker) Ready() bool {
	if s, _, ok := b.Forced(); ok {
		return s != Open
	}
	w := word(b.word.Load())
	return w.state() == Closed || w.state() == HalfOpen && w.probes() < b.settings.Load().probes()
}

// Wait returns how long Allow will refuse everything, as far as is known.
func (b *Breaker) Wait() time.Duration {
	if s, remaining, ok := b.Forced(); ok {
		if s == Open {
			return remaining
		}
		return 0
	}
	if word(b.word.Load()).state() == Open {
		return b.OpenFor()
	}
	return 0
}

// OpenFor returns how long the breaker will still refuse everything.
func (b *Breaker) OpenFor() time.Duration {
	return max(time.Duration(b.openUntil.Load()-b.now()), 0)
}

// Done reports the result of an admitted request. That of an earlier state is
// dropped: it is about the backend as it was before.
func (b *Breaker) Done(p Permit, r Result) {
	if word(b.word.Load()).generation() != p.generation {
		return
	}
	if p.probe {
		b.doneProbe(p, r)
		return
	}
	if r.Outcome == Ignored {
		return
	}
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := word(b.word.Load()); w.generation() != p.generation || w.state() != Closed || b.closed {
		return
	}
	now := b.now()
	b.window.resize(s.Window)
	b.window.add(now, r.Outcome == Failure, s.slow(r.Latency))
	if r.Outcome == Failure {
		b.consecutive++
		b.failed(now, r)
	} else {
		b.consecutive = 0
	}
	if rule := b.tripped(s, now); rule != "" {
		b.open(rule, now)
	}
}

// failed records the last failure. b.mu is held.
func (b *Breaker) failed(now int64, r Result) {
	b.last = r
	if r.RetryAfter > 0 {
		b.notBefore = max(b.notBefore, now+int64(r.RetryAfter))
	}
}

// tripped returns the rule by which the breaker opens, or "". b.mu is held.
func (b *Breaker) tripped(s *Settings, now int64) string {
	if s.Consecutive > 0 && b.consecutive >= s.Consecutive {
		return "consecutive"
	}
	if s.Ratio <= 0 && s.SlowRatio <= 0 {
		return ""
	}
	c := b.window.sum(now)
	least := max(s.MinRequests, 1)
	if b.hinted.Load() > now {
		least = (least + 1) / 2
	}
	if c.total < least {
		return ""
	}
	if s.Ratio > 0 && float64(c.failures) >= s.Ratio*float64(c.total) {
		return "ratio"
	}
	if s.SlowRatio > 0 && float64(c.slow) >= s.SlowRatio*float64(c.total) {
		return "slow"
	}
	return ""
}

// open makes the machine open. b.mu is held.
func (b *Breaker) open(rule string, now int64) {
	c := b.window.sum(now)
	b.pending = Change{
		Rule: rule, Total: c.total, Failures: c.failures, Slow: c.slow,
		Status: b.last.Status, Err: b.last.Err,
	}
	b.machine.Fail()
	b.pending = Change{}
}

// changed is the library's hook. It runs under the library's lock, and must not
// call the library. b.mu is held, unless the timer made the breaker half-open.
func (b *Breaker) changed(_, to circuitbreaker.State) {
	now := b.now()
	switch to {
	case circuitbreaker.StateOpen:
		c := b.pending
		c.From, c.To, c.OpenFor = word(b.word.Load()).state(), Open, time.Duration(b.openUntil.Load()-now)
		b.uploads, b.recovered, b.unanswered = 0, 0, 0
		b.openedAt.Store(now)
		b.enter(Open)
		b.notifier.notify(c)
	case circuitbreaker.StateHalfOpen:
		if word(b.word.Load()).state() != Open {
			return // the timer fired after Close
		}
		b.openTotal.Add(now - b.openedAt.Load())
		b.probeSince.Store(0)
		b.halfSince.Store(0)
		b.enter(HalfOpen)
		b.notifier.notify(Change{From: Open, To: HalfOpen})
	case circuitbreaker.StateClosed:
		from := word(b.word.Load()).state()
		if from == Open { // Close
			b.openTotal.Add(now - b.openedAt.Load())
		}
		b.window.reset()
		b.consecutive, b.uploads, b.recovered, b.unanswered, b.notBefore = 0, 0, 0, 0, 0
		b.last = Result{}
		b.backoff.closedAt = now
		b.enter(Closed)
		if from != Closed && !b.closed {
			b.notifier.notify(Change{From: from, To: Closed})
		}
	}
}

// enter begins a state, and with it a generation of permits.
func (b *Breaker) enter(s State) {
	for {
		old := b.word.Load()
		if b.word.CompareAndSwap(old, uint64(word(old).next(s))) {
			return
		}
	}
}

// Force keeps the breaker open or closed for a time, whatever the results. They
// are still counted, and decide when that time is over.
func (b *Breaker) Force(s State, d time.Duration) {
	b.forced.Store(&forced{s, b.now() + int64(d)})
}

// Unforce ends a forced state.
func (b *Breaker) Unforce() { b.forced.Store(nil) }

// Forced returns the forced state and its remaining time, if there is one.
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

// Hint says that another gateway opened its circuit for so long. The minimum of
// requests is halved meanwhile; a hint alone never opens a circuit.
func (b *Breaker) Hint(d time.Duration) {
	until := b.now() + int64(d)
	for {
		old := b.hinted.Load()
		if until <= old || b.hinted.CompareAndSwap(old, until) {
			return
		}
	}
}

// Snapshot returns the state and the counts.
func (b *Breaker) Snapshot() Snapshot {
	s := Snapshot{State: b.State(), OpenFor: b.OpenFor()}
	if _, remaining, ok := b.Forced(); ok {
		s.Forced, s.ForcedFor = true, remaining
	}
	now := b.now()
	s.Hinted = b.hinted.Load() > now
	s.Open = time.Duration(b.openTotal.Load())
	if word(b.word.Load()).state() == Open {
		s.Open += time.Duration(max(now-b.openedAt.Load(), 0))
	} else {
		s.OpenFor = 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.window.sum(now)
	s.Total, s.Failures, s.Slow, s.Consecutive = c.total, c.failures, c.slow, b.consecutive
	return s
}

// Close ends the timer of an open breaker. The breaker stays closed.
func (b *Breaker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.machine.Reset()
	}
}
