// Package circuit decides whether a backend is asked at all: a circuit breaker
// with a rolling window, bounded probes and growing open time.
//
// The state machine is mercari/go-circuitbreaker's. It is used for the three
// states, their changes and the timer alone; what counts as enough failures,
// who may probe, and which results still matter is decided here, because the
// library counts in fixed windows, admits everybody when half-open and takes
// late results for new ones.
package circuit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	circuitbreaker "github.com/mercari/go-circuitbreaker"
)

// State is a state of a breaker.
type State int32

// The states. Half-open lets a few probes through.
const (
	Closed State = iota
	HalfOpen
	Open
)

// String returns the name that operators see.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	default:
		return "closed"
	}
}

// Outcome is what a request says about the backend.
type Outcome int

const (
	// Success is an answer of a working backend.
	Success Outcome = iota
	// Failure is the backend's fault.
	Failure
	// Neutral is an answer that counts as a success in the closed state, but
	// does not prove recovery: a 4xx needs no working backend behind the server.
	Neutral
	// Ignored is the client's doing and says nothing.
	Ignored
)

// Settings are the rules of a breaker. Zero values turn a rule off.
type Settings struct {
	// Window is how long results count.
	Window time.Duration
	// Ratio of failures, above 0 to 1, that opens once there are MinRequests
	// results in the window.
	Ratio       float64
	MinRequests int
	// Consecutive failures that open.
	Consecutive int
	// SlowRatio of answers slower than SlowOver that opens once there are
	// MinRequests results in the window.
	SlowRatio float64
	SlowOver  time.Duration
	// OpenFor is the first open time; it doubles with each failed probe up to
	// OpenMax. Jitter, 0 to 1, lengthens it at random by up to that share.
	OpenFor, OpenMax time.Duration
	Jitter           float64
	// Probes is how many requests the half-open state lets through at once, and
	// how many must succeed to close.
	Probes int
	// ProbeMax is how long the half-open state may last without a result.
	ProbeMax time.Duration
}

// Change is a change of state, for logs, metrics and events.
type Change struct {
	From, To State
	// Rule is what opened: ratio, consecutive, slow, probe, or forced.
	Rule string
	// Total, Failures and Slow are the results in the window at that moment.
	Total, Failures, Slow int
	// OpenFor is how long it stays open.
	OpenFor time.Duration
}

// Permit is what an admitted request holds until Done.
type Permit struct {
	generation uint64
	probe      bool
}

// Breaker is a circuit breaker. Its methods may be called by many goroutines.
type Breaker struct {
	clock    clock.Clock
	machine  *circuitbreaker.CircuitBreaker
	settings atomic.Pointer[Settings]
	notify   func(Change)

	state      atomic.Int32
	generation atomic.Uint64
	openUntil  atomic.Int64 // Unix nanoseconds
	halfSince  atomic.Int64
	probes     atomic.Int64 // under way
	recovered  atomic.Int64 // successful probes of this half-open state

	forced      atomic.Int32 // 0 or the forced State + 1
	forcedUntil atomic.Int64

	mu          sync.Mutex
	window      window // guarded by mu
	consecutive int    // guarded by mu
	pending     Change // guarded by mu: why the next change comes about
	backoff     openTime
	closed      bool // guarded by mu
}

// New returns a closed breaker. notify is called after each change of state,
// without a lock held; it may be nil. Close must be called at the end.
func New(s Settings, c clock.Clock, notify func(Change)) *Breaker {
	if c == nil {
		c = clock.New()
	}
	b := &Breaker{clock: c, notify: notify}
	b.settings.Store(&s)
	b.backoff.b = b
	b.machine = circuitbreaker.New(
		circuitbreaker.WithClock(c),
		circuitbreaker.WithCounterResetInterval(-1), // else each breaker keeps a goroutine for ever
		circuitbreaker.WithHalfOpenMaxSuccesses(1),  // Success is called once enough probes succeeded
		circuitbreaker.WithOpenTimeoutBackOff(&b.backoff),
		circuitbreaker.WithFailOnContextCancel(true),
		circuitbreaker.WithFailOnContextDeadline(true),
		circuitbreaker.WithTripFunc(func(*circuitbreaker.Counters) bool { return true }), // Fail is called once the rules decided
		circuitbreaker.WithOnStateChangeHookFn(b.changed),
	)
	return b
}

