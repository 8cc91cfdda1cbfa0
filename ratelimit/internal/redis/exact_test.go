package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// Windows, quotas and limits beside them against lists of what was admitted,
// with refunds, on a clock of the test's.
func TestExactScriptAgainstModel(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	ctx := t.Context()
	source := strings.Replace(exactSource, "redis.call('TIME')", "{ redis.call('GET', 'clock:s'), redis.call('GET', 'clock:us') }", 1)
	rng := rand.New(rand.NewPCG(21, 22))
	decisions := 0
	for round := range 12 {
		algorithm, limits := gcra.Window, []string{"7/2s", "20/10s"}
		switch round % 3 {
		case 1:
			limits = []string{"5/3s", "40/hour"}
		case 2:
			algorithm, limits = gcra.Rate, []string{"50/hour", "70/day", "10/1s"}
		}
		p := gcratest.Plan(t, algorithm, limits...)
		type unit struct{ at, cost int64 }
		var taken []unit
		now := time.Date(2026, 12, 31, 22, 0, 0, 0, time.UTC)
		key := fmt.Sprintf("exact%d", round)
		for i := range 500 {
			now = now.Add(time.Duration(rng.IntN(700_000)) * time.Microsecond)
			if rng.IntN(100) == 0 {
				now = now.Add(time.Duration(rng.IntN(3600)) * time.Second)
			}
			abs := now.UnixMicro()
			if err := client.MSet(ctx, "clock:s", abs/1_000_000, "clock:us", abs%1_000_000).Err(); err != nil {
				t.Fatal(err)
			}
			x := &roundTrip{kind: take, calls: []Call{{name: key, Plan: p, Cost: 1 + rng.Int64N(2)}}}
			wall := now.Add(time.Duration(rng.IntN(1000)-500) * time.Millisecond)
			refund := rng.IntN(8) == 0 && len(taken) > 0
			if refund {
				j := rng.IntN(len(taken))
				u := taken[j]
				x.calls[0].Cost, x.at = -u.cost, u.at
				taken = append(taken[:j], taken[j+1:]...)
			}
			values, err := client.Do(ctx, x.exactCommand("eval", source, wall)...).Int64Slice()
			if err == nil {
				err = x.readExact(&reader{values})
			}
			if err != nil {
				t.Fatal(err)
			}
			if refund {
				// Units of a limit by rate come back as well, but not into the past:
				// the model below only knows windows and quotas.
				continue
			}
			decisions++
			here := int64(now.Sub(epoch))
			// What the windows and quotas say.
			fits := true
			used := func(since int64) (n int64) {
				for _, u := range taken {
					if u.at > since {
						n += u.cost
					}
				}
				return n
			}
			if algorithm == gcra.Window {
				for _, l := range p.Limits() {
					fits = fits && used(here-int64(l.Period))+x.calls[0].Cost <= l.Count
				}
			}
			for _, q := range p.Quotas() {
				fits = fits && used(int64(q.Unit.Start(now).Sub(epoch))-1)+x.calls[0].Cost <= q.Count
			}
			admitted := x.exact.Admitted()
			if admitted && !fits {
				t.Fatalf("round %d request %d: admitted above the limit", round, i)
			}
			if !admitted && fits && algorithm == gcra.Window {
				t.Fatalf("round %d request %d: refused for %v although it fits", round, i, time.Duration(x.exact.Wait))
			}
			if !admitted && fits && !x.exact.Meters[0].Over {
				t.Fatalf("round %d request %d: refused by a quota that has room", round, i)
			}
			if admitted {
				taken = append(taken, unit{x.exact.At, x.calls[0].Cost})
			}
		}
	}
	t.Logf("%d decisions", decisions)
}

