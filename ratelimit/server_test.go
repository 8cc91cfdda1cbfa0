package ratelimit

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
)

// gateway runs a Caddyfile in this process.
type gateway struct {
	t    testing.TB
	port int
}

func startGateway(t testing.TB, format string, args ...any) *gateway {
	t.Helper()
	g := &gateway{t: t, port: freeport.Get(t)}
	if err := g.load(format, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// load runs the site's directives; global options come before a line of dashes.
func (g *gateway) load(format string, args ...any) error {
	g.t.Helper()
	global, site, ok := strings.Cut(fmt.Sprintf(format, args...), "----")
	if !ok {
		global, site = "", global
	}
	text := fmt.Sprintf("{\nadmin off\npersist_config off\nauto_https off\ndefault_bind 127.0.0.1\nlog {\nlevel ERROR\n}\n%s\n}\n:%d {\n%s\nrespond ok\n}\n", global, g.port, site)
	config, err := servertest.Adapt(text)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

func (g *gateway) get(path string) *http.Response {
	g.t.Helper()
	var resp *http.Response
	var err error
	// A reload of Caddy can lose a connection that is just being made; nothing
	// has counted it.
	for range 3 {
		if resp, err = http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", g.port, path)); err == nil {
			break
		}
	}
	if err != nil {
		g.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

func (g *gateway) statuses(n int, path string) (codes []int) {
	for range n {
		codes = append(codes, g.get(path).StatusCode)
	}
	return codes
}

// adminRequest calls the admin API as its server would.
func adminRequest(t testing.TB, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	admin.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestServerInMemory(t *testing.T) {
	g := startGateway(t, "ratelimit 5/1h\nratelimit /tight 2/1h")
	if codes := g.statuses(4, "/tight"); count(codes, 200) != 2 {
		t.Errorf("/tight: %v", codes)
	}
	resp := g.get("/")
	// A unit comes back every 12 minutes, less what the machine was busy since.
	if got := resp.Header.Get("RateLimit"); !regexp.MustCompile(`^"default(-2)?";r=2;t=(720|7[01][0-9]|6[0-9][0-9])$`).MatchString(got) {
		t.Errorf("RateLimit: %s", got)
	}
	// Other limits, and the counters stay.
	if err := g.load("ratelimit 5/1h\nratelimit /tight 2/1h\nheader X-Reloaded yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.load("ratelimit 5/1h {\n key {nothing\n}"); err == nil {
		t.Error("a broken configuration was loaded")
	}
	if codes := g.statuses(4, "/"); count(codes, 200) != 2 {
		t.Errorf("after the reload: %v", codes)
	}
}

func TestServerWithRedis(t *testing.T) {
	server := redistest.Start(t)
	config := `
	tentagate {
		redis %s {
			timeout 10s
			dial_timeout 10s
		}
	}
	----
	ratelimit {
		zone own
		limit 3/1h
		budget 10s
	}
	ratelimit {
		zone global
		key everybody
		limit 10/1h
		budget 10s
	}`
	g := startGateway(t, config, server.URL())
	if codes := g.statuses(8, "/"); count(codes, 200) != 3 {
		t.Fatalf("%v", codes)
	}
	eachZone(func(z *zone) {
		if z.id != "own" {
			return
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		for h := range z.handlers {
			g := h.group.found.Load()
			if n := len(g.runs[0].handlers); n != 2 {
				t.Errorf("%d handlers are decided together, want 2", n)
			}
		}
	})
	keys, err := server.Client().Keys(t.Context(), "tentagate:ratelimit:*").Result()
	if err != nil || len(keys) != 2 {
		t.Errorf("keys in redis: %v %v", keys, err)
	}
	if err := g.load(config+"\nheader X-Reloaded yes", server.URL()); err != nil {
		t.Fatal(err)
	}
	if code := g.get("/").StatusCode; code != 429 {
		t.Errorf("after a reload: %d", code)
	}

	code, body := adminRequest(t, "GET", "/tentagate/ratelimit/global/everybody")
	var states []keyState
	if err := json.Unmarshal([]byte(body), &states); err != nil || code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if r := states[0].Tiers[0].Limits[0].Remaining; r != 7 {
		t.Errorf("%d of the global limit remain, want 7: refusals of the other zone must not count", r)
	}
	if code, body := adminRequest(t, "DELETE", "/tentagate/ratelimit/own/127.0.0.1"); code != http.StatusNoContent {
		t.Errorf("reset: %d %s", code, body)
	}
	if codes := g.statuses(4, "/"); count(codes, 200) != 3 {
		t.Errorf("after the reset: %v", codes)
	}
	if code, _ := adminRequest(t, "DELETE", "/tentagate/ratelimit/own/192.0.2.1"); code != http.StatusNotFound {
		t.Errorf("reset of an unknown key: %d", code)
	}
	if code, _ := adminRequest(t, "DELETE", "/tentagate/ratelimit/?key=k"); code != http.StatusBadRequest {
		t.Errorf("reset without a zone: %d", code)
	}
	if code, body := adminRequest(t, "GET", "/tentagate/ratelimit/own"); code != 200 || !strings.Contains(body, "127.0.0.1") {
		t.Errorf("top keys: %d %s", code, body)
	}
	if code, body := adminRequest(t, "GET", "/tentagate/ratelimit/"); code != 200 || !strings.Contains(body, "3/1h") {
		t.Errorf("zones: %d %s", code, body)
	}
	if code, _ := adminRequest(t, "GET", "/tentagate/ratelimit/nothing"); code != http.StatusNotFound {
		t.Errorf("unknown zone: %d", code)
	}
	if code, _ := adminRequest(t, "POST", "/tentagate/ratelimit/own/k"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}

	// Without Redis: the local share, then the policy.
	server.Kill()
	if codes := g.statuses(20, "/"); count(codes, 200)+count(codes, 429) != 20 {
		t.Errorf("without redis: %v", codes)
	}
	if err := g.load(config+"\nratelimit {\nzone denied\nlimit 5/1h\non_store_error deny\n}", server.URL()); err != nil {
		t.Fatal(err)
	}
	code, _ = adminRequest(t, "GET", "/tentagate/ratelimit/global/everybody")
	if code != http.StatusServiceUnavailable {
		t.Errorf("admin without redis: %d", code)
	}
}

func TestServerDeny(t *testing.T) {
	server := redistest.Start(t)
	g := startGateway(t, "tentagate {\nredis %s\n}\n----\nratelimit 5/1h {\non_store_error deny\n}", server.URL())
	server.Kill()
	resp := g.get("/")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// At the end of the process nothing is reserved any more: what Redis has as
// used is what was admitted.
func TestServerReturnsLeases(t *testing.T) {
	// On a machine that stalls a lease may end before it is spent: then it is tried again.
	for range 5 {
		if returnsLeases(t) {
			return
		}
	}
	t.Error("more is used in Redis than was admitted, each time")
}

// returnsLeases reports whether Redis has as used what was admitted.
func returnsLeases(t *testing.T) bool {
	t.Helper()
	server := redistest.Start(t)
	g := startGateway(t, "tentagate {\nredis %s {\ntimeout 10s\ndial_timeout 10s\n}\n}\n----\nratelimit {\nzone leased\nlimit 100000/300d\nmode leased\nbudget 10s\n}", server.URL())
	const requests = 400
	if codes := g.statuses(requests, "/"); count(codes, 200) != requests {
		t.Fatalf("%d admitted", count(codes, 200))
	}
	spent := uint64(0)
	eachZone(func(z *zone) { spent = z.redis.LeaseStats().Spent })
	if spent == 0 {
		t.Error("nothing was spent from leases")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	keys := client.Keys(t.Context(), "tentagate:ratelimit:*").Val()
	if len(keys) != 1 {
		t.Fatalf("keys %v", keys)
	}
	tat, err := client.Get(t.Context(), keys[0]).Float64()
	if err != nil {
		t.Fatal(err)
	}
	now := client.Time(t.Context()).Val().Sub(time.Unix(1735689600, 0))
	unit := 300 * 24 * time.Hour / 100000
	used := math.Ceil((tat - float64(now.Microseconds())) / float64(unit.Microseconds()))
	t.Logf("%v units are used in Redis, %d were admitted (%d from leases)", used, requests, spent)
	return used == requests
}

// A gateway that has been through an outage leaves nothing running.
func TestNoGoroutineLeft(t *testing.T) {
	server := redistest.Start(t)
	before := goleak.IgnoreCurrent()
	g := startGateway(t, "tentagate {\nredis %s\n}\n----\nratelimit 100000/1h {\nmode leased\n}\nratelimit 5/1h {\nkey all\n}", server.URL())
	g.statuses(50, "/")
	server.Kill()
	for _, code := range g.statuses(50, "/") {
		if code >= 500 {
			t.Errorf("without redis: %d", code)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	// Caddy's own, which looks after its storage from time to time.
	storage := goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh")
	if err := goleak.Find(before, storage); err != nil {
		t.Error(err)
	}
}

// The decisions of one request share one budget, however many directives there
// are and wherever they stand.
func TestOneBudgetPerRequest(t *testing.T) {
	server := redistest.Start(t)
	site := strings.Builder{}
	const directives, budget = 12, time.Second
	for i := range directives {
		fmt.Fprintf(&site, "route {\nratelimit 5/1h {\nzone budget-%d\nalgorithm sliding_window\nbudget %s\n}\n}\n", i, budget)
	}
	g := startGateway(t, "tentagate {\nredis %s {\ntimeout 1s\n}\n}\n----\n%s", server.URL(), site.String())
	if code := g.get("/").StatusCode; code != 200 {
		t.Fatalf("%d", code)
	}
	server.Freeze()
	defer server.Thaw()
	began := time.Now()
	code := g.get("/").StatusCode
	if took := time.Since(began); code != 200 || took > 3*budget {
		t.Errorf("%d after %v, with a budget of %v", code, took, budget)
	}
}
