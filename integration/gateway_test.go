package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// echo is a service that answers with what it was asked.
func echo(t testing.TB) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := hits.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"n": n, "method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "body": string(body), "header": r.Header,
		})
	}))
	t.Cleanup(s.Close)
	return s, &hits
}

// problemOf reads a problem+json body.
func problemOf(t *testing.T, a answer) map[string]any {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("%d: Content-Type %q, want application/problem+json", a.status, ct)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%d: body %q: %v", a.status, a.body, err)
	}
	if p["status"] != float64(a.status) || p["detail"] == "" || p["title"] == "" || p["type"] == "" {
		t.Errorf("problem %v of status %d", p, a.status)
	}
	if id := a.header.Get("X-Request-Id"); id == "" || p["instance"] != id {
		t.Errorf("instance %v, want the request id %q", p["instance"], id)
	}
	return p
}

// limitedAt sends requests until one is limited, and returns it and how many were
// admitted: no more than the limit and what came back meanwhile.
func (g *gateway) limitedAt(t *testing.T, perMinute int, path string, headers ...string) (limited answer, admitted int) {
	t.Helper()
	for began := time.Now(); ; admitted++ {
		limited = g.get(path, headers...)
		if limited.status == http.StatusTooManyRequests {
			return limited, admitted
		}
		if most := perMinute + int(time.Since(began).Minutes()*float64(perMinute)) + 1; admitted >= most {
			t.Fatalf("%d requests were admitted, at most %d may be", admitted+1, most)
		}
	}
}

