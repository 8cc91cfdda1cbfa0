package redis

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// Nothing is lost while Redis is unreachable: what was invalidated meanwhile is
// shared when it is back, even if it is empty then.
func TestInvalidateWhileUnreachable(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			server := redistest.Start(t)
			a, b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
			inStep(t, a, b)
			early := tagged(b, "early")
			a.invalidate(object.Scope{Tag: "early"})
			testkit.Eventually(t, "the first", func() bool { return b.freshness(early) == object.Hard })

			if how == "killed" {
				server.Kill()
			} else {
				server.Freeze()
			}
			testkit.Eventually(t, "noticing", func() bool { return !a.Ready() && !b.Ready() })
			atA, atB := tagged(a, "late"), tagged(b, "late")
			shared, err := a.Purge(context.Background(), object.Scope{Tag: "late"})
			if shared || err != nil {
				t.Errorf("shared %v, %v", shared, err)
			}
			if a.freshness(atA) != object.Hard {
				t.Error("not at once here")
			}
			if how == "killed" {
				server.Restart()
			} else {
				server.Thaw()
			}
			testkit.Eventually(t, "the second", func() bool { return b.freshness(atB) == object.Hard })
			inStep(t, a, b)
			testkit.Eventually(t, "sharing", func() bool { return a.Stats().Pending == 0 })
			// A gateway that starts now knows both, though Redis came back empty.
			c := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
			inStep(t, c)
			testkit.Eventually(t, "the log", func() bool {
				return c.freshness(early.Clone()) == object.Hard && c.freshness(atB.Clone()) == object.Hard
			})
		})
	}
}

// A log that is lost is restored by the gateways that know it, which do not take
// their own changes for new ones.
func TestLogLost(t *testing.T) {
	for name, lose := range map[string]func(c *redis.Client, e *Epochs){
		"flushed":            func(c *redis.Client, _ *Epochs) { c.FlushAll(context.Background()) },
		"log evicted":        func(c *redis.Client, e *Epochs) { c.Del(context.Background(), e.logKey()) },
		"generation evicted": func(c *redis.Client, e *Epochs) { c.Del(context.Background(), e.generationKey()) },
		"failed over to an older copy": func(c *redis.Client, e *Epochs) {
			c.ZRemRangeByRank(context.Background(), e.logKey(), -1-4, -1)
		},
		"another type": func(c *redis.Client, e *Epochs) {
			c.Set(context.Background(), e.logKey(), "x", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			a := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
			inStep(t, a)
			o := tagged(a, "x")
			a.invalidate(object.Scope{Tag: "w"})
			a.invalidate(object.Scope{Tag: "x"})
			a.invalidate(object.Scope{All: true, Soft: true})
			after := tagged(a, "x")
			lose(server.Client(), a)
			testkit.Eventually(t, "noticing", func() bool { return a.Stats().Lost > 0 })
			inStep(t, a)
			if got := a.freshness(after); got != object.Valid {
				t.Errorf("what was stored after the invalidations is invalid again: %d", got)
			}
			b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
			inStep(t, b)
			testkit.Eventually(t, "the log", func() bool { return b.freshness(o.Clone()) == object.Hard })

			// Epochs go on from where they were.
			late := tagged(a, "y")
			b.invalidate(object.Scope{Tag: "y"})
			testkit.Eventually(t, "a new invalidation", func() bool { return a.freshness(late) == object.Hard })
		})
	}
}

// A gateway that finds no log cannot know what was invalidated, so it uses
// nothing that was stored before.
func TestStartWithoutLog(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
	inStep(t, a)
	o := tagged(a, "x")
	server.Flush()
	b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
	inStep(t, b)
	if b.freshness(o) != object.Hard {
		t.Error("what was stored before the log was lost is used")
	}
	c := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
	inStep(t, c)
	if c.freshness(tagged(b, "x")) != object.Valid {
		t.Error("what was stored after it is not used")
	}
}