// Configure applies other settings to the live breaker. What was counted stays.
func (b *Breaker) Configure(s Settings) {
	b.settings.Store(&s)
}

// State returns the state, a forced one if there is one.
func (b *Breaker) State() State {
	if s, ok := b.Forced(); ok {
		return s
	}
	return State(b.state.Load())
}

// Allow asks for admission. A refusal tells how long it will last; zero means
// that probes are under way.
func (b *Breaker) Allow() (p Permit, wait time.Duration, ok bool) {
	if s, forced := b.Forced(); forced {
		if s == Open {
			return Permit{}, max(time.Duration(b.forcedUntil.Load()-b.clock.Now().UnixNano()), 0), false
		}
		return Permit{generation: b.generation.Load()}, 0, true
	}
	switch State(b.state.Load()) {
	case Open:
		return Permit{}, b.OpenFor(), false
	case HalfOpen:
		return b.allowProbe()
	default:
		return Permit{generation: b.generation.Load()}, 0, true
	}
}

// OpenFor returns how long the breaker will still refuse everything.
func (b *Breaker) OpenFor() time.Duration {
	return max(time.Duration(b.openUntil.Load()-b.clock.Now().UnixNano()), 0)
}

func (b *Breaker) allowProbe() (Permit, time.Duration, bool) {
	s := b.settings.Load()
	generation := b.generation.Load()
	for {
		n := b.probes.Load()
		if n >= int64(max(s.Probes, 1)) {
			break
		}
		if !b.probes.CompareAndSwap(n, n+1) {
			continue
		}
		if b.generation.Load() != generation {
			// The state changed meanwhile; the change has reset the counter.
			return Permit{}, 0, false
		}
		return Permit{generation: generation, probe: true}, 0, true
	}
	since := time.Duration(b.clock.Now().UnixNano() - b.halfSince.Load())
	if s.ProbeMax > 0 && since > s.ProbeMax {
		// Probes that never end must not keep the state for ever.
		b.fail(generation, "probe")
	}
	return Permit{}, 0, false
}

// Done tells the outcome of an admitted request; latency is the time to the
// response header. A permit of an earlier state is dropped: the request was
// sent to a backend that was judged since.
func (b *Breaker) Done(p Permit, outcome Outcome, latency time.Duration) {
	if p.generation != b.generation.Load() {
		return
	}
	if p.probe {
		b.doneProbe(p, outcome, latency)
		return
	}
	if outcome == Ignored || State(b.state.Load()) != Closed {
		return
	}
	s := b.settings.Load()
	b.mu.Lock()
	b.window.resize(s.Window)
	slow := s.SlowOver > 0 && latency > s.SlowOver
	b.window.add(b.clock.Now().UnixNano(), outcome == Failure, slow)
	if outcome == Failure {
		b.consecutive++
	} else {
		b.consecutive = 0
	}
	rule := b.tripped(s)
	b.mu.Unlock()
	if rule != "" {
		b.fail(p.generation, rule)
	}
}

// tripped returns the rule that asks to open, or "".
func (b *Breaker) tripped(s *Settings) string {
	if s.Consecutive > 0 && b.consecutive >= s.Consecutive {
		return "consecutive"
	}
	total, failures, slow := b.window.sum(b.clock.Now().UnixNano())
	if total < max(s.MinRequests, 1) {
		return ""
	}
	if s.Ratio > 0 && float64(failures) >= s.Ratio*float64(total) {
		return "ratio"
	}
	if s.SlowRatio > 0 && float64(slow) >= s.SlowRatio*float64(total) {
		return "slow"
	}
	return ""
}