// What clients of the predecessor rely on.
func TestPredecessorsClients(t *testing.T) {
	backend, _ := echo(t)
	g := services(t, strings.Replace(fullChain, "\t\tratelimit 1000000/1m\n", "", 1), map[string]string{"users": backend.URL},
		"ALLOWED_ORIGINS=https://app.example.com,https://admin.example.com/")
	bearer := "Bearer " + token(t, "ann")

	t.Run("welcome", func(t *testing.T) {
		a := g.get("/")
		var v map[string]any
		if a.status != 200 || json.Unmarshal([]byte(a.body), &v) != nil || v["name"] == nil {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("health", func(t *testing.T) {
		if a := g.get("/health"); a.status != 200 || strings.TrimSpace(a.body) != `{"status":"healthy"}` {
			t.Errorf("%d %s", a.status, a.body)
		}
		for _, path := range []string{"/livez", "/readyz"} {
			if a := g.get(path); a.status != 200 {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
	t.Run("no token", func(t *testing.T) {
		a := g.get("/api/users/1")
		problemOf(t, a)
		if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%d %v", a.status, a.header)
		}
	})
	t.Run("bad token", func(t *testing.T) {
		a := g.get("/api/users/1", "Authorization", bearer+"x")
		problemOf(t, a)
		if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%d %v", a.status, a.header)
		}
	})
	t.Run("unknown service", func(t *testing.T) {
		a := g.get("/api/nobody/1", "Authorization", bearer)
		if problemOf(t, a); a.status != 404 {
			t.Errorf("%d", a.status)
		}
	})
	t.Run("unknown path", func(t *testing.T) {
		a := g.get("/elsewhere")
		if problemOf(t, a); a.status != 404 {
			t.Errorf("%d", a.status)
		}
	})
	t.Run("proxied", func(t *testing.T) {
		a := g.send(http.MethodPut, "/api/users/a%20b?x=1&y=%2F", "text", "Authorization", bearer)
		for _, want := range []string{`"method":"PUT"`, `"path":"/a%20b"`, `"query":"x=1\u0026y=%2F"`, `"body":"text"`} {
			if !strings.Contains(a.body, want) {
				t.Errorf("%d: %s lacks %s", a.status, a.body, want)
			}
		}
	})
	t.Run("cached for its user alone", func(t *testing.T) {
		first := g.get("/api/users/cached", "Authorization", bearer)
		again := g.get("/api/users/cached", "Authorization", bearer)
		if first.status != 200 || again.body != first.body || again.header.Get("Age") == "" || !strings.Contains(again.header.Get("Cache-Status"), "hit") {
			t.Errorf("%d, second answer %v", first.status, again.header)
		}
		other := g.get("/api/users/cached", "Authorization", "Bearer "+token(t, "bob"))
		if other.body == first.body {
			t.Error("bob got ann's answer")
		}
		if a := g.get("/api/users/cached"); a.status != 401 {
			t.Errorf("a cached answer without a token: %d", a.status)
		}
	})
	t.Run("CORS", func(t *testing.T) {
		for origin, want := range map[string]string{
			"https://app.example.com": "https://app.example.com", "https://admin.example.com": "https://admin.example.com", "https://evil.example.com": "",
		} {
			pre := g.send(http.MethodOptions, "/api/users/1", "", "Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
			if got := pre.header.Get("Access-Control-Allow-Origin"); got != want || want != "" && pre.status != 204 {
				t.Errorf("preflight of %s: %d %v", origin, pre.status, pre.header)
			}
			denied := g.get("/api/users/1", "Origin", origin)
			if got := denied.header.Values("Access-Control-Allow-Origin"); denied.status != 401 || strings.Join(got, ",") != want || !strings.Contains(denied.header.Get("Vary"), "Origin") {
				t.Errorf("401 to %s: %v", origin, denied.header)
			}
		}
	})
	t.Run("identity headers", func(t *testing.T) {
		a := g.get("/api/users/id?n=1", "Authorization", bearer, "Connection", "close, X-Request-Id, Authorization", "X-Request-Id", "mine-1")
		if !strings.Contains(a.body, `"X-Request-Id":["mine-1"]`) || a.header.Get("X-Request-Id") != "mine-1" {
			t.Errorf("%v %s", a.header, a.body)
		}
	})
	t.Run("hidden paths", func(t *testing.T) {
		for _, path := range []string{"/api/users/%2e%2e/x", "/api/users/..%2fx", "/api/users/..;/x", "/api/users/a%2fb"} {
			a := g.get(path, "Authorization", bearer)
			if problemOf(t, a); a.status != 400 {
				t.Errorf("%s: %d", path, a.status)
			}
		}
		if a := g.send(http.MethodTrace, "/api/users/x", "", "Authorization", bearer); a.status != 405 {
			t.Errorf("TRACE: %d", a.status)
		}
	})
	t.Run("rate limit", func(t *testing.T) {
		limited, admitted := g.limitedAt(t, 100, "/api/users/many", "Authorization", bearer)
		if admitted < 50 { // the requests above count too
			t.Errorf("limited after %d requests, want 100 a minute", admitted)
		}
		problemOf(t, limited)
		if limited.header.Get("Retry-After") == "" || limited.header.Get("RateLimit") == "" {
			t.Errorf("429: %v", limited.header)
		}
	})
}

func TestMetricsOfTheFeatures(t *testing.T) {
	backend, _ := echo(t)
	g := services(t, fullChain, map[string]string{"users": backend.URL})
	g.get("/api/users/1", "Authorization", "Bearer "+token(t, "ann"))
	g.get("/api/users/1")
	read := func() string { return g.get("/metrics").body }
	for _, name := range []string{"tentagate_jwt_", "tentagate_ratelimit_", "tentagate_http_cache_", "tentagate_circuit_breaker_", "caddy_"} {
		if !strings.Contains(read(), "\n"+name) {
			t.Errorf("no series %s…", name)
		}
	}
	if err := g.reload(fullChain); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tentagate_jwt_", "tentagate_ratelimit_", "tentagate_http_cache_", "tentagate_circuit_breaker_"} {
		if !strings.Contains(read(), "\n"+name) {
			t.Errorf("after a reload: no series %s…", name)
		}
	}
	if strings.Contains(read(), "ann") {
		t.Error("the metrics name a user")
	}
}

func TestOpenBreakerOfOneService(t *testing.T) {
	good, _ := echo(t)
	g := services(t, fullChain, map[string]string{"good": good.URL, "dead": "http://" + freeport.Addr(t)})
	bearer := "Bearer " + token(t, "ann")
	for i := range 5 {
		if a := g.get(fmt.Sprintf("/api/dead/%d", i), "Authorization", bearer); a.status != 502 {
			t.Errorf("request %d: %d", i, a.status)
		} else {
			problemOf(t, a)
		}
	}
	a := g.get("/api/dead/x", "Authorization", bearer)
	problemOf(t, a)
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.header.Get("Proxy-Status") == "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := g.get("/api/good/x", "Authorization", bearer); a.status != 200 {
		t.Errorf("the neighbour: %d", a.status)
	}
}

// Operators can restyle every refusal.
func TestHandleErrors(t *testing.T) {
	backend, _ := echo(t)
	g := start(t, `{
	admin $ADMIN
}
http://$ADDR {
	guard
	jwt_auth {env.JWT_SECRET_KEY}
	reverse_proxy `+strings.TrimPrefix(backend.URL, "http://")+`
	handle_errors {
		respond "sorry: {http.error.status_code}" {http.error.status_code}
	}
}
`, "JWT_SECRET_KEY="+secret)
	a := g.get("/x")
	if a.status != 401 || a.body != "sorry: 401" || a.header.Get("WWW-Authenticate") == "" {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	if a := g.get("/%2e%2e/x"); a.status != 400 || a.body != "sorry: 400" {
		t.Errorf("%d %q", a.status, a.body)
	}
}

// Two gateways on one Redis are one gateway.
func TestTwoInstancesShare(t *testing.T) {
	server := redistest.Start(t)
	backend, _ := echo(t)
	// Redis is waited for however busy the machine is.
	conf := strings.NewReplacer("1000000/1m", "60/1h", "http://$ADDR", "http://:$PORT",
		"admin $ADMIN", "admin $ADMIN\n\ttentagate {\n\t\tredis {env.REDIS_URL} {\n\t\t\tbudget 10s\n\t\t\ttimeout 10s\n\t\t\tdial_timeout 10s\n\t\t}\n\t}").Replace(fullChain)
	const host = "api.example.com" // clients of one gateway see one name
	urls := map[string]string{"users": backend.URL}
	one := services(t, conf, urls, "REDIS_URL="+server.URL())
	two := services(t, conf, urls, "REDIS_URL="+server.URL())
	bearer := "Bearer " + token(t, "ann")

	// A write may be dropped; then something else shows what they share.
	writes := func() (tried int64) {
		var stats struct {
			Redis []struct {
				Writes  int64 `json:"writes"`
				Errors  int64 `json:"write_errors"`
				Dropped int64 `json:"dropped"`
			}
		}
		text := one.adminGet("/tentagate/cache/stats")
		if err := json.Unmarshal([]byte(text), &stats); err != nil || len(stats.Redis) != 1 {
			t.Fatalf("%v: %s", err, text)
		}
		return stats.Redis[0].Writes + stats.Redis[0].Errors + stats.Redis[0].Dropped
	}
	used, path := 0, ""
	testkit.Eventually(t, "the first one's answer at the second", func() bool {
		path = fmt.Sprint("/api/users/shared-", used)
		before := writes()
		first := one.get(path, "Authorization", bearer, "Host", host)
		if first.status != 200 {
			t.Fatalf("%d %s", first.status, first.body)
		}
		testkit.Eventually(t, "the end of the write to Redis", func() bool { return writes() > before })
		used += 2
		return two.get(path, "Authorization", bearer, "Host", host).body == first.body
	})
	passed := used
	for i := range 120 {
		g := one
		if i%2 == 1 {
			g = two
		}
		if g.get(path, "Authorization", bearer, "Host", host).status == 200 {
			passed++
		}
	}
	if passed != 60 {
		t.Errorf("%d requests passed two gateways, want 60", passed)
	}
}

func TestRedisOutage(t *testing.T) {
	server := redistest.Start(t)
	backend, _ := echo(t)
	g := services(t, fullChain, map[string]string{"users": backend.URL}, "REDIS_URL="+server.URL())
	bearer := "Bearer " + token(t, "ann")
	ask := func(when string) {
		t.Helper()
		for i := range 20 {
			if a := g.get(fmt.Sprintf("/api/users/%s-%d", when, i), "Authorization", bearer); a.status != 200 {
				t.Errorf("%s: %d %s", when, a.status, a.body)
			}
		}
		if a := g.get("/readyz"); a.status != 200 {
			t.Errorf("%s: not ready: %s", when, a.body)
		}
	}
	ask("up")
	server.Kill()
	ask("down")
	server.Restart()
	ask("back")
	server.Freeze()
	ask("frozen")
	server.Thaw()
	ask("thawed")
}

// Starts, and stays up, without its Redis.
func TestStartsWithoutRedis(t *testing.T) {
	backend, _ := echo(t)
	g := services(t, fullChain, map[string]string{"users": backend.URL}, "REDIS_URL=redis://"+freeport.Addr(t))
	if a := g.get("/api/users/1", "Authorization", "Bearer "+token(t, "ann")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "redis-password-42")
	backend, _ := echo(t)
	redisURL := strings.Replace(server.URL(), "://", "://:redis-password-42@", 1)
	debug := strings.Replace(fullChain, "admin $ADMIN", "admin $ADMIN\n\tdebug\n\ttentagate {\n\t\tredis {env.REDIS_URL}\n\t}", 1)
	g := services(t, debug, map[string]string{"users": backend.URL}, "REDIS_URL="+redisURL)
	bearer := token(t, "ann-the-subject")
	for _, a := range []string{"Bearer " + bearer, "Bearer " + bearer + "x", ""} {
		g.get("/api/users/1", "Authorization", a)
	}
	if err := g.reload(debug); err != nil {
		t.Fatal(err)
	}
	adapted, err := os.ReadFile(filepath.Join(g.home, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, adapt := cli(t, []string{"JWT_SECRET_KEY=" + secret, "REDIS_URL=" + redisURL, "BACKEND_SERVICES={\"users\":\"" + backend.URL + "\"}"},
		"adapt", "--config", writeFile(t, string(adapted)), "--adapter", "caddyfile")
	if !strings.Contains(adapt, "jwt_auth") {
		t.Errorf("adapt: %s", adapt)
	}
	places := map[string]string{
		"adapt": adapt, "/config/": g.adminGet("/config/"), "the log": g.log.String(), "/metrics": g.get("/metrics").body,
	}
	_ = filepath.WalkDir(g.home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			places[path] = string(text)
		}
		return nil
	})
	for place, text := range places {
		for what, s := range map[string]string{"JWT secret": secret, "Redis password": "redis-password-42", "token": bearer, "token's signature": bearer[strings.LastIndexByte(bearer, '.')+1:]} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows the %s", place, what)
			}
		}
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// `validate` reports errors with exit code 1 and how to fix them.
func TestValidateReportsErrors(t *testing.T) {
	good := []string{"JWT_SECRET_KEY=" + secret, `BACKEND_SERVICES={"users":"http://127.0.0.1:1"}`}
	for _, tc := range []struct {
		name, site string
		env        []string
		want       []string
	}{
		{"none", "tentagate", good, nil},
		{"offline with redis", "tentagate", append([]string{"REDIS_URL=redis://192.0.2.1:6379"}, good...), nil},
		{"unknown option", "tentagate {\n\tratelimitt 1/1m\n}", good, []string{"ratelimitt"}},
		{"missing secret", "tentagate", good[1:], []string{"JWT_SECRET_KEY"}},
		{"short secret", "tentagate", []string{"JWT_SECRET_KEY=short", good[1]}, []string{"32"}},
		{"any origin with credentials", "cors * {\n\tallow_credentials\n}", nil, []string{"allow_credentials"}},
		{"no URL", "tentagate", []string{good[0], `BACKEND_SERVICES={"users":"not a url"}`}, []string{"BACKEND_SERVICES", "users"}},
		{"broken JSON", "tentagate", []string{good[0], `BACKEND_SERVICES={"users":}`}, []string{"BACKEND_SERVICES"}},
		{"duplicate name", "tentagate", []string{good[0], `BACKEND_SERVICES={"users":"http://a","users":"http://b"}`}, []string{"BACKEND_SERVICES", "users"}},
		{"bad redis", "tentagate", append([]string{"REDIS_URL=http://x"}, good...), []string{"redis://"}},
		{"bad limit", "ratelimit 100/never", nil, []string{"100/never"}},
		{"bad ttl", "http_cache soon", nil, []string{"soon"}},
		{"breaker without a name", "circuit_breaker", nil, []string{"circuit_breaker"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out := cli(t, tc.env, "validate", "--adapter", "caddyfile", "--config", writeFile(t, ":8000 {\n"+tc.site+"\n}\n"))
			if want := min(len(tc.want), 1); code != want {
				t.Errorf("exit code %d, want %d\n%s", code, want, out)
			}
			for _, text := range tc.want {
				if !strings.Contains(out, text) {
					t.Errorf("the message does not name %q:\n%s", text, out)
				}
			}
			if strings.Contains(out, secret) {
				t.Error("the message contains the secret")
			}
		})
	}
}

func TestDraining(t *testing.T) {
	backend, _ := echo(t)
	g := services(t, strings.Replace(fullChain, "admin $ADMIN", "admin $ADMIN\n\tshutdown_delay 3s\n\tgrace_period 5s", 1), map[string]string{"users": backend.URL})
	if a := g.get("/readyz"); a.status != 200 {
		t.Fatalf("before: %d", a.status)
	}
	go g.cmd.Process.Signal(os.Interrupt)
	testkit.Eventually(t, "unready while draining", func() bool { return g.get("/readyz").status == 503 })
	if a := g.get("/livez"); a.status != 200 {
		t.Errorf("livez while draining: %d", a.status)
	}
	if a := g.get("/api/users/1", "Authorization", "Bearer "+token(t, "ann")); a.status != 200 {
		t.Errorf("a request while draining: %d", a.status)
	}
	select {
	case err := <-g.ended:
		g.ended = nil
		if err != nil {
			t.Errorf("exit: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}
