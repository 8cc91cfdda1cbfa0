package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// Values that no Caddyfile could have are refused when a JSON configuration is
// validated, by an error that names the option.
func TestRatelimitBadJSON(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ option, json string }{
		{"zone", `"zone": "a b", "limits": ["1/1s"]`},
		{"key", `"key": ["{x"], "limits": ["1/1s"]`},
		{"key", `"key": [""], "limits": ["1/1s"]`},
		{"missing_key", `"missing_key": "maybe", "limits": ["1/1s"]`},
		{"limit", `"limits": ["1"]`},
		{"limit", `"limits": ["0/1s"]`},
		{"limit", `"limits": ["10000000/1s"]`},
		{"limit", `"limits": ["1/1s burst 0"]`},
		{"limit", `"limits": ["1/1s", "1/1s", "1/1s", "1/1s", "1/1s", "1/1s", "1/1s", "1/1s", "1/1s"]`},
		{"limit", `"zone": "z"`},
		{"quota", `"quotas": ["1/fortnight"]`},
		{"quota", `"quotas": ["1/day", "2/day"]`},
		{"algorithm", `"algorithm": "leaky", "limits": ["1/1s"]`},
		{"sliding window", `"algorithm": "sliding_window", "limits": ["10001/1h"]`},
		{"sliding window", `"algorithm": "sliding_window", "limits": ["1/1h"], "delay": "1s"`},
		{"store", `"store": "file", "limits": ["1/1s"]`},
		{"store redis", `"store": "redis", "limits": ["1/1s"]`},
		{"mode", `"mode": "loose", "limits": ["1/1s"]`},
		{"mode leased", `"mode": "leased", "limits": ["1/1s"]`},
		{"on_store_error", `"on_store_error": "panic", "limits": ["1/1s"]`},
		{"budget", `"budget": -1, "limits": ["1/1s"]`},
		{"budget", `"budget": "2m", "limits": ["1/1s"]`},
		{"tier", `"tier": {"key": "plan", "limits": {"a": ["1/1s"]}}`},
		{"tier", `"tier": {"key": "{plan}"}, "limits": ["1/1s"]`},
		{"tier a", `"tier": {"key": "{plan}", "limits": {"a": ["1"]}}, "limits": ["1/1s"]`},
		{"tier a", `"tier": {"key": "{plan}", "limits": {"a": ["unlimited", "1/1s"]}}, "limits": ["1/1s"]`},
		{"tier", `"tier": {"key": "{plan}", "limits": {"*": ["1/1s"]}}, "limits": ["1/1s"]`},
		{"exempt", `"exempt": ["10.0.0.0/33"], "limits": ["1/1s"]`},
		{"ipv6_prefix", `"ipv6_prefix": 129, "limits": ["1/1s"]`},
		{"cost", `"cost": "-1", "limits": ["1/1s"]`},
		{"cost", `"cost": "many", "limits": ["1/1s"]`},
		{"count_status", `"count_status": ["600"], "limits": ["1/1s"]`},
		{"max_concurrent", `"max_concurrent": -1, "limits": ["1/1s"]`},
		{"delay", `"delay": -1, "limits": ["1/1s"]`},
		{"delay", `"delay": "61s", "limits": ["1/1s"]`},
		{"delay_queue", `"delay_queue": -1, "delay": "1s", "limits": ["1/1s"]`},
		{"headers", `"headers": "some", "limits": ["1/1s"]`},
		{"max_keys", `"max_keys": -1, "limits": ["1/1s"]`},
		{"limitz", `"limitz": ["1/1s"]`},
	} {
		file := filepath.Join(dir, "config.json")
		config := fmt.Sprintf(`{"apps": {"http": {"servers": {"s": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [{"handler": "ratelimit", %s}]}]}}}}}`, tc.json)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := cli(t, nil, "validate", "--config", file)
		// The last line is the error; those before it may quote the configuration.
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if last := lines[len(lines)-1]; code == 0 || !strings.Contains(last, tc.option) {
			t.Errorf("%s: exit code %d, %s", tc.json, code, last)
		}
	}
}

// A quota is in Redis: neither a reload, nor a restart of the gateway, nor one of
// a Redis that keeps its data takes it away.
func TestRatelimitQuotaPersists(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	config := `{
	admin $ADMIN
	auto_https off
	tentagate {
		redis ` + server.URL() + ` {
			timeout 20s
			dial_timeout 20s
		}
	}
}
http://$ADDR {
	ratelimit {
		zone billing
		key everybody
		quota 5/month
		budget 20s
	}
	respond ok
}
`
	g := start(t, config)
	g.want(3, 3, "/")
	if got := g.get("/").header.Get("RateLimit-Policy"); got != `"billing";q=5` {
		t.Errorf("RateLimit-Policy %s", got)
	}
	if err := g.reload(strings.Replace(config, "respond ok", "respond fine", 1)); err != nil {
		t.Fatal(err)
	}
	g.stop()
	server.Kill()
	server.Restart()
	g = start(t, config)
	g.want(1, 4, "/")
	month := time.Until(time.Now().UTC().AddDate(0, 1, -time.Now().UTC().Day()+1).Truncate(24 * time.Hour))
	ttl, err := server.Client().PTTL(t.Context(), server.Client().Keys(t.Context(), "*billing*").Val()[0]).Result()
	if err != nil || ttl > month+time.Minute || ttl < month-time.Minute {
		t.Errorf("the counter lives %v, the month %v (%v)", ttl, month, err)
	}
}

