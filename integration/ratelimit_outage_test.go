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
		{"count status", `"count_status": ["600"], "limits": ["1/1s"]`},
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
		redis ` + server.URL() + `
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

// Redis is killed, frozen and refuses to write under load of two gateways: with
// local no answer is a 5xx, and the other policies do what they say, until Redis
// is back, without a restart.
func TestRatelimitOutage(t *testing.T) {
	server := redistest.Start(t)
	config := `{
	admin $ADMIN
	auto_https off
	log {
		level ERROR
	}
	metrics
	tentagate {
		redis ` + server.URL() + `
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
	gateways := []*gateway{start(t, config), start(t, config)}
	down := func(g *gateway) bool { return strings.Contains(g.get("/metrics").body, "tentagate_ratelimit_outage 1") }
	redisDecides := func() bool {
		for _, g := range gateways {
			if down(g) || g.get("/deny").status != 200 {
				return false
			}
		}
		return true
	}
	eventually(t, "Redis decides", redisDecides)
	for _, g := range gateways {
		g.get("/allow")
	}
	var before []int
	for _, g := range gateways {
		before = append(before, g.goroutines())
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for _, g := range gateways {
		for _, path := range []string{"/local", "/leased", "/several"} {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(3 * time.Millisecond):
					}
					resp, err := http.Get(g.url(path))
					var what string
					if err != nil {
						what = fmt.Sprintf("%s %v", path, err)
					} else {
						_ = resp.Body.Close()
						what = fmt.Sprintf("%s %d", path, resp.StatusCode)
					}
					mu.Lock()
					seen[what]++
					mu.Unlock()
				}
			})
		}
	}
	for _, fault := range []struct {
		name       string
		take, give func()
	}{
		{"killed", server.Kill, server.Restart},
		{"frozen", server.Freeze, server.Thaw},
		{"read-only", func() { server.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1") }, func() { server.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE") }},
	} {
		fault.take()
		for _, g := range gateways {
			eventually(t, fault.name+": the outage is noticed", func() bool { return down(g) })
			if a := g.get("/deny"); a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "http-problem-types#temporary-reduced-capacity") {
				t.Errorf("%s, deny: %d %v %s", fault.name, a.status, a.header, a.body)
			}
			// A refusal of Redis stands for up to a second.
			eventually(t, fault.name+": allow admits", func() bool { return g.statuses(5, "/allow")[200] == 5 })
		}
		fault.give()
		eventually(t, fault.name+": Redis decides again", redisDecides)
	}
	close(stop)
	wg.Wait()
	t.Logf("%v", seen)
	for what, n := range seen {
		if !strings.HasSuffix(what, " 200") && !strings.HasSuffix(what, " 429") {
			t.Errorf("%d times %s", n, what)
		}
	}
	if seen["/local 200"] == 0 || seen["/leased 200"] == 0 || seen["/several 200"] == 0 {
		t.Errorf("%v", seen)
	}
	http.DefaultClient.CloseIdleConnections()
	for i, g := range gateways {
		eventually(t, "no goroutine is left", func() bool {
			http.DefaultClient.CloseIdleConnections()
			return g.goroutines() <= before[i]+3 // connections to Redis and to the admin API
		})
	}
}
