package circuit

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// mock is a clock whose Add returns when the timer of its breaker, if it was
// due, has done its work: the library's timers run in goroutines of their own.
type mock struct {
	*clock.Mock
	b *Breaker
}

func (m *mock) Add(d time.Duration) {
	m.Mock.Add(d)
	for word(m.b.word.Load()).state() == Open && m.b.OpenFor() == 0 {
		runtime.Gosched()
	}
}

func newTest(t *testing.T, s Settings) (*Breaker, *mock) {
	t.Helper()
	c := clock.NewMock()
	c.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	b := New(s, c, nil)
	t.Cleanup(b.Close)
	return b, &mock{c, b}
}

// run sends n requests with an outcome and returns how many were admitted.
func run(b *Breaker, n int, o Outcome) (admitted int) {
	for range n {
		if p, _, ok := b.Allow(); ok {
			admitted++
			b.Done(p, Result{Outcome: o})
		}
	}
	return admitted
}

func expect(t *testing.T, b *Breaker, want State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("state %v, want %v", got, want)
	}
}

func TestConsecutive(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 5, OpenFor: 30 * time.Second, Probes: 1})
	run(b, 4, Failure)
	run(b, 1, Success)
	run(b, 4, Failure)
	run(b, 10, Ignored)
	expect(t, b, Closed)
	run(b, 1, Failure)
	expect(t, b, Open)
	if _, wait, ok := b.Allow(); ok || wait != 30*time.Second {
		t.Errorf("refusal: %v, %v", wait, ok)
	}
	c.Add(29 * time.Second)
	if _, wait, _ := b.Allow(); wait != time.Second {
		t.Errorf("remaining time %v", wait)
	}
	c.Add(time.Second)
	expect(t, b, HalfOpen)
	run(b, 1, Success)
	expect(t, b, Closed)
}

func TestRatio(t *testing.T) {
	first, _ := newTest(t, Settings{Window: 10 * time.Second, Ratio: .5, MinRequests: 20})
	run(first, 10, Success)
	run(first, 9, Failure)
	expect(t, first, Closed) // 19 results
	run(first, 1, Failure)
	expect(t, first, Open)

	b, c := newTest(t, Settings{Window: 10 * time.Second, Ratio: .5, MinRequests: 20})
	run(b, 19, Failure)
	c.Add(12 * time.Second) // they leave the window
	run(b, 11, Success)
	run(b, 10, Failure)
	expect(t, b, Closed)
}

func TestSlow(t *testing.T) {
	b, c := newTest(t, Settings{Window: 10 * time.Second, SlowRatio: .8, SlowOver: 2 * time.Second, MinRequests: 10, OpenFor: time.Second, Probes: 1})
	for range 10 {
		p, _, _ := b.Allow()
		b.Done(p, Result{Outcome: Success, Latency: 3 * time.Second})
	}
	expect(t, b, Open)
	c.Add(time.Second)
	p, _, ok := b.Allow()
	if !ok {
		t.Fatal("no probe")
	}
	b.Done(p, Result{Outcome: Success, Latency: 3 * time.Second})
	expect(t, b, Open) // still slow
}

// A burst trips at any phase of the window.
func TestBurstAtAnyPhase(t *testing.T) {
	for phase := range 200 {
		b, c := newTest(t, Settings{Window: time.Second, Ratio: .5, MinRequests: 18})
		c.Add(time.Duration(phase) * 7 * time.Millisecond)
		run(b, 9, Failure)
		c.Add(30 * time.Millisecond)
		run(b, 9, Failure)
		if b.State() != Open {
			t.Fatalf("phase %d: not open", phase)
		}
	}
}

func TestProbes(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 1, OpenFor: time.Second, Probes: 3, ProbeMax: 30 * time.Second})
	run(b, 1, Failure)
	c.Add(time.Second)
	var admitted atomic.Int64
	permits := make(chan Permit, 500)
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			if p, _, ok := b.Allow(); ok {
				admitted.Add(1)
				permits <- p
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 3 {
		t.Fatalf("%d probes, want 3", admitted.Load())
	}
	b.Done(<-permits, Result{Outcome: Neutral}) // proves nothing, frees its place
	b.Done(<-permits, Result{Outcome: Ignored})
	b.Done(<-permits, Result{Outcome: Success})
	expect(t, b, HalfOpen)
	if n := run(b, 2, Success); n != 2 {
		t.Errorf("%d more probes", n)
	}
	expect(t, b, Closed)
}

func TestLateResults(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 2, OpenFor: time.Second, Probes: 1})
	early, _, _ := b.Allow()
	also, _, _ := b.Allow()
	run(b, 2, Failure)
	c.Add(time.Second)
	expect(t, b, HalfOpen)
	b.Done(early, Result{Outcome: Success})
	expect(t, b, HalfOpen)
	b.Done(also, Result{Outcome: Failure})
	expect(t, b, HalfOpen)
	if p, _, ok := b.Allow(); !ok {
		t.Error("the late results took the probe's place")
	} else {
		b.Done(p, Result{Outcome: Success})
	}
	expect(t, b, Closed)
}

func TestProbesThatNeverEnd(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 1, OpenFor: time.Second, OpenMax: time.Second, Probes: 1, ProbeMax: 30 * time.Second})
	run(b, 1, Failure)
	c.Add(time.Second)
	if _, _, ok := b.Allow(); !ok {
		t.Fatal("no probe")
	}
	c.Add(31 * time.Second)
	if _, _, ok := b.Allow(); ok {
		t.Error("admitted beyond the probes")
	}
	expect(t, b, Open)
	c.Add(time.Second)
	expect(t, b, HalfOpen)
}

