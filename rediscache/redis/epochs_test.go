package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/rediscache/epoch"
	"github.com/pythopus/tentagate/rediscache/object"
)

// patient returns a client as the app makes it for the background.
func patient(t testing.TB, addrs ...string) redis.UniversalClient {
	t.Helper()
	c := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second,
		DialTimeout: 3 * time.Second, MaxRetries: 1, DialerRetries: 1, PoolSize: 4, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// deaf is a client whose subscriptions hear nothing.
type deaf struct {
	redis.UniversalClient
	nowhere redis.UniversalClient
}

func (d deaf) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return d.nowhere.Subscribe(ctx, channels...)
}

func deafen(t testing.TB, c redis.UniversalClient) redis.UniversalClient {
	return deaf{c, patient(t, "127.0.0.1:1")}
}

func newEpochs(t testing.TB, c redis.UniversalClient, period time.Duration) *Epochs {
	t.Helper()
	e := NewEpochs(epoch.New(), EpochsOptions{Client: c, Period: period, Budget: time.Second})
	e.Start()
	t.Cleanup(e.Close)
	return e
}

func inStep(t testing.TB, list ...*Epochs) {
	t.Helper()
	for _, e := range list {
		eventually(t, "first look at the log", e.Ready)
	}
}

func tagged(e *Epochs, tag string) *object.Object {
	return &object.Object{Epoch: e.Now(), Host: "example.com", Path: "/" + tag, Tags: []string{tag}}
}

func (e *Epochs) freshness(o *object.Object) object.Freshness { return e.Check(object.Key{}, o) }

