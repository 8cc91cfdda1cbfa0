package redis

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// Redis is killed, frozen, emptied, restarted and loses its scripts under load:
// every request gets an answer by the limit, what is admitted stays within the
// bound of an outage, and Redis decides again by itself.
func TestOutage(t *testing.T) {
	for name, fault := range map[string]func(s *redistest.Server) (mend func()){
		"killed":  func(s *redistest.Server) func() { s.Kill(); return s.Restart },
		"frozen":  func(s *redistest.Server) func() { s.Freeze(); return s.Thaw },
		"flushed": func(s *redistest.Server) func() { s.Flush(); return func() {} },
		"restarted": func(s *redistest.Server) func() {
			s.Kill()
			s.Restart()
			return func() {}
		},
		// Every answer takes three budgets.
		"slowed": func(s *redistest.Server) func() {
			c := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: 10 * time.Second})
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				defer c.Close()
				for {
					select {
					case <-stop:
						return
					default:
						_ = c.Eval(context.Background(), busy, nil, 75_000).Err()
					}
				}
			}()
			return func() { close(stop); <-done }
		},
		"scripts gone": func(s *redistest.Server) func() {
			_ = s.Client().ScriptFlush(context.Background()).Err()
			return func() {}
		},
		"connections cut": func(s *redistest.Server) func() {
			_ = s.Client().ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes").Err()
			return func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			e := newTestEngine(t, redistest.RequestClient(t, server.Addr()), false)
			z := e.NewZone("z", 0)
			const rate, burst = 200.0, 100.0
			p := gcratest.Plan(t, gcra.Rate, "200/1s burst 100")
			tr := startTraffic(z, p, Local)
			testkit.Eventually(t, "refusals", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.refused > 50 })
			mend := fault(server)
			if name == "killed" || name == "frozen" || name == "slowed" {
				testkit.Eventually(t, "local decisions", func() bool { return gcra.Source(tr.last.Load()) == gcra.Local })
				tr.mu.Lock()
				n := len(tr.admitted)
				tr.mu.Unlock()
				testkit.Eventually(t, "local admissions", func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return len(tr.admitted) > n+100 })
			}
			mend()
			took := testkit.Eventually(t, "Redis decides again", tr.shared)
			time.Sleep(300 * time.Millisecond)
			tr.end()
			tr.report(t)
			t.Logf("Redis decided again %v after it was back", took)
			if tr.sources[gcra.Unavailable]+tr.sources[gcra.Unchecked] > 0 {
				t.Errorf("sources %v", tr.sources)
			}
			// Redis may have lost its memory once: one more burst.
			if over := worst(tr.admitted, 2*burst, rate); over > 0 {
				t.Errorf("%.1f above the bound of an outage", over)
			}
			// While the counters are kept there is no fresh burst at all: a frozen
			// server has them, and the local share begins where they were.
			if over := worst(tr.admitted, burst+rate*0.3, rate); (name == "frozen" || name == "scripts gone" || name == "connections cut") && over > 0 {
				t.Errorf("%.1f above the limit although nothing was forgotten", over)
			}
		})
	}
}

// busy keeps the server from doing anything else for some microseconds.
const busy = `
local function now() local t = redis.call('TIME'); return t[1] * 1e6 + t[2] end
local begin = now()
while now() - begin < tonumber(ARGV[1]) do end
return 0`

func TestPolicies(t *testing.T) {
	server := redistest.Start(t)
	e := newTestEngine(t, redistest.RequestClient(t, server.Addr()), false)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Rate, "2/1h")
	server.Kill()
	for _, tc := range []struct {
		policy   string
		admitted int
		source   gcra.Source
	}{{Local, 2, gcra.Local}, {Allow, 10, gcra.Unchecked}, {Deny, 0, gcra.Unavailable}} {
		n := 0
		for range 10 {
			var d gcra.Decision
			c := Call{Zone: z, Key: "k" + tc.policy, Plan: p, Cost: 1, OnError: tc.policy, Decision: &d}
			if c.Decide(); d.Source != tc.source {
				t.Fatalf("%s: decided by %v", tc.policy, d.Source)
			}
			if d.Admitted() {
				n++
			}
		}
		if n != tc.admitted {
			t.Errorf("%s: admitted %d, want %d", tc.policy, n, tc.admitted)
		}
	}
}

