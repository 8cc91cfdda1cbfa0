package circuit

import (
	"errors"
	"time"
)

// errUnanswered is why probes failed that got no answer for as long as they may take.
var errUnanswered = errors.New("no answer to a probe in time")

// uploadTimeout is how long a probe that waits for its client's upload may keep
// others from probing.
const uploadTimeout = time.Second

// allowProbe admits a request to the half-open state if a place is free.
func (b *Breaker) allowProbe() (Permit, time.Duration, bool) {
	s := b.settings.Load()
	for {
		old := b.word.Load()
		w := word(old)
		if w.state() != HalfOpen {
			return Permit{}, b.OpenFor(), false // it changed since
		}
		if w.probes() >= s.probes() {
			break
		}
		if !b.word.CompareAndSwap(old, old+1) {
			continue
		}
		now := max(b.now(), 1)
		b.probeSince.CompareAndSwap(0, now)
		b.halfSince.CompareAndSwap(0, now)
		return Permit{generation: w.generation(), probe: true}, 0, true
	}
	if s.ProbeMax > 0 && b.probing() > min(s.ProbeMax, uploadTimeout) {
		b.expire(s)
	}
	return Permit{}, 0, false
}

// probing returns how long the probes in progress have brought no result.
func (b *Breaker) probing() time.Duration {
	now := max(b.now(), 1)
	b.probeSince.CompareAndSwap(0, now)
	return time.Duration(now - b.probeSince.Load())
}

// expire ends probes that took too long, so that they do not keep the state for
// ever. If they wait for a client's upload, the backend is not to blame, and other
// requests may probe in their place.
func (b *Breaker) expire(s *Settings) {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := b.probing()
	if w := word(b.word.Load()); w.state() != HalfOpen || w.probes() < s.probes() || b.closed ||
		since <= s.ProbeMax && (b.uploads == 0 || since <= uploadTimeout) {
		return // it changed since, or there is still time
	}
	if b.uploads > 0 {
		b.uploads = 0
		b.probeSince.Store(0)
		b.enter(HalfOpen)
		return
	}
	b.last = Result{Outcome: Failure, Err: errUnanswered}
	b.open("probe", b.now())
}

// Uploading notes that a probe starts, or stops, waiting for its client's upload.
func (b *Breaker) Uploading(p Permit, waits bool) {
	if !p.probe {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case word(b.word.Load()).generation() != p.generation:
	case waits:
		b.uploads++
	default:
		b.uploads--
	}
}

func (b *Breaker) doneProbe(p Permit, r Result) {
	s := b.settings.Load()
	if r.Outcome == Success && s.SlowRatio > 0 && s.slow(r.Latency) {
		r.Outcome = Failure // a slow backend has not recovered
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := word(b.word.Load()); w.generation() != p.generation || b.closed {
		return
	}
	now := b.now()
	if r.Outcome == Neutral && s.ProbeMax > 0 && now-b.halfSince.Load() >= int64(s.ProbeMax) {
		// Where the backend answers every request with a 4xx, nothing better will
		// come.
		r.Outcome = Success
	}
	if r.Outcome == Ignored && r.Status == 0 {
		// One client that leaves proves nothing. That no answer came for as long as
		// a probe may take does.
		b.unanswered += int64(r.Unanswered)
		if s.ProbeMax > 0 && b.unanswered >= int64(s.ProbeMax) {
			b.last = Result{Outcome: Failure, Err: errUnanswered}
			b.open("probe", now)
			return
		}
	} else {
		b.unanswered = 0
	}
	switch r.Outcome {
	case Failure:
		b.failed(now, r)
		b.open("probe", now)
		return
	case Success:
		b.recovered++
		if b.recovered >= s.probes() {
			b.machine.Success()
			return
		}
	case Neutral, Ignored:
	}
	// The time of the probes still in progress counts from here; without any, from
	// the next one.
	b.probeSince.Store(0)
	b.word.Add(^uint64(0)) // frees the place; the generation cannot change while b.mu is held
	if word(b.word.Load()).probes() > 0 {
		b.probeSince.CompareAndSwap(0, max(now, 1))
	}
}