// The two ways in which one gateway hears of another's invalidation are tested
// apart: Pub/Sub with a log that is never looked at again, and the log with
// Pub/Sub cut.
func TestAcrossGateways(t *testing.T) {
	server := redistest.Start(t)
	for name, make := range map[string]func(t *testing.T) *Epochs{
		"by Pub/Sub":        func(t *testing.T) *Epochs { return newEpochs(t, patient(t, server.Addr()), time.Hour) },
		"by the log":        func(t *testing.T) *Epochs { return newEpochs(t, deafen(t, patient(t, server.Addr())), DefaultPeriod) },
		"by whichever wins": func(t *testing.T) *Epochs { return newEpochs(t, patient(t, server.Addr()), time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush()
			a, b := make(t), make(t)
			inStep(t, a, b)
			if name == "by Pub/Sub" {
				eventually(t, "subscriptions", func() bool {
					return server.Client().PubSubNumSub(context.Background(), a.channel()).Val()[a.channel()] == 2
				})
			}
			for i := range 5 {
				tag := fmt.Sprint("tag", i)
				soft := i%2 == 1
				want := object.Hard
				if soft {
					want = object.Soft
				}
				atA, atB, other := tagged(a, tag), tagged(b, tag), tagged(b, "other")
				a.Invalidate(object.Scope{Tag: tag, Soft: soft})
				if got := a.freshness(atA); got != want {
					t.Fatalf("%s: got %d at once, want %d", tag, got, want)
				}
				if got := a.freshness(tagged(a, tag)); got != object.Valid {
					t.Errorf("%s: what is asked for after the invalidation is taken for older", tag)
				}
				eventually(t, tag+" elsewhere", func() bool { return b.freshness(atB) == want })
				if got := b.freshness(other); got != object.Valid {
					t.Errorf("%s: another tag is hit", tag)
				}
				eventually(t, "clock", func() bool { return b.Now() >= a.Now() })
				// What one stores after it, the other may use.
				if got := b.freshness(tagged(a, tag)); got != object.Valid {
					t.Errorf("%s: what another asked for afterwards is taken for older", tag)
				}
			}
			if n := a.Stats(); n.Lost != 0 || n.Pending != 0 || n.Shared != 5 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// What one gateway asked for before another's invalidation and stores after it
// must not be used by a third.
func TestPurgeDuringFillElsewhere(t *testing.T) {
	server := redistest.Start(t)
	a, b, c := newEpochs(t, patient(t, server.Addr()), DefaultPeriod), newEpochs(t, patient(t, server.Addr()), DefaultPeriod), newEpochs(t, patient(t, server.Addr()), DefaultPeriod)
	inStep(t, a, b, c)
	fill := tagged(a, "x")
	b.Invalidate(object.Scope{Tag: "x"})
	for _, e := range []*Epochs{b, c, a} {
		eventually(t, "the invalidation", func() bool { return e.freshness(fill.Clone()) == object.Hard })
	}
	// A gateway that starts only now reads it from the log.
	d := newEpochs(t, patient(t, server.Addr()), DefaultPeriod)
	inStep(t, d)
	if d.freshness(fill.Clone()) != object.Hard {
		t.Error("a new gateway does not know of it")
	}
	if d.freshness(tagged(d, "x")) != object.Valid {
		t.Error("a new gateway can store nothing")
	}
}

func TestMissedWhileCut(t *testing.T) {
	server := redistest.Start(t)
	a, b := newEpochs(t, patient(t, server.Addr()), DefaultPeriod), newEpochs(t, patient(t, server.Addr()), DefaultPeriod)
	inStep(t, a, b)
	ctx := context.Background()
	for i := range 6 {
		o := tagged(b, fmt.Sprint(i))
		if err := server.Client().ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		a.Invalidate(object.Scope{Tag: fmt.Sprint(i)})
		eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
	}
}

// Nothing is lost when Redis is away: what was invalidated meanwhile is shared
// when it is back, even if it comes back empty.
func TestRedisAway(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			server := redistest.Start(t)
			a, b := newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond), newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond)
			inStep(t, a, b)
			early := tagged(b, "early")
			a.Invalidate(object.Scope{Tag: "early"})
			eventually(t, "the first", func() bool { return b.freshness(early) == object.Hard })

			if how == "killed" {
				server.Kill()
			} else {
				server.Freeze()
			}
			eventually(t, "noticing", func() bool { return !a.Ready() && !b.Ready() })
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
			eventually(t, "the second", func() bool { return b.freshness(atB) == object.Hard })
			inStep(t, a, b)
			eventually(t, "sharing", func() bool { return a.Stats().Pending == 0 })
			// A gateway that starts now knows both, though Redis came back empty.
			c := newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond)
			inStep(t, c)
			eventually(t, "the log", func() bool {
				return c.freshness(early.Clone()) == object.Hard && c.freshness(atB.Clone()) == object.Hard
			})
		})
	}
}

// A log that is lost is restored by those who know it, and what they know is
// not taken for new.
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
			a := newEpochs(t, patient(t, server.Addr()), 20*time.Millisecond)
			inStep(t, a)
			o := tagged(a, "x")
			a.Invalidate(object.Scope{Tag: "w"})
			a.Invalidate(object.Scope{Tag: "x"})
			a.Invalidate(object.Scope{All: true, Soft: true})
			after := tagged(a, "x")
			lose(server.Client(), a)
			eventually(t, "noticing", func() bool { return a.Stats().Lost > 0 })
			inStep(t, a)
			if got := a.freshness(after); got != object.Valid {
				t.Errorf("what was stored after the invalidations is hit again: %d", got)
			}
			b := newEpochs(t, patient(t, server.Addr()), 20*time.Millisecond)
			inStep(t, b)
			eventually(t, "the log", func() bool { return b.freshness(o.Clone()) == object.Hard })

			// Epochs go on from where they were.
			late := tagged(a, "y")
			b.Invalidate(object.Scope{Tag: "y"})
			eventually(t, "a new invalidation", func() bool { return a.freshness(late) == object.Hard })
		})
	}
}

