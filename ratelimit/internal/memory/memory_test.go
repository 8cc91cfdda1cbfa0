package memory_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

// fakeClock is a clock that moves when told to.
type fakeClock struct{ now atomic.Int64 }

func newClock() *fakeClock {
	c := &fakeClock{}
	c.now.Store(int64(time.Hour))
	return c
}

func (c *fakeClock) add(d time.Duration) { c.now.Add(int64(d)) }
func (c *fakeClock) read() int64         { return c.now.Load() }
func (c *fakeClock) wall() time.Time {
	return time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC).Add(time.Duration(c.now.Load()) - time.Hour)
}

func TestHundredPerMinute(t *testing.T) {
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read})
	p := gcratest.Plan(t, gcra.Rate, "100/1m")
	var d gcra.Decision
	for i := range 100 {
		if s.Decide("a", p, 1, &d); !d.Admitted() || d.Meters[0].Remaining != int64(99-i) {
			t.Fatalf("request %d: %+v", i+1, d)
		}
	}
	if s.Decide("a", p, 1, &d); d.Admitted() || !d.Meters[0].Over || time.Duration(d.Wait) != 600*time.Millisecond {
		t.Fatalf("request 101: %+v", d)
	}
	if s.Decide("b", p, 1, &d); !d.Admitted() {
		t.Error("another key is refused")
	}
	c.add(600 * time.Millisecond)
	if s.Decide("a", p, 1, &d); !d.Admitted() {
		t.Error("refused after waiting as long as it said")
	}
}

// Many keys with several limits against gcra alone, with the table growing,
// idle keys being overwritten, and refunds.
func TestTableAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read})
	p := gcratest.Plan(t, gcra.Rate, "5/1s", "20/10s burst 7")
	model := map[string][]int64{}
	var d gcra.Decision
	for i := range 300_000 {
		if rng.IntN(4) == 0 {
			c.add(time.Duration(rng.IntN(2_000_000)))
		}
		key := strconv.Itoa(rng.IntN(1 + i/20))
		cost := int64(rng.IntN(4)) - 1
		tats := model[key]
		if tats == nil {
			tats = make([]int64, 2)
			model[key] = tats
		}
		want := gcra.Decide(p.Policies(), tats, c.read(), cost)
		if s.Decide(key, p, cost, &d); d.Wait != want {
			t.Fatalf("request %d of %s at cost %d: wait %d, want %d", i, key, cost, d.Wait, want)
		}
		if got, want := d.Meters[1].Remaining, p.Policies()[1].Remaining(tats[1], c.read()); got != want {
			t.Fatalf("request %d of %s: %d remaining, want %d", i, key, got, want)
		}
	}
	if s.Evictions() != 0 {
		t.Errorf("%d live keys were evicted below the bound", s.Evictions())
	}
}

func TestMaxKeys(t *testing.T) {
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read, MaxKeys: 1000})
	p := gcratest.Plan(t, gcra.Rate, "10/1m")
	var d gcra.Decision
	// One client exhausts its limit, then an attacker rotates keys.
	for range 10 {
		s.Decide("victim", p, 1, &d)
	}
	for i := range 50_000 {
		s.Decide("attacker"+strconv.Itoa(i), p, 1, &d)
	}
	if n := s.Len(); n > 1000 {
		t.Errorf("%d keys are tracked, at most 1000 may be", n)
	}
	if got := s.Evictions(); got != 50_001-1000 {
		t.Errorf("%d evictions counted, want %d", got, 50_001-1000)
	}
	if s.Decide("victim", p, 1, &d); d.Admitted() {
		t.Error("rotating keys freed a client that had exhausted its limit")
	}
	// Once the keys are idle their places are free.
	c.add(2 * time.Minute)
	before := s.Evictions()
	for i := range 900 {
		s.Decide("later"+strconv.Itoa(i), p, 1, &d)
	}
	if got := s.Evictions(); got != before {
		t.Errorf("%d idle keys were counted as evicted", got-before)
	}
}

func TestExactNeverAboveLimitInAnyWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read})
	p := gcratest.Plan(t, gcra.Window, "10/1s", "30/10s")
	var taken []int64
	var d gcra.Decision
	for range 20_000 {
		c.add(time.Duration(rng.IntN(100_000_000)))
		s.Decide("k", p, 1, &d)
		if !d.Admitted() {
			continue
		}
		if rng.IntN(5) == 0 {
			s.Refund("k", p, 1, d.At)
			continue
		}
		taken = append(taken, c.read())
		for _, w := range []struct {
			limit  int
			length time.Duration
		}{{10, time.Second}, {30, 10 * time.Second}} {
			n := 0
			for _, at := range taken {
				if at > c.read()-int64(w.length) {
					n++
				}
			}
			if n > w.limit {
				t.Fatalf("%d in %v", n, w.length)
			}
		}
	}
}

func TestQuota(t *testing.T) {
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read, Wall: c.wall})
	p := gcratest.Plan(t, gcra.Rate, "100/1s", "3/day")
	var d gcra.Decision
	for i := range 4 {
		s.Decide("k", p, 1, &d)
		if want := i < 3; d.Admitted() != want {
			t.Fatalf("request %d: %+v", i+1, d)
		}
	}
	if !d.Meters[1].Over || d.Meters[0].Over || time.Duration(d.Wait) != time.Hour {
		t.Errorf("refusal: %+v", d)
	}
	if d.Meters[0].Remaining != 97 {
		t.Errorf("the refused request consumed of the other limit: %d left", d.Meters[0].Remaining)
	}
	s.Refund("k", p, 1, c.read())
	if s.Decide("k", p, 1, &d); !d.Admitted() {
		t.Error("refused after a refund")
	}
	at := d.At
	c.add(time.Hour) // midnight
	s.Refund("k", p, 1, at)
	for i := range 4 {
		s.Decide("k", p, 1, &d)
		if want := i < 3; d.Admitted() != want {
			t.Fatalf("next day, request %d: %+v", i+1, d)
		}
	}
}

// A client that waits for as long as a refusal says is admitted, and not a nanosecond
// sooner; and when a meter says that more will be there, more is.
func TestWaitIsTrue(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, p := range []*gcra.Plan{
		gcratest.Plan(t, gcra.Rate, "10/1s"), gcratest.Plan(t, gcra.Rate, "7/1s burst 3", "100/1m"), gcratest.Plan(t, gcra.Rate, "100/1m burst 5", "50/hour", "1000/day"),
		gcratest.Plan(t, gcra.Window, "10/1s"), gcratest.Plan(t, gcra.Window, "10/1s", "40/10s"), gcratest.Plan(t, gcra.Window, "20/1m", "500/day"),
	} {
		c := newClock()
		s := memory.New(memory.Options{Clock: c.read, Wall: c.wall})
		refused := 0
		for range 4000 {
			c.add(time.Duration(rng.IntN(60_000_000)))
			cost := 1 + rng.Int64N(3)
			var d gcra.Decision
			s.Decide("k", p, cost, &d)
			if i := rng.IntN(d.Len); rng.IntN(20) == 0 && d.Meters[i].Reset > 0 {
				m := d.Meters[i]
				var later gcra.Decision
				c.add(time.Duration(m.Reset - 1))
				s.Peek("k", p, 0, &later)
				soon := later.Meters[i].Remaining
				c.add(1)
				s.Peek("k", p, 0, &later)
				if soon != m.Remaining || later.Meters[i].Remaining <= soon {
					t.Fatalf("%v: meter %d: %+v, a nanosecond before that %d, then %d", p, i, m, soon, later.Meters[i].Remaining)
				}
				continue
			}
			if d.Admitted() {
				continue
			}
			refused++
			c.add(time.Duration(d.Wait - 1))
			if s.Peek("k", p, cost, &d); d.Admitted() {
				t.Fatalf("%v: admitted before its time", p)
			}
			c.add(1)
			if s.Decide("k", p, cost, &d); !d.Admitted() {
				t.Fatalf("%v: %d ns are too few", p, d.Wait)
			}
		}
		if refused < 500 {
			t.Errorf("%v: only %d refusals", p, refused)
		}
	}
}