// Cut off from Redis, four gateways together admit the limit and no more than
// one unit each for rounding.
func TestLocalShare(t *testing.T) {
	server := redistest.Start(t)
	p := gcratest.Plan(t, gcra.Rate, "100/1h")
	var zones []*Zone
	for range 4 {
		e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Instances: func() int { return 4 }})
		t.Cleanup(e.Close)
		zones = append(zones, e.NewZone("z", 0))
	}
	ask := func(z *Zone, key string, n int) (admitted int) {
		for range n {
			var d gcra.Decision
			c := Call{Zone: z, Key: key, Plan: p, Cost: 1, Budget: 5 * time.Second, Decision: &d}
			if c.Decide(); d.Admitted() {
				admitted++
			}
		}
		return admitted
	}
	// Three quarters of one key are used before, as every gateway saw.
	for _, z := range zones {
		ask(z, "used", 18)
	}
	for _, z := range zones {
		ask(z, "used", 1)
	}
	server.Kill()
	fresh, used := 0, 0
	for _, z := range zones {
		fresh += ask(z, "fresh", 60)
		used += ask(z, "used", 60)
	}
	if fresh < 100 || fresh > 104 {
		t.Errorf("a fresh key: the shares of 4 gateways admitted %d of 100", fresh)
	}
	if used > 24+4 || used < 20 {
		t.Errorf("a key of which 76 were used: admitted %d more", used)
	}
}

// A plan with a quota has no fresh burst and no fresh quota either.
func TestLocalQuota(t *testing.T) {
	for _, tc := range []struct {
		limits    []string
		instances int
		used, max int
	}{
		{[]string{"100/1h", "10/month"}, 1, 7, 3},
		{[]string{"100/1h", "10/month"}, 2, 6, 2},
		{[]string{"100/1h", "10/month"}, 3, 10, 0},
		{[]string{"5/10h", "1000/month"}, 1, 3, 2},
		{[]string{"8/10h", "1000/month"}, 2, 4, 2},
	} {
		server := redistest.Start(t)
		e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", Instances: func() int { return tc.instances }})
		t.Cleanup(e.Close)
		z := e.NewZone("z", 0)
		p := gcratest.Plan(t, gcra.Rate, tc.limits...)
		ask := func(n int, budget time.Duration) (admitted int, source gcra.Source) {
			for range n {
				var d gcra.Decision
				c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: budget, Decision: &d}
				if c.Decide(); d.Admitted() {
					admitted++
				}
				source = d.Source
			}
			return admitted, source
		}
		if n, source := ask(tc.used, 5*time.Second); n != tc.used || source != gcra.Shared {
			t.Fatalf("%v: %d admitted by %v", tc.limits, n, source)
		}
		server.Kill()
		if n, source := ask(20, 0); n != tc.max || source != gcra.Local {
			t.Errorf("%v, %d instances, %d used: the share admitted %d, want %d (%v)", tc.limits, tc.instances, tc.used, n, tc.max, source)
		}
	}
}

// What was spent locally is debited when Redis is back.
func TestRecoveryDebits(t *testing.T) {
	for _, tc := range []struct {
		name      string
		algorithm gcra.Algorithm
		limits    []string
		meter     int
		share     int64 // what remains of the share after the outage's requests
	}{
		{"rate", gcra.Rate, []string{"100/10h"}, 0, 50},
		{"window", gcra.Window, []string{"100/10h"}, 0, 60}, // a window's share starts fresh
		{"quota", gcra.Rate, []string{"100/year"}, 0, 50},
		{"rate beside a quota", gcra.Rate, []string{"100/10h", "1000/year"}, 0, 50},
		{"quota beside a window", gcra.Window, []string{"1000/10h", "100/year"}, 1, 50},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A debit whose answer is late is sent again, and then counts twice.
			for n := 1; !recoveryDebits(t, gcratest.Plan(t, tc.algorithm, tc.limits...), tc.meter, tc.share); n++ {
				if n == 3 {
					t.Fatal("too much was debited, each time")
				}
			}
		})
	}
}