// outageSite has a path for each way to go on without Redis.
const outageSite = `{
	admin $ADMIN
	auto_https off
	log {
		level ERROR
	}
	metrics
	tentagate {
		redis $REDIS
	}
}
http://$ADDR {
	handle /metrics {
		metrics
	}
	handle /local {
		ratelimit 100/1s {
			zone local
			key everybody
		}
		respond ok
	}
	handle /leased {
		ratelimit 100/1s {
			zone leased
			key everybody
			mode leased
		}
		respond ok
	}
	handle /several {
		ratelimit 100/1s {
			zone one
		}
		ratelimit 50/1s {
			zone two
			key everybody
		}
		ratelimit 50/1s {
			zone three
			algorithm sliding_window
		}
		respond ok
	}
	handle /allow {
		ratelimit 1/1h {
			zone allow
			on_store_error allow
		}
		respond ok
	}
	handle /deny {
		ratelimit 1000000/1s {
			zone deny
			on_store_error deny
		}
		respond ok
	}
}
`

// underLoad are two gateways that share a Redis and have more to do than they
// may.
type underLoad struct {
	t        *testing.T
	gateways []*gateway
	before   []int // goroutines
	stop     chan struct{}
	wg       sync.WaitGroup
	mu       sync.Mutex
	seen     map[string]int
}

func loadGateways(t *testing.T, redis string) *underLoad {
	t.Helper()
	config := strings.ReplaceAll(outageSite, "$REDIS", redis)
	l := &underLoad{t: t, gateways: []*gateway{start(t, config), start(t, config)}, stop: make(chan struct{}), seen: make(map[string]int)}
	testkit.Eventually(t, "Redis decides", l.redisDecides)
	for _, g := range l.gateways {
		g.get("/allow")
	}
	for _, g := range l.gateways {
		l.before = append(l.before, g.goroutines())
		for _, path := range []string{"/local", "/leased", "/several"} {
			l.wg.Go(func() { l.load(g.url(path), path) })
		}
	}
	return l
}

func (l *underLoad) load(url, path string) {
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(3 * time.Millisecond):
		}
		what := path
		if resp, err := http.Get(url); err != nil {
			what += " " + err.Error()
		} else {
			_ = resp.Body.Close()
			what += fmt.Sprint(" ", resp.StatusCode)
		}
		l.mu.Lock()
		l.seen[what]++
		l.mu.Unlock()
	}
}

func (l *underLoad) down(g *gateway) bool {
	return strings.Contains(g.get("/metrics").body, "tentagate_ratelimit_outage 1")
}

func (l *underLoad) redisDecides() bool {
	for _, g := range l.gateways {
		if l.down(g) || g.get("/deny").status != 200 {
			return false
		}
	}
	return true
}

// fault takes Redis away until it decides again.
func (l *underLoad) fault(name string, take, give func()) {
	l.t.Helper()
	take()
	for _, g := range l.gateways {
		testkit.Eventually(l.t, name+": the outage is noticed", func() bool { return l.down(g) })
		if a := g.get("/deny"); a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "http-problem-types#temporary-reduced-capacity") {
			l.t.Errorf("%s, deny: %d %v %s", name, a.status, a.header, a.body)
		}
		// A refusal of Redis stands for up to a second.
		testkit.Eventually(l.t, name+": allow admits", func() bool { return g.statuses(5, "/allow")[200] == 5 })
	}
	give()
	testkit.Eventually(l.t, name+": Redis decides again", l.redisDecides)
}

// end checks that no request failed and that nothing is left running.
func (l *underLoad) end() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.t.Logf("%v", l.seen)
	for what, n := range l.seen {
		if !strings.HasSuffix(what, " 200") && !strings.HasSuffix(what, " 429") {
			l.t.Errorf("%d times %s", n, what)
		}
	}
	if l.seen["/local 200"] == 0 || l.seen["/leased 200"] == 0 || l.seen["/several 200"] == 0 {
		l.t.Errorf("%v", l.seen)
	}
	for i, g := range l.gateways {
		testkit.Eventually(l.t, "no goroutine is left", func() bool {
			http.DefaultClient.CloseIdleConnections()
			return g.goroutines() <= l.before[i]+3 // connections to Redis and to the admin API
		})
	}
}

// Redis is killed, frozen and refuses to write under load of two gateways: with
// local no answer is a 5xx, and the other policies do what they say, until Redis
// is back, without a restart.
func TestRatelimitOutage(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	l := loadGateways(t, server.URL())
	l.fault("killed", server.Kill, server.Restart)
	l.fault("frozen", server.Freeze, server.Thaw)
	l.fault("read-only", func() { admin.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1") }, func() { admin.Do(t.Context(), "REPLICAOF", "NO", "ONE") })
	l.end()
}

// A master is lost under load and its replica takes over.
func TestRatelimitFailover(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	l := loadGateways(t, sentinel.URL()+" {\n\t\t\tsentinel "+redistest.MasterName+"\n\t\t}")
	l.fault("failed over", sentinel.Master.Kill, func() {})
	l.end()
	if n := sentinel.Replica.Client().DBSize(t.Context()).Val(); n == 0 {
		t.Error("the new master has no counters")
	}
}
