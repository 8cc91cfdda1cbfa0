package redis

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// admission is one request: it was decided at some time in between.
type admission struct{ sent, received time.Duration }

// outcome is what came of the requests of all gateways.
type outcome struct {
	admitted, refused [][]admission // of each key
	asked             int
	took              time.Duration
}

// load describes how a number of gateways is used.
type load struct {
	instances int
	plan      *gcra.Plan
	keys      int
	duration  time.Duration
	pulsed    bool
	leased    bool
	pause     time.Duration // between two requests of one caller
	skew      time.Duration // between two gateways' clocks
	client    func() redis.UniversalClient
	cluster   bool
	callers   int
}

// run sends requests from all gateways.
func (l load) run(t *testing.T) outcome {
	t.Helper()
	if l.callers == 0 {
		l.callers = 6
	}
	o := outcome{admitted: make([][]admission, l.keys), refused: make([][]admission, l.keys)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	name := fmt.Sprintf("z%d", rand.Uint32())
	var zones []*Zone
	for i := range l.instances {
		skew := int64(l.skew) * int64(i)
		e := NewEngine(Options{
			Client: l.client(), Cluster: l.cluster, Prefix: "tg",
			Clock:     func() int64 { return memory.Monotonic() + skew },
			Wall:      func() time.Time { return time.Now().Add(time.Duration(skew)) },
			Instances: func() int { return l.instances },
		})
		t.Cleanup(e.Close)
		z := e.NewZone(name, 0)
		zones = append(zones, z)
		for caller := range l.callers {
			wg.Go(func() {
				admitted, refused := make([][]admission, l.keys), make([][]admission, l.keys)
				n := 0
				for {
					since := time.Since(begin)
					if since > l.duration {
						break
					}
					if l.pulsed && since%(250*time.Millisecond) > 60*time.Millisecond {
						time.Sleep(5 * time.Millisecond)
						continue
					}
					n++
					k := (n + caller) % l.keys
					var d gcra.Decision
					c := Call{Zone: z, Key: strconv.Itoa(k), Plan: l.plan, Cost: 1, Budget: 5 * time.Second, Leased: l.leased, Decision: &d}
					sent := time.Since(begin)
					c.Decide()
					if d.Source == gcra.Local {
						t.Errorf("decided without Redis")
						return
					}
					decided := admission{sent, time.Since(begin)}
					if d.Admitted() {
						admitted[k] = append(admitted[k], decided)
					} else {
						refused[k] = append(refused[k], decided)
					}
					if l.pause > 0 {
						time.Sleep(l.pause)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				o.asked += n
				for k := range admitted {
					o.admitted[k] = append(o.admitted[k], admitted[k]...)
					o.refused[k] = append(o.refused[k], refused[k]...)
				}
			})
		}
	}
	wg.Wait()
	o.took = time.Since(begin)
	if l.leased {
		for _, z := range zones {
			t.Logf("leases: %+v", z.LeaseStats())
		}
	}
	return o
}

// spent returns which part of what the limit allowed was admitted until the last refusal
// of a key, which says that there was nothing left: 0 if nothing was admitted, and 1 if
// nothing was refused. It does not matter for how long the machine stalled afterwards, or
// before the first decision.
func (o outcome) spent(key int, burst, perSecond float64) float64 {
	bySent := func(a, b admission) int { return cmp.Compare(a.sent, b.sent) }
	byReceived := func(a, b admission) int { return cmp.Compare(a.received, b.received) }
	if len(o.admitted[key]) == 0 {
		return 0
	}
	if len(o.refused[key]) == 0 {
		return 1
	}
	last, first := slices.MaxFunc(o.refused[key], bySent), slices.MinFunc(o.admitted[key], byReceived)
	n := 0
	for _, a := range o.admitted[key] {
		if a.sent < last.received {
			n++
		}
	}
	return float64(n) / (burst + perSecond*(last.sent-first.received).Seconds())
}

// overloads reports whether much more was asked for than is allowed, as it is on a machine
// that is not busy itself: on one that is, leases expire unspent.
func (o outcome) overloads(burst, perSecond float64) bool {
	return float64(o.asked) > 2.5*(burst+perSecond*o.took.Seconds())
}

// within returns the most admissions of a key that certainly were in one window.
func (o outcome) within(key int, window time.Duration) (most int) {
	for _, begin := range o.admitted[key] {
		n := 0
		for _, a := range o.admitted[key] {
			if a.sent >= begin.sent && a.received < begin.sent+window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// worst returns by how many units some window exceeds burst + rate × length,
// counting what was certainly decided within it: asked for after its begin and
// answered before its end. It knows the limit as an operator states it, and
// nothing of how it is kept.
func worst(admitted []admission, burst, perSecond float64) float64 {
	slices.SortFunc(admitted, func(a, b admission) int { return int(a.received - b.received) })
	most := -burst
	// Windows that begin where a request was sent and end where one was answered.
	step := max(1, len(admitted)/400)
	for i := 0; i < len(admitted); i += step {
		begin := admitted[i].sent
		n := 0
		for _, a := range admitted {
			if a.sent < begin {
				continue
			}
			n++
			most = max(most, float64(n)-burst-perSecond*(a.received-begin).Seconds())
		}
	}
	return most
}

func TestBound(t *testing.T) {
	server := redistest.Start(t)
	client := func() redis.UniversalClient { return redistest.BackgroundClient(t, server.Addr()) }
	for _, leased := range []bool{false, true} {
		for instances := 1; instances <= 4; instances++ {
			for _, shape := range []string{"steady hot", "pulsed hot", "steady many", "pulsed many"} {
				mode := "strict"
				if leased {
					mode = "leased"
				}
				t.Run(fmt.Sprintf("%s/%d/%s", mode, instances, shape), func(t *testing.T) {
					l := load{instances: instances, duration: 500 * time.Millisecond, leased: leased, client: client}
					l.pulsed = shape[:6] == "pulsed"
					rate, burst := 1500.0, 500.0
					l.keys = 1
					if shape[7:] == "many" {
						l.keys, rate, burst = 20, 100, 50
					}
					l.plan = gcratest.Plan(t, gcra.Rate, fmt.Sprintf("%.0f/1s burst %.0f", rate, burst))
					// About three times as many requests as are allowed.
					l.pause = time.Duration(float64(l.instances*6) / (3 * rate * float64(l.keys)) * float64(time.Second))
					if l.pulsed {
						l.pause /= 4
					}
					o := l.run(t)
					extra := 0.0
					if leased {
						// The documented bound of leases: one life's worth of rate.
						extra = rate * 0.020
					}
					total, allowed := 0, 0.0
					for k := range o.admitted {
						if over := worst(o.admitted[k], burst+extra, rate); over > 0 {
							t.Errorf("key %d: %.1f above the bound in some window", k, over)
						}
						total += len(o.admitted[k])
						allowed += burst + rate*o.took.Seconds()
					}
					part := float64(total) / allowed
					t.Logf("%d asked, %d admitted, %.1f %% of what is allowed", o.asked, total, 100*part)
				})
			}
		}
	}
}

// Under three times as many requests as are allowed, next to nothing of what is
// allowed is lost.
func TestNothingIsLost(t *testing.T) {
	server := redistest.Start(t)
	for _, tc := range []struct {
		leased    bool
		instances int
		least     float64
	}{{false, 1, 0.98}, {false, 2, 0.98}, {false, 3, 0.98}, {false, 4, 0.98}, {true, 1, 0.97}, {true, 2, 0.97}, {true, 3, 0.97}, {true, 4, 0.97}} {
		t.Run(fmt.Sprintf("leased=%v/%d", tc.leased, tc.instances), func(t *testing.T) {
			l := load{
				instances: tc.instances, keys: 1, duration: 2 * time.Second, leased: tc.leased, plan: gcratest.Plan(t, gcra.Rate, "1000/1s"),
				client:  func() redis.UniversalClient { return redistest.BackgroundClient(t, server.Addr()) },
				callers: 24 / tc.instances, pause: 4 * time.Millisecond,
			}
			o := l.run(t)
			part := o.spent(0, 1000, 1000)
			t.Logf("%d asked, %d admitted in %v, %.1f %% of what is allowed", o.asked, len(o.admitted[0]), o.took, 100*part)
			if o.overloads(1000, 1000) && part < tc.least {
				t.Errorf("admitted only %.1f %%", 100*part)
			}
		})
	}
}

// The clocks of the gateways are half a second apart, and it makes no
// difference: Redis' own clock decides.
func TestClockSkew(t *testing.T) {
	server := redistest.Start(t)
	for _, skew := range []time.Duration{0, 500 * time.Millisecond, -500 * time.Millisecond} {
		for _, algorithm := range []gcra.Algorithm{gcra.Rate, gcra.Window} {
			l := load{
				instances: 3, keys: 1, duration: 900 * time.Millisecond, skew: skew, plan: gcratest.Plan(t, algorithm, "100/1s"), pause: 2 * time.Millisecond,
				client: func() redis.UniversalClient { return redistest.BackgroundClient(t, server.Addr()) },
			}
			o := l.run(t)
			if over := worst(o.admitted[0], 100, 100); over > 0 {
				t.Errorf("skew %v, algorithm %d: %.1f above the bound", skew, algorithm, over)
			}
			// That nothing is lost is TestNothingIsLost's to show; here the load need
			// only have been enough to meet the limit.
			if part := o.spent(0, 100, 100); algorithm == gcra.Rate && part < 0.9 {
				t.Errorf("skew %v: only %d admitted, %.1f %%", skew, len(o.admitted[0]), 100*part)
			}
			if n := o.within(0, time.Second); algorithm == gcra.Window && (n > 100 || len(o.admitted[0]) < 100) {
				t.Errorf("skew %v: a window of 100 per second admitted %d in less than one, %d in all", skew, n, len(o.admitted[0]))
			}
		}
	}
}

func TestClusterBound(t *testing.T) {
	cluster := redistest.StartCluster(t)
	client := func() redis.UniversalClient {
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for _, leased := range []bool{false, true} {
		for _, instances := range []int{1, 2, 3, 4} {
			rate, burst := 100.0, 50.0
			l := load{
				instances: instances, keys: 20, duration: 600 * time.Millisecond, client: client, cluster: true, leased: leased,
				plan: gcratest.Plan(t, gcra.Rate, "100/1s burst 50"), pause: time.Duration(instances) * time.Millisecond,
			}
			o := l.run(t)
			total := 0
			if leased {
				burst += rate * 0.020
			}
			for k := range o.admitted {
				total += len(o.admitted[k])
				if over := worst(o.admitted[k], burst, rate); over > 0 {
					t.Errorf("%d instances, key %d: %.1f above the bound", instances, k, over)
				}
			}
			t.Logf("leased %v, %d instances: %d asked, %d admitted of %.0f", leased, instances, o.asked, total, 20*(50+rate*o.took.Seconds()))
		}
	}
	// Every key of a batch is in the slot of its partition.
	for _, s := range cluster.Servers {
		keys, err := s.Client().Keys(t.Context(), "tg:ratelimit:{*").Result()
		if err != nil || len(keys) == 0 {
			t.Errorf("a node has no keys: %v", err)
		}
	}
	// One hot key, in one partition on one node.
	for _, leased := range []bool{false, true} {
		for _, pulsed := range []bool{false, true} {
			l := load{
				instances: 4, keys: 1, duration: 1200 * time.Millisecond, client: client, cluster: true, leased: leased, pulsed: pulsed,
				plan: gcratest.Plan(t, gcra.Rate, "1000/1s"), pause: 4 * time.Millisecond,
			}
			o := l.run(t)
			burst := 1000.0
			if leased {
				burst += 1000 * 0.020
			}
			if over := worst(o.admitted[0], burst, 1000); over > 0 {
				t.Errorf("hot key, leased %v: %.1f above the bound", leased, over)
			}
			part := o.spent(0, 1000, 1000)
			t.Logf("hot key, leased %v, pulsed %v: %d asked, %d admitted in %v, %.1f %% of what is allowed", leased, pulsed, o.asked, len(o.admitted[0]), o.took, 100*part)
			if !pulsed && o.overloads(1000, 1000) && part < 0.97 {
				t.Errorf("hot key, leased %v: only %.1f %% admitted", leased, 100*part)
			}
		}
	}
}

// quiet drops go-redis' own messages about servers that tests stop.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
