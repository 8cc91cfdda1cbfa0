package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// sentinelClient is a client with the settings of the app that asks a Sentinel
// who the master is.
func sentinelClient(t *testing.T, s *redistest.Sentinel) *redis.Client {
	t.Helper()
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: redistest.MasterName, SentinelAddrs: []string{strings.TrimPrefix(s.URL(), "redis://")},
		MaxRetries: -1, DialerRetries: 1, DialTimeout: 250 * time.Millisecond,
		ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond, PoolTimeout: 100 * time.Millisecond,
		ContextTimeoutEnabled: true, PipelinePoolSize: 8,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A master is killed or freezes under load and its replica takes over: no
// request fails, the limit holds on the way there and back, and the new master
// decides.
func TestFailover(t *testing.T) {
	for name, fault := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Kill, "frozen": (*redistest.Server).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t)
			e := newTestEngine(t, sentinelClient(t, sentinel), false)
			z := e.NewZone("z", 0)
			const rate, burst = 200.0, 100.0
			p := gcratest.Plan(t, gcra.Rate, "200/1s burst 100")
			tr := startTraffic(z, p, Local)
			testkit.Eventually(t, "refusals", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.refused > 50 })
			replica := sentinel.Replica.Client()
			testkit.Eventually(t, "the replica has the counters", func() bool { return replica.DBSize(t.Context()).Val() > 0 })
			fault(sentinel.Master)
			tr.waitLocal(t)
			testkit.Eventually(t, "the promotion", func() bool {
				info, err := replica.Info(t.Context(), "replication").Result()
				return err == nil && strings.Contains(info, "role:master")
			})
			took := testkit.Eventually(t, "the new master decides", tr.shared)
			tr.waitMore(t, 100)
			if name == "frozen" {
				// The old master is back and believes that it still is one, until the
				// Sentinel demotes it.
				sentinel.Master.Thaw()
				tr.waitMore(t, 100)
			}
			tr.end()
			tr.report(t)
			t.Logf("the new master decided %v after its promotion", took)
			if tr.sources[gcra.Unavailable]+tr.sources[gcra.Unchecked] > 0 {
				t.Errorf("sources %v", tr.sources)
			}
			// The replica had the counters but for what was on the way to it.
			if over := worst(tr.admitted, burst+rate*0.3, rate); over > 0 {
				t.Errorf("%.1f above the limit", over)
			}
			if n, err := replica.DBSize(t.Context()).Result(); err != nil || n == 0 {
				t.Errorf("the new master has %d keys, %v", n, err)
			}
		})
	}
}

// Connections are reset again and again, what is sent is swallowed, answers come
// late: through a proxy, which the server knows nothing of.
func TestTroubledNetwork(t *testing.T) {
	for name, fault := range map[string]func(p *redistest.Proxy, stop <-chan struct{}){
		"reset": func(p *redistest.Proxy, stop <-chan struct{}) {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
					p.Cut()
				}
			}
		},
		"swallowed": func(p *redistest.Proxy, stop <-chan struct{}) {
			p.Swallow(true)
			<-stop
			p.Swallow(false)
			p.Cut()
		},
		"late": func(p *redistest.Proxy, stop <-chan struct{}) {
			p.Delay(200 * time.Millisecond)
			<-stop
			p.Delay(0)
		},
		// A little less than the budget, and a little more, in turn.
		"now and then late": func(p *redistest.Proxy, stop <-chan struct{}) {
			defer p.Delay(0)
			for d := time.Duration(0); ; d = 50*time.Millisecond - d {
				p.Delay(d)
				select {
				case <-stop:
					return
				case <-time.After(60 * time.Millisecond):
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := redistest.NewProxy(t, server.Addr())
			e := newTestEngine(t, redistest.RequestClient(t, proxy.Addr()), false)
			z := e.NewZone("z", 0)
			const rate, burst = 200.0, 100.0
			tr := startTraffic(z, gcratest.Plan(t, gcra.Rate, "200/1s burst 100"), Local)
			testkit.Eventually(t, "refusals", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.refused > 50 })
			stop, done := make(chan struct{}), make(chan struct{})
			go func() { defer close(done); fault(proxy, stop) }()
			local := func() int { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.sources[gcra.Local] }
			testkit.Eventually(t, "local decisions", func() bool { return local() > 200 })
			close(stop)
			<-done
			testkit.Eventually(t, "Redis decides again", tr.shared)
			tr.waitMore(t, 50)
			tr.end()
			tr.report(t)
			if tr.sources[gcra.Unavailable]+tr.sources[gcra.Unchecked] > 0 {
				t.Errorf("sources %v", tr.sources)
			}
			// Nothing was forgotten, and what was admitted without Redis is debited.
			over := worst(tr.admitted, burst+rate*0.3, rate)
			t.Logf("%d admitted, in the worst window %.1f above the limit less 0.3s", len(tr.admitted), over)
			if over > 0 {
				t.Errorf("%.1f above the limit", over)
			}
		})
	}
}