// recoveryDebits reports whether no more was debited than was spent.
func recoveryDebits(t *testing.T, p *gcra.Plan, meter int, share int64) bool {
	t.Helper()
	server := redistest.Start(t)
	outages := make(chan bool, 10)
	e := NewEngine(Options{Client: redistest.BackgroundClient(t, server.Addr()), Prefix: "tg", OnOutage: func(down bool) { outages <- down }})
	t.Cleanup(e.Close)
	z := e.NewZone("z", 0)
	ask := func(n int, budget time.Duration) (admitted int, last gcra.Decision) {
		for range n {
			c := Call{Zone: z, Key: "k", Plan: p, Cost: 1, Budget: budget, Decision: &last}
			if c.Decide(); last.Admitted() {
				admitted++
			}
		}
		return admitted, last
	}
	if n, d := ask(10, 5*time.Second); n != 10 || d.Source != gcra.Shared {
		t.Fatalf("%d admitted, %+v", n, d)
	}
	server.Freeze()
	n, d := ask(40, 0)
	if n != 40 || d.Source != gcra.Local || d.Meters[meter].Remaining != share {
		t.Fatalf("%d admitted, %+v", n, d)
	}
	server.Thaw()
	if down := <-outages; !down {
		t.Error("the outage was not reported")
	}
	if down := <-outages; down {
		t.Error("the end of the outage was not reported")
	}
	var left gcra.Decision
	c := Call{Zone: z, Key: "k", Plan: p, Budget: 5 * time.Second, Decision: &left}
	if err := c.Peek(); err != nil {
		t.Fatal(err)
	}
	// The frozen server may also carry out what it had received, of calls that
	// were answered locally: fewer remain then, never more.
	r := left.Meters[meter].Remaining
	if r > 50 {
		t.Errorf("%d remain in Redis, want 50 or a few less", r)
	}
	t.Logf("%d remain in Redis", r)
	return r >= 50-10
}

// While Redis is given up no request is sent to it.
func TestNoRequestWaitsDuringOutage(t *testing.T) {
	server := redistest.Start(t)
	var batches atomic.Int64
	e := NewEngine(Options{Client: redistest.RequestClient(t, server.Addr()), Prefix: "tg", Observe: func(int, time.Duration, error) { batches.Add(1) }})
	t.Cleanup(e.Close)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Rate, "1000000/1s")
	ask := func(n int) {
		for i := range n {
			var d gcra.Decision
			c := Call{Zone: z, Key: strconv.Itoa(i), Plan: p, Cost: 1, Decision: &d}
			c.Decide()
		}
	}
	server.Kill()
	testkit.Eventually(t, "the outage", func() bool { ask(1); return !e.available(0) })
	// A batch is counted after its failure is.
	testkit.Eventually(t, "the end of the last batch", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.inFlight == 0 })
	before := batches.Load()
	ask(1000)
	if n := batches.Load() - before; n != 0 {
		t.Errorf("%d batches were sent", n)
	}
}

// On a Cluster, a node that is gone takes only its own keys with it.
func TestClusterNodeLost(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for _, s := range cluster.Servers {
		// Otherwise all nodes refuse once one is gone.
		if err := s.Client().ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: cluster.Addrs(), MaxRetries: -1, DialerRetries: 1, DialTimeout: 5 * time.Second,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, PoolTimeout: 5 * time.Second,
		ContextTimeoutEnabled: true, MaxRedirects: 3,
	})
	t.Cleanup(func() { _ = client.Close() })
	e := newTestEngine(t, client, true)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Rate, "1000000/1s")
	ask := func(budget time.Duration) (shared, local int) {
		for i := range 200 {
			var d gcra.Decision
			c := Call{Zone: z, Key: strconv.Itoa(i), Plan: p, Cost: 1, Decision: &d, Budget: budget}
			c.Decide()
			switch d.Source {
			case gcra.Shared:
				shared++
			case gcra.Local:
				local++
			}
		}
		return shared, local
	}
	if shared, _ := ask(5 * time.Second); shared != 200 {
		t.Fatalf("%d of 200 decided by the Cluster", shared)
	}
	// Scripts of one node are gone: only its commands are sent again.
	if err := cluster.Servers[1].Client().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if shared, _ := ask(5 * time.Second); shared != 200 {
		t.Fatalf("%d of 200 after one node lost its scripts", shared)
	}
	cluster.Servers[2].Freeze()
	testkit.Eventually(t, "decisions with one node frozen", func() bool {
		shared, local := ask(50 * time.Millisecond)
		t.Logf("one node frozen: %d by the Cluster, %d locally", shared, local)
		return local > 0 && shared >= 60 && slices.ContainsFunc(e.parts[:], func(tag string) bool { return !e.availability.Partition(tag).Writable() })
	})
	cluster.Servers[2].Thaw()
	testkit.Eventually(t, "the node is back", func() bool { shared, _ := ask(5 * time.Second); return shared == 200 })
}