// A gateway that finds no log cannot know what was invalidated, so it uses
// nothing that was stored before.
func TestNoLogNoTrust(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, patient(t, server.Addr()), time.Hour)
	inStep(t, a)
	o := tagged(a, "x")
	server.Flush()
	b := newEpochs(t, patient(t, server.Addr()), time.Hour)
	inStep(t, b)
	if b.freshness(o) != object.Hard {
		t.Error("what was stored before the log was lost is used")
	}
	c := newEpochs(t, patient(t, server.Addr()), time.Hour)
	inStep(t, c)
	if c.freshness(tagged(b, "x")) != object.Valid {
		t.Error("what was stored after it is not used")
	}
}

// Nor does a gateway that starts while nobody has given the new log back yet what
// the old one had.
func TestYoungLogNoTrust(t *testing.T) {
	for _, lose := range []string{"both", "log", "generation"} {
		t.Run(lose, func(t *testing.T) {
			server := redistest.Start(t)
			a := newEpochs(t, deafen(t, patient(t, server.Addr())), time.Hour)
			inStep(t, a)
			o := tagged(a, "x")
			a.Invalidate(object.Scope{Tag: "x"})
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
				e := newEpochs(t, patient(t, server.Addr()), time.Hour)
				inStep(t, e)
				if e.freshness(o.Clone()) != object.Hard {
					t.Errorf("gateway %d uses what was purged", i)
				}
				if e.freshness(tagged(e, "x")) != object.Valid {
					t.Errorf("gateway %d can store nothing", i)
				}
			}
			if a.freshness(kept) != object.Valid {
				t.Error("who knows all invalidations does not use what it stored")
			}
		})
	}
}

// A failover loses the end of the log, and before the one who wrote it looks
// again others write to the new master: what is lost is not hidden by that.
func TestLostEndIsFound(t *testing.T) {
	master := redistest.Start(t)
	host, port, _ := net.SplitHostPort(master.Addr())
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	p := newProxy(t, master.Addr())
	ctx := context.Background()
	a, b := newEpochs(t, deafen(t, patient(t, p.addr())), time.Hour), newEpochs(t, deafen(t, patient(t, p.addr())), time.Hour)
	inStep(t, a, b)
	eventually(t, "the replica", func() bool { return replica.Client().Exists(ctx, a.logKey(), a.generationKey()).Val() == 2 })
	if err := replica.Client().Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	atA, atB := tagged(a, "x"), tagged(b, "x")
	if shared, _ := a.Purge(ctx, object.Scope{Tag: "x"}); !shared {
		t.Fatal("not in the log of the old master")
	}
	p.direct(replica.Addr())
	for i := range 3 {
		eventually(t, "the new master", func() bool {
			shared, _ := b.Purge(ctx, object.Scope{Tag: fmt.Sprint("other", i)})
			if !shared {
				b.look()
			}
			return shared
		})
	}
	if b.freshness(atB) != object.Valid || b.synced.Load() <= a.synced.Load() {
		t.Fatal("this tests nothing")
	}
	eventually(t, "the loss noticed", func() bool { a.look(); return a.Stats().Lost == 1 })
	eventually(t, "the invalidation at the other", func() bool { b.look(); return b.freshness(atB) == object.Hard })
	if a.freshness(atA) != object.Hard {
		t.Error("not used where it was made")
	}
}

// What is given back to the log is older than what was read last. It is read
// nevertheless.
func TestRestoredIsRead(t *testing.T) {
	server := redistest.Start(t)
	a, b := newEpochs(t, deafen(t, patient(t, server.Addr())), time.Hour), newEpochs(t, deafen(t, patient(t, server.Addr())), time.Hour)
	inStep(t, a, b)
	atB := tagged(b, "x")
	a.Invalidate(object.Scope{Tag: "x"})
	server.Flush()
	b.Invalidate(object.Scope{Tag: "y"})
	eventually(t, "b in step with the new log", func() bool { b.look(); return b.Stats().Lost == 1 })
	if b.freshness(atB) != object.Valid {
		t.Fatal("this tests nothing")
	}
	eventually(t, "a in step", func() bool { a.look(); return a.Stats().Lost == 1 })
	eventually(t, "the invalidation", func() bool { b.look(); return b.freshness(atB) == object.Hard })
}