func TestResetSeedDebts(t *testing.T) {
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read})
	p := gcratest.Plan(t, gcra.Rate, "10/1s")
	s.Seed("k", []int64{int64(time.Second)})
	var d gcra.Decision
	if s.Decide("k", p, 1, &d); d.Admitted() {
		t.Error("a key seeded as exhausted is admitted")
	}
	debts := make([]int64, 1)
	if s.Debts("k", debts); debts[0] != int64(time.Second) {
		t.Errorf("debt %v", debts)
	}
	if !s.Reset("k") || s.Reset("k") {
		t.Error("reset does not report whether there was state")
	}
	if s.Decide("k", p, 1, &d); !d.Admitted() {
		t.Error("refused after a reset")
	}
}

// Under contention a key is admitted exactly its burst.
func TestConcurrent(t *testing.T) {
	c := newClock()
	s := memory.New(memory.Options{Clock: c.read})
	p := gcratest.Plan(t, gcra.Rate, "1000/1h")
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var d gcra.Decision
			for i := range 1000 {
				if s.Decide("k", p, 1, &d); d.Admitted() {
					admitted.Add(1)
				}
				s.Decide("other"+strconv.Itoa(i), p, 1, &d)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 1000 {
		t.Errorf("admitted %d, want 1000", admitted.Load())
	}
}

func TestNoAllocations(t *testing.T) {
	s := memory.New(memory.Options{})
	p := gcratest.Plan(t, gcra.Rate, "100/1m", "10/1s")
	var d gcra.Decision
	if n := testing.AllocsPerRun(1000, func() { s.Decide("10.0.0.1", p, 1, &d) }); n != 0 {
		t.Errorf("%v allocations per decision", n)
	}
}

// A million keys need at most 128 bytes each beside their text.
func TestBytesPerKey(t *testing.T) {
	s := memory.New(memory.Options{MaxKeys: 2_000_000})
	p := gcratest.Plan(t, gcra.Rate, "100/1h")
	var d gcra.Decision
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const keys = 200_000
	for i := range keys {
		s.Decide(strconv.Itoa(i), p, 1, &d)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := float64(after.HeapAlloc-before.HeapAlloc) / keys; per > 128 {
		t.Errorf("%.0f bytes per key", per)
	}
	runtime.KeepAlive(s)
}

func BenchmarkDecide(b *testing.B) {
	for _, keys := range []int{1, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := memory.New(memory.Options{})
			p := gcratest.Plan(b, gcra.Rate, "100/1m")
			names := make([]string, keys)
			for i := range names {
				names[i] = "10.0." + strconv.Itoa(i)
			}
			var d gcra.Decision
			for _, name := range names {
				s.Decide(name, p, 1, &d)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Decide(names[i], p, 1, &d)
				if i++; i == keys {
					i = 0
				}
			}
		})
	}
	b.Run("two limits", func(b *testing.B) {
		s := memory.New(memory.Options{})
		p := gcratest.Plan(b, gcra.Rate, "100/1m", "10/1s")
		var d gcra.Decision
		b.ReportAllocs()
		for b.Loop() {
			s.Decide("10.0.0.1", p, 1, &d)
		}
	})
}

// What a million live keys take, and how long taking one more does.
func BenchmarkMillionKeys(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := memory.New(memory.Options{MaxKeys: 2_000_000})
	p := gcratest.Plan(b, gcra.Rate, "100/1h")
	var d gcra.Decision
	for i := range 1_000_000 {
		s.Decide(strconv.Itoa(i), p, 1, &d)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	var buf [20]byte
	i := 0
	for b.Loop() {
		i = (i + 7919) % 1_000_000
		key := strconv.AppendInt(buf[:0], int64(i), 10)
		s.Decide(unsafe.String(unsafe.SliceData(key), len(key)), p, 1, &d)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1_000_000, "B/key")
}
