package rediscache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// load requests a thousand URLs of gateways in a loop, and checks each response.
type load struct {
	t        testing.TB
	gateways []*gatewayProcess
	phase    atomic.Value
	stop     chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	took  map[string][]time.Duration
	order []string
}

// paths is how many URLs there are.
const paths = 1000

// startLoad begins once the gateways have answered some requests.
func startLoad(t testing.TB, gateways ...*gatewayProcess) *load {
	l := &load{t: t, gateways: gateways, stop: make(chan struct{}), took: map[string][]time.Duration{}}
	l.set("well")
	for g := range 6 {
		l.wg.Go(func() {
			for i := g; ; i += 7 {
				select {
				case <-l.stop:
					return
				default:
				}
				l.one(gateways[i%len(gateways)], "/"+strconv.Itoa(i%paths))
			}
		})
	}
	l.wait("well", 1500)
	return l
}

func (l *load) one(g *gatewayProcess, path string) {
	began, name := time.Now(), l.phase.Load().(string)
	r, err := g.do(http.MethodGet, path)
	d := time.Since(began)
	if err != nil || r.status != http.StatusOK || r.body != path+" version 0" {
		l.t.Errorf("%s: %s: %d %q %v", name, path, r.status, r.body, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[name] = append(l.took[name], d)
}

func (l *load) set(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order = append(l.order, name)
	l.phase.Store(name)
}

// wait waits for n answers in the phase.
func (l *load) wait(name string, n int) {
	l.t.Helper()
	testkit.Eventually(l.t, name, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.t.Failed() || len(l.took[name]) > n
	})
}

// inUse reports whether all gateways use Redis.
func (l *load) inUse() bool {
	for _, g := range l.gateways {
		if s := g.stats(); s.Redis[0].Away || !s.Invalidation[0].Ready {
			return false
		}
	}
	return true
}

// run begins and ends a fault while the load goes on. It begins when Redis is in use
// again, so that no fault is hidden by the one before.
func (l *load) run(name string, begin, end func()) {
	l.t.Helper()
	testkit.Eventually(l.t, "Redis in use before "+name, func() bool { return l.t.Failed() || l.inUse() })
	begin()
	l.set(name)
	l.wait(name, 1500)
	end()
	l.set("well after " + name)
	l.wait("well after "+name, 300)
}

// end ends the load and tells how long answers took. It waits until the
// gateways have no more goroutines than they had before.
func (l *load) end(goroutines []int) {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	for i, g := range l.gateways {
		testkit.Eventually(l.t, "the end of what began during the fault", func() bool {
			return g.goroutines() <= goroutines[i]+20 && g.stats().Arriving == 0
		})
	}
	p99 := func(list []time.Duration) time.Duration { return list[len(list)*99/100] }
	var well time.Duration
	for _, name := range l.order {
		list := l.took[name]
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		if name == "well" {
			well = p99(list)
		}
		l.t.Logf("%-30s %6d requests, p50 %8v, p99 %8v (%+8v), longest %8v", name, len(list),
			list[len(list)/2].Round(time.Microsecond), p99(list).Round(time.Microsecond), (p99(list) - well).Round(time.Microsecond), list[len(list)-1].Round(time.Microsecond))
	}
}

var goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

func (g *gatewayProcess) goroutines() int {
	g.t.Helper()
	resp, err := replicaClient.Get("http://" + g.admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	m := goroutineTotal.FindSubmatch(text)
	if m == nil {
		g.t.Fatalf("no number of goroutines in %.100q", text)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

func goroutinesOf(gateways ...*gatewayProcess) (list []int) {
	for _, g := range gateways {
		list = append(list, g.goroutines())
	}
	return list
}

// Whatever happens to Redis under load, every answer is right and none is an
// error.
func TestGatewaysWhileRedisFails(t *testing.T) {
	redisServer := redistest.Start(t, "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru", "--enable-debug-command", "yes")
	proxy := redistest.NewProxy(t, redisServer.Addr())
	origin := newVersions(t)
	site := "http_cache {\n\t\tmemory 1MiB\n\t\tmax_object_size 16KiB\n\t}\n\treverse_proxy " + origin.URL
	gateways := []*gatewayProcess{startGateway(t, proxy.URL(), site), startGateway(t, proxy.URL(), site)}
	l := startLoad(t, gateways...)
	before := goroutinesOf(gateways...)

	nothing := func() {}
	ctx := context.Background()
	admin := redisServer.Client()
	l.run("frozen", redisServer.Freeze, redisServer.Thaw)
	l.run("killed", redisServer.Kill, redisServer.Restart)
	l.run("slow, 5ms each way", func() { proxy.Delay(5 * time.Millisecond) }, func() { proxy.Delay(0) })
	l.run("slow, 200ms each way", func() { proxy.Delay(200 * time.Millisecond) }, func() { proxy.Delay(0) })
	l.run("swallowed", func() { proxy.Swallow(true) }, func() { proxy.Swallow(false); proxy.Cut() })
	l.run("connections cut", proxy.Cut, nothing)
	l.run("flushed", redisServer.Flush, nothing)
	fill := func() {
		for i := range 100 {
			admin.Set(ctx, "filler"+strconv.Itoa(i), strings.Repeat("x", 100_000), 0)
		}
	}
	l.run("full, allkeys-lru", fill, nothing)
	l.run("full, noeviction", func() {
		if err := admin.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err(); err != nil {
			t.Fatal(err)
		}
		fill()
	}, func() { redisServer.Flush() })
	corrupt := func() {
		for _, key := range admin.Keys(ctx, "*:v:*").Val() {
			admin.SetRange(ctx, key, 20, "\x00\xff\x00")
		}
	}
	l.run("corrupted", corrupt, nothing)
	testkit.Eventually(t, "reading what is corrupted", func() bool {
		if t.Failed() || gateways[0].stats().Redis[0].Corrupt > 0 {
			return true
		}
		corrupt()
		return false
	})
	l.run("busy", func() { go redisServer.Client().Do(ctx, "DEBUG", "SLEEP", "1") }, nothing)
	l.end(before)

	var hits, skipped, late, evictions, refused int64
	for _, g := range gateways {
		s := g.stats()
		hits += s.Redis[0].Hits
		skipped += s.Redis[0].Skipped
		late += s.Redis[0].Late + s.Redis[0].Errors
		refused += s.Redis[0].WriteErrors
		evictions += s.Memory.Evictions
	}
	if hits == 0 || skipped == 0 || late == 0 || evictions == 0 || refused == 0 {
		t.Errorf("the second tier was not in use, or had no faults: %d hits, %d skipped, %d late, %d evicted, %d refused", hits, skipped, late, evictions, refused)
	}
}

// purgedAcross purges at one gateway and sees that at the other.
func purgedAcross(t *testing.T, origin *versions, a, b *gatewayProcess) {
	t.Helper()
	testkit.Eventually(t, "a hit at both", func() bool { return a.get("/purged").hit() && b.get("/purged").hit() })
	version := origin.version.Add(1)
	a.purge(`{"tag":"purged"}`)
	want := fmt.Sprint("/purged version ", version)
	if r := a.get("/purged"); r.body != want {
		t.Errorf("here: %+v", r)
	}
	testkit.Eventually(t, "the other gateway", func() bool { return b.get("/purged").body == want })
}

// A master is lost under load, and its replica takes over.
func TestGatewaysFailover(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	origin := newVersions(t)
	site := "http_cache {\n\t\tmemory 1MiB\n\t\tmax_object_size 16KiB\n\t}\n\treverse_proxy " + origin.URL
	settings := sentinel.URL() + " {\n\t\t\tsentinel " + redistest.MasterName + "\n\t\t}"
	gateways := []*gatewayProcess{startGateway(t, settings, site), startGateway(t, settings, site)}
	l := startLoad(t, gateways...)
	before := goroutinesOf(gateways...)
	hits := func() (n int64) {
		for _, g := range gateways {
			n += g.stats().Redis[0].Hits
		}
		return n
	}
	testkit.Eventually(t, "hits in Redis", func() bool { return hits() > 100 })
	l.run("failed over", sentinel.Master.Kill, func() {
		had := hits()
		testkit.Eventually(t, "hits in the new master", func() bool { return t.Failed() || hits() > had+100 })
	})
	l.end(before)
	purgedAcross(t, origin, gateways[0], gateways[1])
}

// Slots of a Cluster move under load.
func TestGatewaysReshard(t *testing.T) {
	cluster := redistest.StartCluster(t)
	origin := newVersions(t)
	site := "http_cache {\n\t\tmemory 1MiB\n\t\tmax_object_size 16KiB\n\t}\n\treverse_proxy " + origin.URL
	settings := strings.Join(cluster.URLs(), " ")
	gateways := []*gatewayProcess{startGateway(t, settings, site), startGateway(t, settings, site)}
	l := startLoad(t, gateways...)
	before := goroutinesOf(gateways...)
	l.run("slots move", func() {}, func() { cluster.Reshard("1500") })
	l.end(before)
	if s := gateways[0].stats(); s.Redis[0].Hits == 0 {
		t.Errorf("%+v", s.Redis[0])
	}
	testkit.Eventually(t, "Redis in use after the move", l.inUse)
	purgedAcross(t, origin, gateways[1], gateways[0])
}