func TestExactThroughZone(t *testing.T) {
	server := redistest.Start(t)
	// Refusals are remembered for a second of this clock.
	e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Clock: func() int64 { return 1 }})
	t.Cleanup(e.Close)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Window, "5/1h", "3/day")
	var d gcra.Decision
	c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
	for i := range 4 {
		if c.Decide(); d.Admitted() != (i < 3) {
			t.Fatalf("request %d: %+v", i+1, d)
		}
		if i == 2 {
			if ttl := server.Client().PTTL(t.Context(), e.redisKey(partition("z", "k"), "z", "k")+":w0").Val(); ttl <= 59*time.Minute || ttl > time.Hour {
				t.Errorf("the log expires in %v", ttl)
			}
			at := d.At
			defer func() {
				c.Refund(at, gcra.Shared)
				c.Decide()
				if !d.Admitted() {
					t.Errorf("refused after a refund: %+v", d)
				}
			}()
		}
	}
	if !d.Meters[1].Over || d.Meters[0].Over || d.Meters[0].Remaining != 2 {
		t.Errorf("%+v", d)
	}
	if c.Decide(); d.Source != gcra.Remembered {
		t.Errorf("the second refusal came from %v", d.Source)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := z.Reset(gone, "k", []*gcra.Plan{p}); found || err == nil {
		t.Errorf("a reset without Redis: %v %v", found, err)
	}
	if c.Decide(); d.Source != gcra.Remembered {
		t.Errorf("a reset without Redis changed what is known here: the refusal came from %v", d.Source)
	}
	found, err := z.Reset(t.Context(), "k", []*gcra.Plan{p})
	if !found || err != nil {
		t.Errorf("reset: %v %v", found, err)
	}
	for i := range 3 {
		if c.Decide(); !d.Admitted() {
			t.Fatalf("after the reset, request %d: %+v", i+1, d)
		}
	}
}

// A remembered refusal ends when it is no longer true, and at once when units
// are refunded here.
func TestDenials(t *testing.T) {
	var n denials
	p, q := gcratest.Plan(t, gcra.Rate, "10/1s"), gcratest.Plan(t, gcra.Rate, "20/1s")
	refusal := gcra.Decision{Wait: int64(300 * time.Millisecond), Len: 1}
	refusal.Meters[0] = gcra.Meter{Reset: int64(100 * time.Millisecond), Over: true}
	var d gcra.Decision
	n.add("k", p, 2, 1000, &refusal)
	if !n.find("k", p, 2, 1000+int64(200*time.Millisecond), &d) || d.Wait != int64(100*time.Millisecond) || d.Meters[0].Reset <= 0 {
		t.Errorf("after 200ms: %+v", d)
	}
	if n.find("k", p, 1, 1001, &d) {
		t.Error("a cheaper request was refused from memory")
	}
	if n.find("k", q, 2, 1001, &d) {
		t.Error("another plan's request was refused from memory")
	}
	if n.find("k", p, 2, 1000+refusal.Wait, &d) {
		t.Error("refused although the time is over")
	}
	n.add("k", p, 2, 1000, &refusal)
	n.forget("k")
	if n.find("k", p, 2, 1001, &d) {
		t.Error("refused although units were refunded")
	}
	refusal.Wait = int64(time.Hour)
	n.add("k", p, 2, 1000, &refusal)
	if n.find("k", p, 2, 1000+int64(recheck), &d) {
		t.Error("not asked again after a second")
	}
	for i := range denyShards * denyPerShard * 2 {
		n.add(fmt.Sprint(i), p, 1, 1000, &refusal)
	}
	for i := range n.shards {
		if len(n.shards[i].keys) > denyPerShard {
			t.Fatalf("%d refusals in a shard", len(n.shards[i].keys))
		}
	}
}

// Zones of one Redis are decided together: a refusal of one takes nothing of
// the other.
func TestDecideAll(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
	global, own := e.NewZone("global", 0), e.NewZone("own", 0)
	pg, po := gcratest.Plan(t, gcra.Rate, "10/1h"), gcratest.Plan(t, gcra.Rate, "3/1h")
	var dg, do gcra.Decision
	calls := []Call{
		{Zone: global, Key: "all", Plan: pg, Cost: 1, Budget: 5 * time.Second, Decision: &dg},
		{Zone: own, Key: "a", Plan: po, Cost: 1, Budget: 5 * time.Second, Decision: &do},
	}
	for i := range 20 {
		if !DecideAll(calls) {
			t.Fatal("not decided")
		}
		if got := dg.Admitted() && do.Admitted(); got != (i < 3) {
			t.Fatalf("request %d: %+v %+v", i+1, dg, do)
		}
	}
	if err := calls[0].Peek(); err != nil || dg.Meters[0].Remaining != 7 {
		t.Errorf("%d of the global limit remain, want 7 (%v)", dg.Meters[0].Remaining, err)
	}
	server.Kill()
	calls[1].Key = "b"
	DecideAll(calls)
	if dg.Source != gcra.Local || !dg.Admitted() || !do.Admitted() {
		t.Errorf("without Redis: %+v %+v", dg, do)
	}
}
