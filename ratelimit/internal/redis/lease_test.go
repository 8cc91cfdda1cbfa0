package redis

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

// leaseFixture is a zone with a clock of the test.
type leaseFixture struct {
	t      *testing.T
	clock  atomic.Int64
	engine *Engine
	zone   *Zone
	plan   *gcra.Plan
}

func newLeaseFixture(t *testing.T, limit string) *leaseFixture {
	server := redistest.Start(t)
	f := &leaseFixture{t: t, plan: gcratest.Plan(t, gcra.Rate, limit)}
	f.clock.Store(memory.Monotonic())
	f.engine = NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Clock: f.clock.Load})
	t.Cleanup(f.engine.Close)
	f.zone = f.engine.NewZone("z", 0)
	return f
}

func (f *leaseFixture) call(d *gcra.Decision) *Call {
	return &Call{Zone: f.zone, Key: "k", Plan: f.plan, Cost: 1, Budget: 5 * time.Second, Leased: true, Decision: d}
}

func (f *leaseFixture) ask() (d gcra.Decision) {
	f.call(&d).Decide()
	return d
}

// warm asks until a request is answered from a lease.
func (f *leaseFixture) warm() {
	f.t.Helper()
	testkit.Eventually(f.t, "a lease", func() bool { return f.ask().Source == gcra.Lease })
	// Any refill that is under way is done when nothing is in flight.
	f.quiet()
}

func (f *leaseFixture) quiet() {
	testkit.Eventually(f.t, "quiet", func() bool {
		s := f.zone.leases.shard("k")
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.keys["k"].refilling
	})
}

func (f *leaseFixture) remaining() int64 {
	f.t.Helper()
	var d gcra.Decision
	c := f.call(&d)
	c.Cost = 0
	if err := c.Peek(); err != nil {
		f.t.Fatal(err)
	}
	return d.Meters[0].Remaining
}

// Units are debited when they are reserved, and expire with the lease.
func TestLeaseDies(t *testing.T) {
	f := newLeaseFixture(t, "1000/10h")
	f.warm()
	held := f.engine.zoneUnits(f.zone)
	if held == 0 {
		t.Fatal("nothing is reserved")
	}
	before := f.remaining()
	f.clock.Add(int64(Life(f.plan)))
	if n := f.engine.zoneUnits(f.zone); n != 0 {
		t.Errorf("%d units outlive their lease", n)
	}
	if d := f.ask(); d.Source != gcra.Shared {
		t.Errorf("spent after the lease's end: %+v", d)
	}
	f.quiet()
	if after := f.remaining(); after > before-1 {
		t.Errorf("%d remain, %d before: expired units came back", after, before)
	}
}

// zoneUnits is the number of units that may be spent.
func (e *Engine) zoneUnits(z *Zone) (n int64) {
	s := z.leases.shard("k")
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.keys["k"]; h != nil {
		n = h.left(e.clock())
	}
	return n
}

// Units that are left at shutdown are returned.
func TestLeaseReturned(t *testing.T) {
	f := newLeaseFixture(t, "1000/10h")
	f.warm()
	held := f.engine.zoneUnits(f.zone)
	before := f.remaining()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f.zone.Close(ctx)
	if after := f.remaining(); held == 0 || after != before+held {
		t.Errorf("%d were reserved and %d remained; %d remain after the shutdown", held, before, after)
	}
	if s := f.zone.LeaseStats(); s.Returned != uint64(held) || s.Held != 0 {
		t.Errorf("%+v", s)
	}
}

// A lease that is being reserved is returned too.
func TestLeaseUnderWayIsReturned(t *testing.T) {
	f := newLeaseFixture(t, "1000/10h")
	f.warm()
	testkit.Eventually(t, "nothing in flight", func() bool {
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		if f.engine.inFlight > 0 {
			return false
		}
		f.engine.inFlight = maxInFlight // no batch is sent
		return true
	})
	refilling := func() bool {
		s := f.zone.leases.shard("k")
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.keys["k"].refilling
	}
	spent := f.zone.LeaseStats().Spent
	testkit.Eventually(t, "a refill", func() bool {
		if d := f.ask(); d.Source != gcra.Lease {
			t.Fatalf("%+v", d)
		}
		spent++
		return refilling()
	})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f.zone.Close(t.Context())
	}()
	testkit.Eventually(t, "the end of reservations", func() bool {
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		return f.zone.leases.closed
	})
	f.engine.mu.Lock()
	f.engine.inFlight = 0
	f.engine.mu.Unlock()
	_ = f.remaining() // something to send
	<-closed
	f.engine.Close()
	s := f.zone.LeaseStats()
	if s.Granted != s.Spent+s.Returned || s.Spent != spent || s.Returned == 0 {
		t.Errorf("%+v: what was granted was neither spent nor returned", s)
	}
}

// A unit given back goes to the lease it came from, and not to a later one.
func TestLeaseRefund(t *testing.T) {
	f := newLeaseFixture(t, "1000/10h")
	f.warm()
	before := f.engine.zoneUnits(f.zone)
	d := f.ask()
	if d.Source != gcra.Lease {
		t.Fatalf("%+v", d)
	}
	f.quiet()
	c := f.call(&d)
	spent := f.engine.zoneUnits(f.zone)
	c.Refund(d.At, d.Source)
	if got := f.engine.zoneUnits(f.zone); got != spent+1 {
		t.Errorf("%d before, %d after the refund; %d at first", spent, got, before)
	}
	f.clock.Add(int64(Life(f.plan)))
	c.Refund(d.At, d.Source)
	if got := f.engine.zoneUnits(f.zone); got != 0 {
		t.Errorf("%d units in a dead lease", got)
	}
}

// A key that is seldom asked for gets no lease: its units would expire unused.
func TestColdKeyIsStrict(t *testing.T) {
	f := newLeaseFixture(t, "1000/10h")
	for range 50 {
		if d := f.ask(); d.Source != gcra.Shared {
			t.Fatalf("%+v", d)
		}
		f.clock.Add(int64(Life(f.plan)) / (minLease / 2))
	}
	if s := f.zone.LeaseStats(); s.Granted != 0 {
		t.Errorf("%d units were reserved", s.Granted)
	}
}

func TestLife(t *testing.T) {
	for limit, want := range map[string]time.Duration{
		"10/100ms": 10 * time.Millisecond, "10/1s": 20 * time.Millisecond, "100/1m": time.Second, "100/1h": time.Second,
	} {
		if got := Life(gcratest.Plan(t, gcra.Rate, limit)); got != want {
			t.Errorf("%s: %v, want %v", limit, got, want)
		}
	}
}
