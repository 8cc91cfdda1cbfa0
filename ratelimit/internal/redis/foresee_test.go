package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// What is foreseen is what is then decided, and takes nothing.
func TestForesee(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
	delayed, err := gcratest.Plan(t, gcra.Rate, "10/1h").WithDelay(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for name, plan := range map[string]*gcra.Plan{
		"rate":    gcratest.Plan(t, gcra.Rate, "10/1h"),
		"two":     gcratest.Plan(t, gcra.Rate, "20/1h", "10/24h"),
		"delayed": delayed,
		"window":  gcratest.Plan(t, gcra.Window, "10/1h"),
	} {
		for _, cost := range []int64{1, 4, 11} {
			z := e.NewZone(fmt.Sprint(name, cost), 0)
			for range 12 {
				var foreseen, again, decided gcra.Decision
				c := Call{Zone: z, Key: "k", Plan: plan, Cost: cost, Budget: 5 * time.Second, Decision: &foreseen}
				c.Foresee(5 * time.Second)
				c.Decision = &again
				c.Foresee(5 * time.Second)
				c.Decision = &decided
				c.Decide()
				if foreseen.Admitted() != decided.Admitted() || again.Meters[0].Remaining != foreseen.Meters[0].Remaining {
					t.Fatalf("%s, cost %d: foreseen %+v, then %+v, decided %+v", name, cost, foreseen, again, decided)
				}
				if more := time.Duration(foreseen.Wait - decided.Wait).Abs(); plan.Simple() && more > 10*time.Second {
					t.Errorf("%s, cost %d: a wait of %v, decided %v", name, cost, time.Duration(foreseen.Wait), time.Duration(decided.Wait))
				}
			}
		}
	}
}

// Without Redis, what is foreseen is what the fallback decides.
func TestForeseeOutage(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
	plan := gcratest.Plan(t, gcra.Rate, "2/1h")
	server.Kill()
	for _, fallback := range []string{Local, Allow, Deny} {
		z := e.NewZone("z"+fallback, 0)
		for range 4 {
			var foreseen, decided gcra.Decision
			c := Call{Zone: z, Key: "k", Plan: plan, Cost: 1, OnError: fallback, Decision: &foreseen}
			c.Foresee(time.Second)
			c.Decision = &decided
			c.Decide()
			if foreseen.Admitted() != decided.Admitted() || foreseen.Source != decided.Source {
				t.Errorf("%s: foreseen %+v, decided %+v", fallback, foreseen, decided)
			}
		}
	}
	// A request that has no time left does not wait for a Redis that is silent.
	server.Restart()
	server.Freeze()
	t.Cleanup(server.Thaw)
	var d gcra.Decision
	c := Call{Zone: e.NewZone("z", 0), Key: "k", Plan: plan, Cost: 1, Decision: &d}
	if c.Foresee(0); d.Source != gcra.Local || !d.Admitted() {
		t.Errorf("without time: %+v", d)
	}
}
