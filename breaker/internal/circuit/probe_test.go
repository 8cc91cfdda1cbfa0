package circuit

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// halfOpen returns a breaker that has just become half-open.
func halfOpen(t *testing.T, s Settings) (*Breaker, *mock) {
	t.Helper()
	s.Consecutive, s.OpenFor = 1, time.Second
	b, c := newTest(t, s)
	run(b, 1, Failure)
	c.Add(time.Second)
	expect(t, b, HalfOpen)
	return b, c
}

func mustAllow(t *testing.T, b *Breaker) Permit {
	t.Helper()
	p, _, ok := b.Allow()
	if !ok {
		t.Fatal("not admitted")
	}
	return p
}

// The time of probes counts from the first of them, not from when the state
// began: a backend without requests for an hour has not failed.
func TestProbeTimeBeginsWithTheProbe(t *testing.T) {
	b, c := halfOpen(t, Settings{Probes: 1, ProbeMax: 30 * time.Second})
	c.Add(time.Hour)
	p := mustAllow(t, b)
	if _, _, ok := b.Allow(); ok {
		t.Error("admitted beyond the probes")
	}
	expect(t, b, HalfOpen)
	b.Done(p, Result{Outcome: Ignored})
	c.Add(time.Hour)
	p = mustAllow(t, b)
	b.Allow()
	expect(t, b, HalfOpen)
	b.Done(p, Result{Outcome: Success})
	expect(t, b, Closed)
}

// A probe that waits for its client's upload does not count against the
// backend, and does not keep the place for ever.
func TestUploadingProbe(t *testing.T) {
	b, c := halfOpen(t, Settings{Probes: 1, ProbeMax: 30 * time.Second})
	slow := mustAllow(t, b)
	b.Uploading(slow, true)
	c.Add(31 * time.Second)
	b.Allow()
	expect(t, b, HalfOpen)
	p := mustAllow(t, b)
	b.Uploading(slow, false) // late: it must not count for the new probe
	b.Done(slow, Result{Outcome: Failure})
	expect(t, b, HalfOpen)
	b.Uploading(p, true)
	b.Uploading(p, false)
	c.Add(31 * time.Second)
	b.Allow()
	expect(t, b, Open)
}

// Where every request is refused by the backend with a 4xx, probes cannot
// succeed; it closes after a while all the same.
func TestNeutralProbes(t *testing.T) {
	b, c := halfOpen(t, Settings{Probes: 2, ProbeMax: 30 * time.Second})
	for range 29 {
		run(b, 5, Neutral)
		expect(t, b, HalfOpen)
		c.Add(time.Second)
	}
	c.Add(time.Second)
	run(b, 2, Neutral)
	expect(t, b, Closed)
}

func TestRetryAfter(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 2, OpenFor: time.Second, Probes: 1})
	b.Done(mustAllow(t, b), Result{Outcome: Failure, RetryAfter: time.Minute})
	expect(t, b, Closed) // one failure is not enough, whatever it asks for
	c.Add(10 * time.Second)
	b.Done(mustAllow(t, b), Result{Outcome: Failure})
	if got := b.OpenFor(); got != 50*time.Second {
		t.Errorf("open for %v", got)
	}
	c.Add(50 * time.Second)
	run(b, 1, Failure)
	if got := b.OpenFor(); got != 2*time.Second {
		t.Errorf("the next time open for %v", got)
	}
}

func TestHint(t *testing.T) {
	s := Settings{Window: 10 * time.Second, Ratio: .5, MinRequests: 20}
	first, _ := newTest(t, s)
	first.Hint(time.Minute)
	expect(t, first, Closed) // a hint alone never opens a circuit
	run(first, 9, Failure)
	expect(t, first, Closed)
	run(first, 1, Failure)
	expect(t, first, Open)

	b, c := newTest(t, s)
	b.Hint(time.Minute)
	b.Hint(time.Second) // does not shorten it
	c.Add(time.Minute)
	run(b, 19, Failure)
	expect(t, b, Closed)
	run(b, 1, Failure)
	expect(t, b, Open)
}

func TestSnapshot(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 3, OpenFor: time.Second, Probes: 1, SlowRatio: 1, SlowOver: time.Second, MinRequests: 100})
	run(b, 2, Failure)
	b.Done(mustAllow(t, b), Result{Latency: 2 * time.Second})
	if s := b.Snapshot(); s.Total != 3 || s.Failures != 2 || s.Slow != 1 || s.Consecutive != 0 {
		t.Errorf("%+v", s)
	}
	run(b, 3, Failure)
	c.Add(400 * time.Millisecond)
	if s := b.Snapshot(); s.State != Open || s.OpenFor != 600*time.Millisecond || s.Open != 400*time.Millisecond {
		t.Errorf("%+v", s)
	}
	c.Add(time.Hour)
	if s := b.Snapshot(); s.State != HalfOpen || s.OpenFor != 0 || s.Open != time.Second {
		t.Errorf("%+v", s)
	}
	b.Force(Open, time.Minute)
	if s := b.Snapshot(); s.State != Open || !s.Forced || s.ForcedFor != time.Minute {
		t.Errorf("%+v", s)
	}
}

