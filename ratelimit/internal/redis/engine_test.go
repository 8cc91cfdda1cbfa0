package redis

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// The queue is bounded, and a request that finds it full does not wait.
func TestQueueIsBounded(t *testing.T) {
	e := NewEngine(Options{})
	e.inFlight = maxInFlight // no batch is sent
	defer func() {
		e.mu.Lock()
		e.queue, e.inFlight = nil, 0
		e.mu.Unlock()
		e.Close()
	}()
	p := gcratest.Plan(t, gcra.Rate, "1/1s")
	for range maxQueue {
		e.submit(&roundTrip{done: make(chan struct{}, 1)})
	}
	r := newRoundTrip(take, Call{Zone: e.NewZone("z", 0), Plan: p, Cost: 1, Budget: time.Hour})
	if err := e.do(r); !errors.Is(err, errBusy) {
		t.Errorf("%v", err)
	}
}

// After the end nothing is sent and nothing waits.
func TestClosed(t *testing.T) {
	server := redistest.Start(t)
	e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg"})
	z := e.NewZone("z", 0)
	e.Close()
	var d gcra.Decision
	c := Call{Zone: z, Key: "k", Plan: gcratest.Plan(t, gcra.Rate, "1/1s"), Cost: 1, Budget: time.Hour, Decision: &d}
	if c.Decide(); d.Source != gcra.Local || !d.Admitted() {
		t.Errorf("%+v", d)
	}
}

// Requests that were given up before they were sent take nothing.
func TestAbandonedCallsAreNotSent(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Rate, "100/10h")
	e.mu.Lock()
	e.inFlight = maxInFlight
	e.mu.Unlock()
	var d gcra.Decision
	c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: time.Millisecond, Decision: &d}
	for range 5 {
		if c.Decide(); d.Source != gcra.Local {
			t.Fatalf("%+v", d)
		}
	}
	e.mu.Lock()
	e.inFlight = 0
	e.mu.Unlock()
	c.Budget = 5 * time.Second
	if err := c.Peek(); err != nil || d.Meters[0].Remaining != 100 {
		t.Errorf("%d remain in Redis, want 100 (%v)", d.Meters[0].Remaining, err)
	}
}

// A value that another program wrote into a key spoils neither the batch nor
// the key.
func TestForeignValue(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
	z := e.NewZone("z", 0)
	for _, limits := range [][]string{{"5/1h"}, {"5/1h", "9/10h"}} {
		for _, value := range []string{"", "text", "text more", "1e99", "-5", " ", "nan", "-nan 5", "inf", "5 1e99", "5 nan nan", "0x10"} {
			p := gcratest.Plan(t, gcra.Rate, limits...)
			key := e.redisKey(partition("z", value), "z", value)
			if err := server.Client().Set(t.Context(), key, value, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			var d gcra.Decision
			c := Call{Zone: z, Key: value, Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
			// Looking is for another script.
			if err := c.Peek(); err != nil {
				t.Errorf("%q: %v", value, err)
			}
			if c.Decide(); d.Source != gcra.Shared {
				t.Errorf("%q: %+v", value, d)
			}
			// A TAT in a far future is a used-up limit, anything else an unused one.
			far := strings.Contains(value, "inf") || strings.HasPrefix(value, "1e99") || strings.HasSuffix(value, "1e99") && len(limits) > 1
			if d.Admitted() == far {
				t.Errorf("%q under %v: %+v", value, limits, d)
			}
			if err := c.Peek(); err != nil || !far && d.Meters[0].Remaining > 4 {
				t.Errorf("%q under %v: %d remain after one (%v)", value, limits, d.Meters[0].Remaining, err)
			}
			z.denials.forget(value)
		}
	}
}

// Without any budget left Redis is not asked, alone or together.
func TestNoBudgetNoRequest(t *testing.T) {
	server := redistest.Start(t)
	batches := 0
	e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Observe: func(int, time.Duration, error) { batches++ }})
	t.Cleanup(e.Close)
	z := e.NewZone("z", 0)
	spent := new(availability.Budget)
	spent.Spend(availability.DefaultBudget)
	for _, p := range []*gcra.Plan{gcratest.Plan(t, gcra.Rate, "5/1h"), gcratest.Plan(t, gcra.Window, "5/1h")} {
		var d gcra.Decision
		c := Call{Zone: z, Key: p.String(), Plan: p, Cost: 1, Request: spent, Decision: &d}
		if c.Decide(); d.Source != gcra.Local || !d.Admitted() {
			t.Errorf("%+v", d)
		}
	}
	p := gcratest.Plan(t, gcra.Rate, "5/1h")
	var a, b gcra.Decision
	calls := []Call{{Zone: z, Key: "a", Plan: p, Cost: 1, Request: spent, Decision: &a}, {Zone: z, Key: "b", Plan: p, Cost: 1, Request: spent, Decision: &b}}
	if !DecideAll(calls) || a.Source != gcra.Local || b.Source != gcra.Local {
		t.Errorf("%+v %+v", a, b)
	}
	e.Close()
	if batches != 0 {
		t.Errorf("%d batches were sent", batches)
	}
}

// Many goroutines of several engines, one hot key: exactly the burst is
// admitted, and an engine uses far fewer round trips than decisions.
func TestEnginesShareOneLimit(t *testing.T) {
	server := redistest.Start(t)
	p := gcratest.Plan(t, gcra.Rate, "500/1h")
	var mu sync.Mutex
	admitted, trips, asked := 0, 0, 0
	var wg sync.WaitGroup
	for range 4 {
		e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Observe: func(n int, _ time.Duration, err error) {
			if err != nil {
				t.Errorf("batch: %v", err)
			}
			mu.Lock()
			trips++
			asked += n
			mu.Unlock()
		}})
		t.Cleanup(e.Close)
		z := e.NewZone("z", 0)
		for range 16 {
			wg.Go(func() {
				for range 50 {
					var d gcra.Decision
					c := Call{Zone: z, Key: "hot", Plan: p, Cost: 1, Budget: 10 * time.Second, Decision: &d}
					c.Decide()
					if d.Admitted() {
						mu.Lock()
						admitted++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if admitted != 500 {
		t.Errorf("admitted %d, want 500", admitted)
	}
	t.Logf("%d decisions of Redis in %d round trips", asked, trips)
}

// Waiting as long as a refusal says is enough, and no more than is needed.
func TestWaitIsTrue(t *testing.T) {
	server := redistest.Start(t)
	for _, algorithm := range []gcra.Algorithm{gcra.Rate, gcra.Window} {
		e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
		z := e.NewZone(fmt.Sprint("z", algorithm), 0)
		p := gcratest.Plan(t, algorithm, "5/300ms")
		var d gcra.Decision
		c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
		for range 5 {
			refusals := 0
			for c.Decide(); d.Admitted(); c.Decide() {
				if refusals++; refusals > 1000 {
					t.Fatal("never refused")
				}
			}
			time.Sleep(time.Duration(d.Wait))
			if c.Decide(); !d.Admitted() {
				t.Errorf("algorithm %d: refused for another %v after the wait", algorithm, time.Duration(d.Wait))
			}
		}
	}
}