// The server's clock is set back, or another server takes over whose clock is
// behind.
func TestClockGoesBack(t *testing.T) {
	server := redistest.Start(t)
	a, b := newEpochs(t, patient(t, server.Addr()), 20*time.Millisecond), newEpochs(t, patient(t, server.Addr()), 20*time.Millisecond)
	inStep(t, a, b)
	ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
	a.table.Advance(ahead)
	eventually(t, "the clock", func() bool { return b.Now() >= ahead })
	for range 3 {
		o := tagged(b, "x")
		a.Invalidate(object.Scope{Tag: "x"})
		eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
		o = tagged(a, "x")
		b.Invalidate(object.Scope{Tag: "x"})
		eventually(t, "the invalidation back", func() bool { return a.freshness(o) == object.Hard })
	}
}

// An invalidation must get through to a Redis that is full and evicts nothing.
func TestInvalidateWhenFull(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	a, b := newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond), newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond)
	inStep(t, a, b)
	c := server.Client()
	// Full to the brim: not even a short value is taken any more.
	for size, refused := 10_000, 0; refused < 100; {
		if c.Set(context.Background(), fmt.Sprint("fill", rand.Uint64()), noise(size), 0).Err() != nil {
			size, refused = 1, refused+1
		}
	}
	o := tagged(b, "x")
	a.Invalidate(object.Scope{Tag: "x"})
	eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
	eventually(t, "the log", func() bool { return a.Stats().Pending == 0 })
	if c.Set(context.Background(), "more", "x", 0).Err() == nil {
		t.Error("the server was not full")
	}
}

// What another gateway stored has an epoch of a gateway that may be ahead. An
// invalidation made here counts for it nevertheless, whether it came in before
// or comes afterwards.
func TestAheadOfUs(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	e := newEpochs(t, hot(t, p.addr()), 50*time.Millisecond)
	inStep(t, e)
	ahead := func(tag string) *object.Object {
		o := tagged(e, tag)
		o.Epoch += 1_000_000
		return o
	}
	p.hole.Store(true)
	eventually(t, "noticing", func() bool { return !e.Ready() })
	early := ahead("x")
	if !e.Admit(early) || e.freshness(early) != object.Valid {
		t.Fatal("kept out without a reason")
	}
	e.Invalidate(object.Scope{Tag: "x"})
	if e.freshness(early) != object.Hard {
		t.Error("what came in before is used after the invalidation")
	}
	if e.Admit(ahead("x")) {
		t.Error("what may be older than the invalidation comes in")
	}
	if !e.Admit(ahead("y")) {
		t.Error("what it does not concern stays out")
	}
	p.hole.Store(false)
	p.cut()
	eventually(t, "sharing", func() bool { return e.Stats().Pending == 0 && e.Ready() })
	eventually(t, "the new epoch", func() bool { return e.Admit(tagged(e, "x")) })
	if early.Epoch >= e.Now() {
		t.Error("the epoch in the log is not later than all that were seen")
	}
}

// One gateway is cut off from Redis while the other is not. What it invalidates
// meanwhile is shared afterwards, and what it missed it learns.
func TestCutOff(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	a, b := newEpochs(t, hot(t, p.addr()), 50*time.Millisecond), newEpochs(t, patient(t, server.Addr()), 50*time.Millisecond)
	inStep(t, a, b)
	p.hole.Store(true)
	eventually(t, "noticing", func() bool { return !a.Ready() })
	atA, atB := tagged(a, "b's"), tagged(b, "a's")
	if shared, _ := a.Purge(context.Background(), object.Scope{Tag: "a's"}); shared {
		t.Error("shared while cut off")
	}
	if shared, _ := b.Purge(context.Background(), object.Scope{Tag: "b's"}); !shared {
		t.Error("not shared by the one that is not cut off")
	}
	before := a.Stats().Failures
	eventually(t, "another try", func() bool { return a.Stats().Failures > before+1 })
	p.hole.Store(false)
	p.cut()
	eventually(t, "what was missed", func() bool { return a.freshness(atA) == object.Hard })
	eventually(t, "what was not shared", func() bool { return b.freshness(atB) == object.Hard })
	if a.Stats().Lost != 0 {
		t.Error("the log is taken for lost")
	}
}

