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
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// plainScript is the same algorithm for one key and one limit, as one would
// write it for one request at a time.
var plainScript = redis.NewScript(`
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1e6 + t[2]
local T, tau, c = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now elseif tat > now + tau then tat = now + tau end
local wait = tat + c * T - tau - now
if wait > 0 then return { math.ceil(wait), math.ceil(tat - now) } end
tat = tat + c * T
redis.call('SET', KEYS[1], string.format('%.17g', tat), 'PX', math.ceil((tat - now) / 1000))
return { 0, math.ceil(tat - now) }`)

// turn makes total calls of f in n goroutines, and returns how long they took.
func turn(n, total int, f func(i int)) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range n {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(total); i = next.Add(1) {
				f(int(i))
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// Strict decisions against one EVALSHA per request by the same client. They take
// turns, so that a change of the machine's load meets both.
func BenchmarkStrict(b *testing.B) {
	const perTurn = 4096
	server := redistest.Start(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	z := newTestEngine(b, client, false).NewZone("z", 0)
	p := gcratest.Plan(b, gcra.Rate, "1000000/1s")
	ctx := context.Background()
	if err := plainScript.Load(ctx, client).Err(); err != nil {
		b.Fatal(err)
	}
	for _, tc := range []struct{ callers, keys int }{{64, 1000}, {64, 1}, {8, 1000}, {1, 1000}} {
		b.Run(fmt.Sprintf("callers=%d/keys=%d", tc.callers, tc.keys), func(b *testing.B) {
			keys := make([]string, tc.keys)
			for i := range keys {
				keys[i] = "10.0.0." + strconv.Itoa(i)
			}
			var plain, strict time.Duration
			var failed, other atomic.Int64
			turns := 0
			for b.Loop() {
				plain += turn(tc.callers, perTurn, func(i int) {
					if client.EvalSha(ctx, plainScript.Hash(), []string{"plain:" + keys[i%tc.keys]}, 1, 1_000_000, 1).Err() != nil {
						failed.Add(1)
					}
				})
				strict += turn(tc.callers, perTurn, func(i int) {
					var d gcra.Decision
					c := Call{Zone: z, Key: keys[i%tc.keys], Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
					if c.Decide(); d.Source != gcra.Shared {
						other.Add(1)
					}
				})
				turns++
			}
			if failed.Load()+other.Load() > 0 {
				b.Errorf("%d commands failed, and %d decisions were not made by Redis", failed.Load(), other.Load())
			}
			b.ReportMetric(float64(turns*perTurn)/plain.Seconds(), "evalsha/s")
			b.ReportMetric(float64(turns*perTurn)/strict.Seconds(), "decisions/s")
			b.ReportMetric(plain.Seconds()/strict.Seconds(), "ratio")
		})
	}
}

// A key whose units are reserved: no round trip.
func BenchmarkLeased(b *testing.B) {
	server := redistest.Start(b)
	e := newTestEngine(b, redistest.RequestClient(b, server.Addr()), false)
	for _, name := range []string{"one key", "10 keys"} {
		b.Run(name, func(b *testing.B) {
			z := e.NewZone(name, 0)
			p := gcratest.Plan(b, gcra.Rate, "1000000/1s burst 100000000")
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
	e := newTestEngine(b, redistest.RequestClient(b, server.Addr()), false)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(b, gcra.Rate, "1/1h")
	b.ReportAllocs()
	for b.Loop() {
		var d gcra.Decision
		c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: time.Second, Decision: &d}
		c.Decide()
	}
}