// A failure now and then does not open the breaker; what was admitted locally
// meanwhile is debited nevertheless.
func TestSporadicFailureIsDebited(t *testing.T) {
	for name, p := range map[string]*gcra.Plan{
		"rate":   gcratest.Plan(t, gcra.Rate, "100/10h"),
		"window": gcratest.Plan(t, gcra.Window, "100/10h"),
		"quota":  gcratest.Plan(t, gcra.Rate, "100/year"),
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			e := newTestEngine(t, redistest.BackgroundClient(t, server.Addr()), false)
			// A debit whose answer is late is sent again, and then counts twice.
			attempts := 5
			for n := 1; !sporadicFailure(t, e, p, strconv.Itoa(n)); n++ {
				if n == attempts {
					t.Fatal("too much was debited, each time")
				}
			}
		})
	}
}

// sporadicFailure reports whether what was admitted locally was debited once.
func sporadicFailure(t *testing.T, e *Engine, p *gcra.Plan, key string) bool {
	t.Helper()
	z := e.NewZone("z", 0)
	ask := func(budget time.Duration) (d gcra.Decision) {
		c := Call{Zone: z, Key: key, Plan: p, Cost: 1, Budget: budget, Decision: &d}
		c.Decide()
		return d
	}
	if d := ask(5 * time.Second); d.Source != gcra.Shared {
		t.Fatalf("%+v", d)
	}
	// No batch is sent, so these are decided without Redis, and Redis never counts
	// them.
	testkit.Eventually(t, "idleness", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.inFlight > 0 {
			return false
		}
		e.inFlight = maxInFlight
		return true
	})
	for range 3 {
		if d := ask(time.Millisecond); d.Source != gcra.Local || !d.Admitted() {
			t.Fatalf("%+v", d)
		}
	}
	e.mu.Lock()
	e.inFlight = 0
	e.mu.Unlock()
	if d := ask(5 * time.Second); d.Source != gcra.Shared {
		t.Fatalf("%+v", d)
	}
	remaining := int64(0)
	testkit.Eventually(t, "the debit", func() bool {
		var d gcra.Decision
		c := Call{Zone: z, Key: key, Plan: p, Budget: 5 * time.Second, Decision: &d}
		if c.Peek() != nil {
			return false
		}
		remaining = d.Meters[0].Remaining
		return remaining <= 95
	})
	t.Logf("%d remain", remaining)
	return remaining == 95
}

// Slots of a Cluster move under load, which means MOVED, ASK and TRYAGAIN: the
// limit holds, and nobody is refused but by it.
func TestReshard(t *testing.T) {
	cluster := redistest.StartCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: cluster.Addrs(), MaxRetries: -1, DialerRetries: 1, DialTimeout: 250 * time.Millisecond,
		ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond, PoolTimeout: 100 * time.Millisecond,
		ContextTimeoutEnabled: true, MaxRedirects: 3,
	})
	t.Cleanup(func() { _ = client.Close() })
	e := newTestEngine(t, client, true)
	z := e.NewZone("z", 0)
	const rate, burst = 200.0, 100.0
	// Keys of partitions in slots of the first node.
	key := ""
	for i := 0; key == ""; i++ {
		k := string(rune('a' + i%26))
		name := e.redisKey(partition("z", k), "z", k)
		if slot, err := client.ClusterKeySlot(context.Background(), name).Result(); err == nil && slot < 1000 {
			key = k
		}
		if i > 26 {
			t.Skip("no key in the slots that move")
		}
	}
	tr := startTrafficOf(z, key, gcratest.Plan(t, gcra.Rate, "200/1s burst 100"), Local)
	testkit.Eventually(t, "refusals", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.refused > 50 })
	cluster.Reshard("2000")
	testkit.Eventually(t, "the Cluster decides", tr.shared)
	tr.waitMore(t, 50)
	tr.end()
	tr.report(t)
	if tr.sources[gcra.Unavailable]+tr.sources[gcra.Unchecked] > 0 {
		t.Errorf("sources %v", tr.sources)
	}
	if over := worst(tr.admitted, burst+rate*0.3, rate); over > 0 {
		t.Errorf("%.1f above the limit", over)
	}
}