func TestOpenTimeGrows(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 1, OpenFor: time.Second, OpenMax: 30 * time.Second, Probes: 1})
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if n := run(b, 1, Failure); n != 1 {
			t.Fatal("not admitted")
		}
		if got := b.OpenFor(); got != want*time.Second {
			t.Errorf("open for %v, want %v", got, want*time.Second)
		}
		c.Add(b.OpenFor())
	}
	run(b, 1, Success) // closes, but fails again before the last open time has passed
	expect(t, b, Closed)
	c.Add(10 * time.Second)
	run(b, 1, Failure)
	if got := b.OpenFor(); got != 30*time.Second {
		t.Errorf("after a short recovery: %v", got)
	}
	c.Add(30 * time.Second)
	run(b, 1, Success)
	c.Add(time.Hour)
	run(b, 1, Failure)
	if got := b.OpenFor(); got != time.Second {
		t.Errorf("after a long recovery: %v", got)
	}
}

// Jitter lengthens the open time by up to its share, differently each time.
func TestJitter(t *testing.T) {
	const first = 100 * time.Second
	seen := map[time.Duration]bool{}
	for range 200 {
		b, c := newTest(t, Settings{Consecutive: 1, OpenFor: first, OpenMax: first, Jitter: .2, Probes: 1})
		run(b, 1, Failure)
		d := b.OpenFor()
		if d < first || d >= first*12/10 {
			t.Fatalf("open for %v", d)
		}
		seen[d.Truncate(time.Second)] = true
		c.Add(d - 1)
		expect(t, b, Open)
		c.Add(1)
		expect(t, b, HalfOpen)
	}
	if len(seen) < 10 {
		t.Errorf("%d different times of 20", len(seen))
	}
}

func TestForced(t *testing.T) {
	b, c := newTest(t, Settings{Consecutive: 1})
	b.Force(Open, time.Minute)
	if _, wait, ok := b.Allow(); ok || wait != time.Minute {
		t.Errorf("forced open: %v %v", wait, ok)
	}
	c.Add(time.Minute)
	expect(t, b, Closed)
	b.Force(Closed, time.Minute)
	run(b, 5, Failure)
	expect(t, b, Closed)
	b.Unforce()
	if s, _, ok := b.Forced(); ok {
		t.Errorf("forced %v", s)
	}
	expect(t, b, Open) // what was counted meanwhile
}

func TestNotify(t *testing.T) {
	changes := make(chan Change, 10)
	c := clock.NewMock()
	b := New(Settings{Consecutive: 2, OpenFor: time.Second, Probes: 1}, c, func(ch Change) { changes <- ch })
	defer b.Close()
	run(b, 2, Failure)
	if ch := <-changes; ch.From != Closed || ch.To != Open || ch.Rule != "consecutive" || ch.Failures != 2 || ch.OpenFor != time.Second {
		t.Errorf("%+v", ch)
	}
	c.Add(time.Second)
	if ch := <-changes; ch.From != Open || ch.To != HalfOpen {
		t.Errorf("%+v", ch)
	}
	run(b, 1, Success)
	if ch := <-changes; ch.From != HalfOpen || ch.To != Closed {
		t.Errorf("%+v", ch)
	}
}

func TestDroppedBreakersLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 1000 {
		b := New(Settings{Consecutive: 1, OpenFor: time.Hour}, nil, nil)
		run(b, 1, Failure)
		b.Close()
	}
	if after := runtime.NumGoroutine(); after > before+2 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

// The window against a list of all results.
func TestWindowAgainstModel(t *testing.T) {
	type result struct {
		at           int64
		failed, slow bool
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var w window
	w.resize(time.Second)
	var model []result
	now := int64(1e15)
	for step := range 120_000 {
		switch rng.IntN(20) {
		case 0:
			now += rng.Int64N(3e9)
		default:
			now += rng.Int64N(3e7)
		}
		r := result{now, rng.IntN(3) == 0, rng.IntN(4) == 0}
		w.add(now, r.failed, r.slow)
		model = append(model, r)
		// A result counts for the window's length, and at most a tenth longer:
		// until its bucket is the eleventh.
		var total, failures, slow int
		kept := model[:0]
		for _, r := range model {
			if now/w.width-r.at/w.width <= buckets {
				kept = append(kept, r)
				total++
				if r.failed {
					failures++
				}
				if r.slow {
					slow++
				}
			} else if now-r.at < int64(time.Second) {
				t.Fatalf("step %d: a result of %v ago has left", step, time.Duration(now-r.at))
			}
		}
		model = kept
		if got := w.sum(now); got != (counts{total, failures, slow}) {
			t.Fatalf("step %d: got %+v, want %d %d %d", step, got, total, failures, slow)
		}
	}
}

func TestConcurrent(t *testing.T) {
	b := New(Settings{Window: time.Second, Ratio: .5, MinRequests: 10, OpenFor: time.Millisecond, OpenMax: time.Millisecond, Probes: 2, ProbeMax: time.Millisecond}, nil, nil)
	defer b.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 20_000 {
				if p, _, ok := b.Allow(); ok {
					b.Done(p, Result{Outcome: Outcome(i % 4)})
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAllowDone(b *testing.B) {
	br := New(Settings{Window: 10 * time.Second, Ratio: .5, MinRequests: 20, Consecutive: 5}, nil, nil)
	defer br.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _, _ := br.Allow()
			br.Done(p, Result{Outcome: Success})
		}
	})
}

func BenchmarkReject(b *testing.B) {
	br := New(Settings{Consecutive: 1, OpenFor: time.Hour, OpenMax: time.Hour}, nil, nil)
	defer br.Close()
	run(br, 1, Failure)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := br.Allow(); ok {
			b.Fatal("admitted")
		}
	}
}
