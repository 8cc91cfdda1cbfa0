package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func newEpochs(t testing.TB, c redis.UniversalClient, period time.Duration) *Epochs {
	t.Helper()
	e := NewEpochs(epoch.New(), replog.Options{Client: c, Period: period}, prefix)
	if period >= time.Hour {
		seldom.Store(e, true)
	}
	e.Start()
	t.Cleanup(func() { seldom.Delete(e); e.Close() })
	return e
}

// seldom has the exchanges that by themselves read the log no second time.
var seldom sync.Map

// invalidate is Invalidate by a request that waits long enough for a busy machine.
func (e *Epochs) invalidate(s object.Scope) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e.Invalidate(ctx, s)
}

func inStep(t testing.TB, list ...*Epochs) {
	t.Helper()
	for _, e := range list {
		testkit.Eventually(t, "the first read of the log", func() bool {
			if _, ok := seldom.Load(e); ok && !e.Ready() && e.Stats().Failures > 0 {
				e.Read()
			}
			return e.Ready()
		})
	}
}

func tagged(e *Epochs, tag string) *object.Object {
	return &object.Object{Epoch: e.table.Now(), Host: "example.com", Path: "/" + tag, Tags: []string{tag}}
}

// The names in Redis.
func (*Epochs) logKey() string        { return "tentagate:cache:{epochs}:log" }
func (*Epochs) generationKey() string { return "tentagate:cache:{epochs}:generation" }
func (*Epochs) channel() string       { return "tentagate:cache:{epochs}" }

func (e *Epochs) freshness(o *object.Object) object.Freshness { return e.table.Check(o) }

// The two ways in which one gateway learns of another's invalidation are tested
// separately: Pub/Sub with a log that is never read again, and the log without
// Pub/Sub.
func TestAcrossGateways(t *testing.T) {
	server := redistest.Start(t)
	for name, make := range map[string]func(t *testing.T) *Epochs{
		"by Pub/Sub": func(t *testing.T) *Epochs {
			return newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
		},
		"by the log": func(t *testing.T) *Epochs {
			return newEpochs(t, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), replog.DefaultPeriod)
		},
		"by both": func(t *testing.T) *Epochs {
			return newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush()
			a, b := make(t), make(t)
			inStep(t, a, b)
			if name == "by Pub/Sub" {
				testkit.Eventually(t, "subscriptions", func() bool {
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
				a.invalidate(object.Scope{Tag: tag, Soft: soft})
				if got := a.freshness(atA); got != want {
					t.Fatalf("%s: got %d at once, want %d", tag, got, want)
				}
				if got := a.freshness(tagged(a, tag)); got != object.Valid {
					t.Errorf("%s: what is asked for after the invalidation is taken for older", tag)
				}
				testkit.Eventually(t, tag+" elsewhere", func() bool { return b.freshness(atB) == want })
				if got := b.freshness(other); got != object.Valid {
					t.Errorf("%s: another tag is hit", tag)
				}
				testkit.Eventually(t, "clock", func() bool { return b.table.Now() >= a.table.Now() })
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
	a, b, c := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod)
	inStep(t, a, b, c)
	fill := tagged(a, "x")
	b.invalidate(object.Scope{Tag: "x"})
	for _, e := range []*Epochs{b, c, a} {
		testkit.Eventually(t, "the invalidation", func() bool { return e.freshness(fill.Clone()) == object.Hard })
	}
	// A gateway that starts only now reads it from the log.
	d := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod)
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
	a, b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), replog.DefaultPeriod)
	inStep(t, a, b)
	ctx := context.Background()
	for i := range 6 {
		o := tagged(b, fmt.Sprint(i))
		if err := server.Client().ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		a.invalidate(object.Scope{Tag: fmt.Sprint(i)})
		testkit.Eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
	}
}

// An invalidation must get through to a Redis that is full and evicts nothing.
func TestInvalidateWhenFull(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	a, b := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
	inStep(t, a, b)
	c := server.Client()
	// Full: not even a short value is accepted.
	for size, refused := 10_000, 0; refused < 100; {
		if c.Set(context.Background(), fmt.Sprint("fill", rand.Uint64()), noise(size), 0).Err() != nil {
			size, refused = 1, refused+1
		}
	}
	o := tagged(b, "x")
	a.invalidate(object.Scope{Tag: "x"})
	testkit.Eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
	testkit.Eventually(t, "the log", func() bool { return a.Stats().Pending == 0 })
	if c.Set(context.Background(), "more", "x", 0).Err() == nil {
		t.Error("the server was not full")
	}
}