// What the log says of an opening.
func TestChangeHasTheLastFailure(t *testing.T) {
	changes := make(chan Change, 4)
	cause := errors.New("connection refused")
	b := New(Settings{Consecutive: 2}, clock.NewMock(), func(c Change) { changes <- c })
	defer b.Close()
	run(b, 1, Failure)
	b.Done(mustAllow(t, b), Result{Outcome: Failure, Status: 502, Err: cause})
	if c := <-changes; c.Status != 502 || !errors.Is(c.Err, cause) || c.Rule != "consecutive" {
		t.Errorf("%+v", c)
	}
}

// Changed settings apply to the live breaker, and keep what was counted.
func TestConfigure(t *testing.T) {
	b, _ := newTest(t, Settings{Consecutive: 10})
	run(b, 4, Failure)
	b.Configure(Settings{Consecutive: 5})
	run(b, 1, Failure)
	expect(t, b, Open)
}

// Any sequence of calls, against what must hold whatever happens.
func TestInvariants(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := Settings{
		Window: time.Second, Ratio: .5, MinRequests: 4, Consecutive: 3, SlowRatio: .7, SlowOver: time.Second,
		OpenFor: time.Second, OpenMax: 8 * time.Second, Jitter: .2, Probes: 3, ProbeMax: 2 * time.Second,
	}
	b, c := newTest(t, s)
	var held []Permit
	probing := map[uint64]int{} // probes under way by generation
	for step := range 20_000 {  // the mock clock takes a millisecond for each of its steps
		switch rng.IntN(8) {
		case 0:
			c.Add(time.Duration(rng.Int64N(int64(400 * time.Millisecond))))
		case 1, 2, 3:
			before := b.State()
			ready := b.Ready()
			p, wait, ok := b.Allow()
			switch {
			case ok && before == Open:
				t.Fatalf("step %d: admitted when open", step)
			case ok != ready && b.State() == before:
				t.Fatalf("step %d: ready %v, admitted %v", step, ready, ok)
			case !ok && before == Open && wait <= 0 && b.State() == Open:
				t.Fatalf("step %d: refused for %v", step, wait)
			case !ok && before == Closed:
				t.Fatalf("step %d: refused when closed", step)
			case ok && p.Probe() != (before == HalfOpen):
				t.Fatalf("step %d: probe %v in state %v", step, p.Probe(), before)
			}
			if ok {
				held = append(held, p)
				if p.Probe() {
					probing[p.generation]++
					if probing[p.generation] > s.Probes {
						t.Fatalf("step %d: %d probes at once", step, probing[p.generation])
					}
				}
			}
		default:
			if len(held) == 0 {
				continue
			}
			i := rng.IntN(len(held))
			p := held[i]
			held = append(held[:i], held[i+1:]...)
			if p.Probe() {
				probing[p.generation]--
			}
			before, late := b.word.Load(), word(b.word.Load()).generation() != p.generation
			b.Done(p, Result{Outcome: Outcome(rng.IntN(4)), Latency: time.Duration(rng.Int64N(int64(2 * time.Second)))})
			if late && b.word.Load() != before {
				t.Fatalf("step %d: a late result changed %x to %x", step, before, b.word.Load())
			}
		}
	}
}

// Breakers that are closed while their timer fires.
func TestCloseRace(t *testing.T) {
	for range 200 {
		b := New(Settings{Consecutive: 1, OpenFor: time.Microsecond, OpenMax: time.Microsecond, Probes: 1}, nil, func(Change) {})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					if p, _, ok := b.Allow(); ok {
						b.Done(p, Result{Outcome: Failure})
					}
				}
			})
		}
		wg.Go(b.Close)
		wg.Wait()
		if s := b.State(); s != Closed {
			t.Fatalf("%v after it was closed", s)
		}
	}
}

// What the log says of probes that got no answer is not an older failure.
func TestUnansweredProbesAreTheLastFailure(t *testing.T) {
	for name, left := range map[string]bool{"the client waits": false, "the client left": true} {
		changes, c := make(chan Change, 8), clock.NewMock()
		b := New(Settings{Consecutive: 1, OpenFor: time.Second, Probes: 1, ProbeMax: 2 * time.Second}, c, func(c Change) { changes <- c })
		defer b.Close()
		b.Done(mustAllow(t, b), Result{Outcome: Failure, Status: 500})
		<-changes
		c.Add(time.Second)
		<-changes // half-open
		p := mustAllow(t, b)
		c.Add(3 * time.Second)
		if left {
			b.Done(p, Result{Outcome: Ignored, Unanswered: 3 * time.Second})
		} else {
			b.Allow()
		}
		if got := <-changes; got.To != Open || !errors.Is(got.Err, errUnanswered) || got.Status != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