func (b *Breaker) doneProbe(p Permit, outcome Outcome, latency time.Duration) {
	s := b.settings.Load()
	if outcome == Success && s.SlowRatio > 0 && s.SlowOver > 0 && latency > s.SlowOver {
		outcome = Failure // a backend that answers slowly has not recovered
	}
	switch outcome {
	case Failure:
		b.fail(p.generation, "probe")
	case Success:
		b.mu.Lock()
		if p.generation == b.generation.Load() && b.recovered.Add(1) >= int64(max(s.Probes, 1)) {
			b.machine.Success()
		} else if p.generation == b.generation.Load() {
			b.probes.Add(-1)
		}
		change := b.take()
		b.mu.Unlock()
		b.tell(change)
	default:
		b.mu.Lock()
		if p.generation == b.generation.Load() {
			b.probes.Add(-1)
		}
		b.mu.Unlock()
	}
}

// fail opens the breaker unless its state changed since the generation.
func (b *Breaker) fail(generation uint64, rule string) {
	b.mu.Lock()
	if b.generation.Load() != generation || b.closed {
		b.mu.Unlock()
		return
	}
	total, failures, slow := b.window.sum(b.clock.Now().UnixNano())
	b.pending = Change{Rule: rule, Total: total, Failures: failures, Slow: slow}
	b.machine.Fail()
	change := b.take()
	b.mu.Unlock()
	b.tell(change)
}

// changed is the library's hook. It runs under the library's lock, so it must
// not call back into it.
func (b *Breaker) changed(from, to circuitbreaker.State) {
	now := b.clock.Now().UnixNano()
	b.generation.Add(1)
	b.probes.Store(0)
	b.recovered.Store(0)
	switch to {
	case circuitbreaker.StateOpen:
		b.state.Store(int32(Open))
	case circuitbreaker.StateHalfOpen:
		b.halfSince.Store(now)
		b.state.Store(int32(HalfOpen))
		// The timer brought this about, with no call of ours on the stack that
		// could tell of it after the library's lock is released.
		go b.tell(&Change{From: Open, To: HalfOpen})
		return
	case circuitbreaker.StateClosed:
		// Called with b.mu held: a probe's success, or Close.
		b.window.reset()
		b.consecutive = 0
		b.backoff.closedAt = now
		b.state.Store(int32(Closed))
	}
	b.pending.From, b.pending.To = convert(from), convert(to)
	b.pending.OpenFor = time.Duration(b.openUntil.Load() - now)
}

func convert(s circuitbreaker.State) State {
	switch s {
	case circuitbreaker.StateOpen:
		return Open
	case circuitbreaker.StateHalfOpen:
		return HalfOpen
	default:
		return Closed
	}
}

// take returns the change that the last call brought about, or nil.
func (b *Breaker) take() *Change {
	if b.pending.From == b.pending.To {
		b.pending = Change{}
		return nil
	}
	c := b.pending
	b.pending = Change{}
	return &c
}

func (b *Breaker) tell(c *Change) {
	if c != nil && b.notify != nil {
		b.notify(*c)
	}
}

// Force holds the breaker open or closed for a time, whatever the results.
func (b *Breaker) Force(s State, d time.Duration) {
	b.forcedUntil.Store(b.clock.Now().Add(d).UnixNano())
	b.forced.Store(int32(s) + 1)
}

// Unforce gives the breaker back to its rules.
func (b *Breaker) Unforce() { b.forced.Store(0) }

// Forced returns the forced state, if there is one.
func (b *Breaker) Forced() (State, bool) {
	f := b.forced.Load()
	if f == 0 {
		return Closed, false
	}
	if b.clock.Now().UnixNano() >= b.forcedUntil.Load() {
		b.forced.CompareAndSwap(f, 0)
		return Closed, false
	}
	return State(f - 1), true
}

// Counts returns the results in the window.
func (b *Breaker) Counts() (total, failures, slow int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.window.sum(b.clock.Now().UnixNano())
}

// Close ends the timer of an open breaker.
func (b *Breaker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.machine.Reset()
	}
}

// Probe reports whether the permit is one of the few of the half-open state.
func (p Permit) Probe() bool { return p.probe }