// Nor does a gateway that starts before the new log was restored.
func TestStartWithNewLog(t *testing.T) {
	for _, lose := range []string{"both", "log", "generation"} {
		t.Run(lose, func(t *testing.T) {
			server := redistest.Start(t)
			a := newEpochs(t, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), time.Hour)
			inStep(t, a)
			o := tagged(a, "x")
			a.invalidate(object.Scope{Tag: "x"})
			kept := tagged(a, "x")
			var keys []string
			if lose != "log" {
				keys = append(keys, a.generationKey())
			}
			if lose != "generation" {
				keys = append(keys, a.logKey())
			}
			server.Client().Del(context.Background(), keys...)
			for i := range 3 {
				e := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
				inStep(t, e)
				if e.freshness(o.Clone()) != object.Hard {
					t.Errorf("gateway %d uses what was purged", i)
				}
				if e.freshness(tagged(e, "x")) != object.Valid {
					t.Errorf("gateway %d can store nothing", i)
				}
			}
			if a.freshness(kept) != object.Valid {
				t.Error("a gateway that knows all invalidations does not use what it stored")
			}
		})
	}
}

// The server's clock is set back, or another server takes over whose clock is
// behind.
func TestClockGoesBack(t *testing.T) {
	server := redistest.Start(t)
	a, b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
	inStep(t, a, b)
	ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
	a.table.Advance(ahead)
	testkit.Eventually(t, "the clock", func() bool { return b.table.Now() >= ahead })
	for range 3 {
		o := tagged(b, "x")
		a.invalidate(object.Scope{Tag: "x"})
		testkit.Eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
		o = tagged(a, "x")
		b.invalidate(object.Scope{Tag: "x"})
		testkit.Eventually(t, "the invalidation back", func() bool { return a.freshness(o) == object.Hard })
	}
}

// The log has a size that it cannot exceed. A gateway that starts when it is
// full reads all of it, and gives all of it back when it is lost.
func TestFullLog(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
	inStep(t, a)
	table := epoch.New()
	now := uint64(time.Now().UnixMicro())
	members := make([]redis.Z, 0, 10_000)
	count := 0
	for m := epoch.Mark(0); ; m++ {
		if _, ok := epoch.ParseMark(m.String()); !ok {
			break
		}
		members = append(members, redis.Z{Score: float64(now + uint64(m)/3), Member: m.String()})
		if count++; len(members) == cap(members) {
			if err := server.Client().ZAdd(context.Background(), a.logKey(), members...).Err(); err != nil {
				t.Fatal(err)
			}
			members = members[:0]
		}
	}
	server.Client().ZAdd(context.Background(), a.logKey(), members...)

	b := NewEpochs(table, replog.Options{Client: redistest.BackgroundClient(t, server.Addr()), Period: 50 * time.Millisecond}, prefix)
	began := time.Now()
	b.Start()
	t.Cleanup(b.Close)
	inStep(t, b)
	t.Logf("%d entries read in %v, %s in Redis", count, time.Since(began), server.Client().Info(context.Background(), "memory").Val()[:60])
	known := 0
	table.Each(0, func(epoch.Mark, uint64) { known++ })
	if known != count {
		t.Errorf("%d of %d are known", known, count)
	}
	server.Flush()
	testkit.Eventually(t, "restoring", func() bool {
		return server.Client().ZCard(context.Background(), a.logKey()).Val() == int64(count)+1
	})
}

// Where INFO is forbidden everything works but the notice of a failover.
func TestWithoutInfo(t *testing.T) {
	server := redistest.Start(t)
	ctx := context.Background()
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	a, b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
	inStep(t, a, b)
	o := tagged(b, "x")
	a.invalidate(object.Scope{Tag: "x"})
	testkit.Eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
	server.Client().Del(ctx, a.logKey())
	testkit.Eventually(t, "the loss noticed", func() bool { return a.Stats().Lost > 0 && b.Stats().Lost > 0 })
	inStep(t, a, b)
}