// What another gateway stored has an epoch of a gateway that may be ahead. An
// invalidation made here counts for it nevertheless, whether it came in before
// or comes afterwards.
func TestAheadOfUs(t *testing.T) {
	server := redistest.Start(t)
	p := redistest.NewProxy(t, server.Addr())
	e := newEpochs(t, redistest.RequestClient(t, p.Addr()), 50*time.Millisecond)
	inStep(t, e)
	ahead := func(tag string) *object.Object {
		o := tagged(e, tag)
		o.Epoch += 1_000_000
		return o
	}
	p.Swallow(true)
	testkit.Eventually(t, "noticing", func() bool { return !e.Ready() })
	early := ahead("x")
	if !e.Admit(early) || e.freshness(early) != object.Valid {
		t.Fatal("kept out without a reason")
	}
	e.invalidate(object.Scope{Tag: "x"})
	if e.freshness(early) != object.Hard {
		t.Error("what came in before is used after the invalidation")
	}
	if e.Admit(ahead("x")) {
		t.Error("what may be older than the invalidation comes in")
	}
	if !e.Admit(ahead("y")) {
		t.Error("what it does not concern stays out")
	}
	p.Swallow(false)
	p.Cut()
	testkit.Eventually(t, "sharing", func() bool { return e.Stats().Pending == 0 && e.Ready() })
	testkit.Eventually(t, "the new epoch", func() bool { return e.Admit(tagged(e, "x")) })
	if early.Epoch >= e.table.Now() {
		t.Error("the epoch in the log is not later than all that were seen")
	}
}

// One gateway is cut off from Redis while the other is not. What it invalidates
// meanwhile is shared afterwards, and what it missed it learns.
func TestCutOff(t *testing.T) {
	server := redistest.Start(t)
	p := redistest.NewProxy(t, server.Addr())
	a, b := newEpochs(t, redistest.RequestClient(t, p.Addr()), 50*time.Millisecond), newEpochs(t, redistest.BackgroundClient(t, server.Addr()), 50*time.Millisecond)
	inStep(t, a, b)
	p.Swallow(true)
	testkit.Eventually(t, "noticing", func() bool { return !a.Ready() })
	atA, atB := tagged(a, "b's"), tagged(b, "a's")
	if shared, _ := a.Purge(context.Background(), object.Scope{Tag: "a's"}); shared {
		t.Error("shared while cut off")
	}
	if shared, _ := b.Purge(context.Background(), object.Scope{Tag: "b's"}); !shared {
		t.Error("not shared by the one that is not cut off")
	}
	before := a.Stats().Failures
	testkit.Eventually(t, "another try", func() bool { return a.Stats().Failures > before+1 })
	p.Swallow(false)
	p.Cut()
	testkit.Eventually(t, "what was missed", func() bool { return a.freshness(atA) == object.Hard })
	testkit.Eventually(t, "what was not shared", func() bool { return b.freshness(atB) == object.Hard })
	if a.Stats().Lost != 0 {
		t.Error("the log is taken for lost")
	}
}

// More than a page of the log, from many goroutines.
func TestMany(t *testing.T) {
	server := redistest.Start(t)
	a := newEpochs(t, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), time.Hour)
	b := newEpochs(t, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), 100*time.Millisecond)
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
				a.invalidate(object.Scope{Tag: fmt.Sprint(g*each + i)})
			}
		})
	}
	wg.Wait()
	for i, o := range objects {
		testkit.Eventually(t, fmt.Sprint("number ", i), func() bool { return b.freshness(o) == object.Hard })
	}
	c := newEpochs(t, redistest.BackgroundClient(t, server.Addr()), time.Hour)
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

func TestEpochsCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for name, period := range map[string]time.Duration{"by Pub/Sub": time.Hour, "by the log": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			client := func() redis.UniversalClient {
				c := redistest.BackgroundClient(t, cluster.Addrs()...)
				if period < time.Hour {
					c = redistest.WithoutMessages(t, c)
				}
				return c
			}
			a, b := newEpochs(t, client(), period), newEpochs(t, client(), period)
			inStep(t, a, b)
			if period == time.Hour {
				testkit.Eventually(t, "subscriptions", func() bool {
					n := int64(0)
					for _, s := range cluster.Servers {
						n += s.Client().PubSubNumSub(context.Background(), a.channel()).Val()[a.channel()]
					}
					return n == 2
				})
			}
			for i := range 5 {
				o := tagged(b, fmt.Sprint(i))
				a.invalidate(object.Scope{Tag: fmt.Sprint(i)})
				testkit.Eventually(t, "the invalidation", func() bool { return b.freshness(o) == object.Hard })
			}
		})
	}
}

// An invalidation by one client at a time, and by many, which share round trips.
func BenchmarkInvalidate(b *testing.B) {
	server := redistest.Start(b)
	e := newEpochs(b, redistest.BackgroundClient(b, server.Addr()), replog.DefaultPeriod)
	inStep(b, e)
	var n atomic.Int64
	run := func() {
		e.invalidate(object.Scope{URL: fmt.Sprint("https://example.com/", n.Add(1))})
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
