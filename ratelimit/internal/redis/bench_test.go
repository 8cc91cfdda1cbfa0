package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// callers runs f in n goroutines until b.N calls are made.
func callers(b *testing.B, n int, f func(caller, i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for c := range n {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				f(c, int(i))
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// The batcher against one EVALSHA per request by the same client, 64 callers,
// 1000 keys.
func BenchmarkStrict(b *testing.B) {
	server := redistest.Start(b)
	client := hotClient(b, server.Addr())
	e := newTestEngine(b, client, false)
	z := e.NewZone("z", 0)
	p := plan(b, gcra.Rate, "1000000/1s")
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = "10.0.0." + strconv.Itoa(i)
	}
	patient := redis.NewClient(&redis.Options{Addr: server.Addr()})
	b.Cleanup(func() { _ = patient.Close() })
	ctx := context.Background()
	if err := patient.ScriptLoad(ctx, decideSameSource).Err(); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("plain/callers=%d", n), func(b *testing.B) {
			callers(b, n, func(_, i int) {
				var enc encoder
				enc.reset()
				k := keys[i%1000]
				part := partition("z", k)
				enc.add(take, []subject{{key: e.redisKey(part, "z", k), plan: p, cost: 1}})
				if err := patient.Do(ctx, enc.evalsha()...).Err(); err != nil {
					b.Error(err)
				}
			})
		})
		b.Run(fmt.Sprintf("batched/callers=%d", n), func(b *testing.B) {
			var other atomic.Int64
			callers(b, n, func(_, i int) {
				var d gcra.Decision
				c := Call{Zone: z, Key: keys[i%1000], Plan: p, Cost: 1, Budget: time.Second, Decision: &d}
				c.Decide()
				if d.Source != gcra.Shared {
					other.Add(1)
				}
			})
			if n := other.Load(); n > 0 {
				b.Errorf("%d decisions were not made by Redis", n)
			}
		})
	}
}

// A key whose units are reserved: no round trip.
func BenchmarkLeased(b *testing.B) {
	server := redistest.Start(b)
	e := newTestEngine(b, hotClient(b, server.Addr()), false)
	for _, name := range []string{"one key", "10 keys"} {
		b.Run(name, func(b *testing.B) {
			z := e.NewZone(name, 0)
			p := plan(b, gcra.Rate, "1000000/1s burst 100000000")
			keys := make([]string, 10)
			for i := range keys {
				keys[i] = "10.0.0." + strconv.Itoa(i)
				if name == "one key" {
					keys[i] = "k"
				}
			}
			ask := func(i int) gcra.Source {
				var d gcra.Decision
				c := Call{Zone: z, Key: keys[i%10], Plan: p, Cost: 1, Budget: time.Second, Leased: true, Decision: &d}
				c.Decide()
				return d.Source
			}
			for i := range 200_000 {
				ask(i)
			}
			leased, i := 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if ask(i) == gcra.Lease {
					leased++
				}
				i++
			}
			b.ReportMetric(100*float64(leased)/float64(i), "%leased")
		})
	}
}

// Refusals that are remembered.
func BenchmarkRemembered(b *testing.B) {
	server := redistest.Start(b)
	e := newTestEngine(b, hotClient(b, server.Addr()), false)
	z := e.NewZone("z", 0)
	p := plan(b, gcra.Rate, "1/1h")
	b.ReportAllocs()
	for b.Loop() {
		var d gcra.Decision
		c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: time.Second, Decision: &d}
		c.Decide()
	}
}