// More than a page of the log, from many goroutines.
func TestMany(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, deafen(t, patient(t, server.Addr())), time.Hour)
	b := newEpochs(t, deafen(t, patient(t, server.Addr())), 100*time.Millisecond)
	inStep(t, a, b)
	const n, each = 8, 400
	objects := make([]*object.Object, n*each)
	for i := range objects {
		objects[i] = tagged(b, fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			for i := range each {
				a.Invalidate(object.Scope{Tag: fmt.Sprint(g*each + i)})
			}
		})
	}
	wg.Wait()
	for i, o := range objects {
		eventually(t, fmt.Sprint("number ", i), func() bool { return b.freshness(o) == object.Hard })
	}
	c := newEpochs(t, patient(t, server.Addr()), time.Hour)
	inStep(t, c)
	for i, o := range objects {
		if c.freshness(o.Clone()) != object.Hard {
			t.Fatalf("a new gateway does not know number %d", i)
		}
	}
	if size := server.Client().ZCard(context.Background(), a.logKey()).Val(); size > n*each*4+1 {
		t.Errorf("the log has %d entries", size)
	}
}

// The log has a size that it cannot exceed. A gateway that starts when it is
// full reads all of it, and gives all of it back when it is lost.
func TestFullLog(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, patient(t, server.Addr()), time.Hour)
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

	b := NewEpochs(table, EpochsOptions{Client: patient(t, server.Addr()), Period: 50 * time.Millisecond})
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
	eventually(t, "restoring", func() bool {
		return server.Client().ZCard(context.Background(), a.logKey()).Val() == int64(count)+1
	})
}

func TestEpochsCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for name, period := range map[string]time.Duration{"by Pub/Sub": time.Hour, "by the log": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			client := func() redis.UniversalClient {
				c := patient(t, cluster.Addrs()...)
				if period < time.Hour {
					c = deafen(t, c)
				}
				return c
			}
			a, b := newEpochs(t, client(), period), newEpochs(t, client(), period)
			inStep(t, a, b)
			if period == time.Hour {
				eventually(t, "subscriptions", func() bool {
					n := int64(0)
					for _, s := range cluster.Servers {
						n += s.Client().PubSubNumSub(context.Background(), a.channel()).Val()[a.channel()]
					}
					return n == 2
				})
			}
			for i := range 5 {
				o := tagged(b, fmt.Sprint(i))
				a.Invalidate(object.Scope{Tag: fmt.Sprint(i)})
				eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
			}
		})
	}
}

// An invalidation by one client at a time, and by many, which share round trips.
func BenchmarkInvalidate(b *testing.B) {
	server := redistest.Start(b)
	e := newEpochs(b, patient(b, server.Addr()), DefaultPeriod)
	inStep(b, e)
	var n atomic.Int64
	run := func() {
		e.Invalidate(object.Scope{URL: fmt.Sprint("https://example.com/", n.Add(1))})
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			run()
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				run()
			}
		})
	})
}

func FuzzMessage(f *testing.F) {
	f.Add("1 2 name h1 s2 h262144")
	f.Fuzz(func(t *testing.T, s string) {
		_, _, _, marks, ok := parseMessage(s)
		if ok && len(marks) == 0 {
			t.Error("a message about nothing")
		}
		_, _ = parseEpoch(s)
		table := epoch.New()
		table.Learn(marks, 1)
	})
}
