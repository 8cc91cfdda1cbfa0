package integration

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/testkit"
)

const explainConf = `{
	admin unix/$SOCKET
	auto_https off
}
http://$ADDR {
	tentagate {
		service users $SERVICE
		service down $SERVICE
		jwt {
			provider main {
				secret an-explained-secret-that-is-long-enough
				issuer https://main.example
			}
			deny_list
		}
		public /api/users/public* /api/down*
		cors https://app.example.com
		ratelimit 3/1h
	}
}
`

// explained is a part of an answer of the endpoint.
type explained struct {
	Outcome   string
	Status    int
	Detail    string
	Steps     []explainedStep
	Upstreams []struct {
		Address   string
		Available bool
	}
	Fields map[string][]string `json:"response_fields"`
}

type explainedStep struct {
	Handler, At, Result, Reason string
	Status                      int
	Facts                       map[string]string
}

// step returns the last step of a handler, or none.
func (e *explained) step(handler string) (found explainedStep) {
	for _, s := range e.Steps {
		if s.Handler == handler {
			found = s
		}
	}
	return found
}

// A dry run says what a request then gets, and leaves every counter as it was.
func TestExplain(t *testing.T) {
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(service.Close)
	g := prepare(t)
	socket := filepath.Join(g.home, "admin.sock")
	conf := strings.NewReplacer("$SERVICE", service.URL, "$SOCKET", socket).Replace(g.expand(explainConf))
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(nil, "run", "--config", file)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	call := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	testkit.Eventually(t, "the gateway", func() bool {
		status, _ := call("GET", "/tentagate/status", "")
		return status == http.StatusOK && g.owns(g.addr)
	})
	explain := func(q map[string]any) (e explained) {
		t.Helper()
		q["url"] = "http://" + g.addr + q["url"].(string)
		body, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		status, text := call("POST", "/tentagate/explain", string(body))
		if err := json.Unmarshal([]byte(text), &e); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
		if token, ok := q["token"].(string); ok && strings.Contains(text, token) || strings.Contains(text, "s3cret") {
			t.Errorf("a secret is shown: %s", text)
		}
		return e
	}
	token := func(ttl time.Duration) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "iss": "https://main.example", "exp": time.Now().Add(ttl).Unix()}).
			SignedString([]byte("an-explained-secret-that-is-long-enough"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// What a request changes is in the metrics. Those of the process, and of the admin
	// API, change by themselves.
	series := regexp.MustCompile(`(?m)^(tentagate|caddy_http)_[^\n]*$`)
	metrics := func() []string {
		t.Helper()
		_, text := call("GET", "/metrics", "")
		return slices.DeleteFunc(series.FindAllString(text, -1), func(line string) bool { return strings.HasPrefix(line, "tentagate_redis") })
	}

	good, before := token(time.Hour), metrics()
	for name, tc := range map[string]struct {
		request       map[string]any
		outcome       string
		status        int
		handler, says string
	}{
		"allowed":           {map[string]any{"url": "/api/users/1?key=s3cret", "token": good}, "forwarded", 0, "jwt_auth", "main is accepted, user 2bd806c97f0e00af"},
		"the limit":         {map[string]any{"url": "/api/users/1", "token": good}, "forwarded", 0, "ratelimit", "3 left of 3/1h"},
		"the upstream":      {map[string]any{"url": "/api/users/1", "token": good}, "forwarded", 0, "reverse_proxy", strings.TrimPrefix(service.URL, "http://")},
		"the service":       {map[string]any{"url": "/api/users/1", "token": good}, "forwarded", 0, "services", "the service is users"},
		"no token":          {map[string]any{"url": "/api/users/1"}, "refused", 401, "jwt_auth", "a bearer token"},
		"an expired token":  {map[string]any{"url": "/api/users/1", "token": token(-time.Hour)}, "refused", 401, "jwt_auth", "expired"},
		"another signature": {map[string]any{"url": "/api/users/1", "token": good[:len(good)-4] + "AAAA"}, "refused", 401, "jwt_auth", "signature"},
		"a secret field": {
			map[string]any{"url": "/api/users/1", "headers": map[string][]string{"Cookie": {"a=s3cret"}, "X-Api-Key": {"s3cret"}, "Authorization": {"Bearer s3cret"}}},
			"refused", 401, "jwt_auth", "not accepted",
		},
		"an unknown service": {map[string]any{"url": "/api/other/1", "token": good}, "refused", 404, "services", "the services are down, users"},
		"an ambiguous path":  {map[string]any{"url": "/api/users/a%2fx", "token": good}, "refused", 400, "guard", "encoded slash"},
		"a preflight": {
			map[string]any{"url": "/api/users/1", "method": "OPTIONS", "headers": map[string][]string{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"PUT"}}},
			"answered", 204, "cors", "the origin is allowed",
		},
		"another origin": {map[string]any{"url": "/api/users/public", "headers": map[string][]string{"Origin": {"https://evil.example"}}}, "forwarded", 0, "cors", "not allowed"},
		"not cached":     {map[string]any{"url": "/api/users/public/1"}, "forwarded", 0, "http_cache", "nothing is stored"},
		"only if cached": {map[string]any{"url": "/api/users/public/1", "headers": map[string][]string{"Cache-Control": {"only-if-cached"}}}, "refused", 504, "http_cache", "not cached"},
		"a bypass":       {map[string]any{"url": "/api/users/public/1", "headers": map[string][]string{"Cache-Control": {"no-store"}}}, "forwarded", 0, "http_cache", "no-store"},
		"a POST":         {map[string]any{"url": "/api/users/public/1", "method": "POST"}, "forwarded", 0, "http_cache", "invalidates"},
		"a closed one":   {map[string]any{"url": "/api/down/1"}, "forwarded", 0, "circuit_breaker", "the circuit down is closed"},
		"a probe":        {map[string]any{"url": "/livez"}, "answered", 200, "health", "liveness"},
	} {
		e := explain(tc.request)
		s := e.step(tc.handler)
		if e.Outcome != tc.outcome || e.Status != tc.status || !strings.Contains(s.Reason, tc.says) {
			t.Errorf("%s: %s %d: %+v", name, e.Outcome, e.Status, e.Steps)
		}
		if s.At == "" && tc.handler != "services" && tc.handler != "reverse_proxy" {
			t.Errorf("%s: %s has no place", name, tc.handler)
		}
	}
	if now := metrics(); !slices.Equal(now, before) || asked.Load() != 0 {
		t.Errorf("the service was asked %d times, or counters changed:\n%s", asked.Load(), strings.Join(different(before, now), "\n"))
	}
	if _, text := call("GET", "/tentagate/ratelimit/default/127.0.0.1", ""); !strings.Contains(text, `"remaining": 3`) {
		t.Errorf("units were taken: %s", text)
	}
	if _, text := call("GET", "/tentagate/cache/stats", ""); !strings.Contains(text, `"entries": 0`) {
		t.Errorf("something was stored: %s", text)
	}

	// What is left and stored is that of real requests.
	if r := g.get("/api/users/public/1"); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	e := explain(map[string]any{"url": "/api/users/public/1"})
	if s := e.step("http_cache"); e.Outcome != "answered" || e.Status != 200 || s.Facts["cache"] != "hit" || s.Facts["stored"] != "memory" {
		t.Errorf("stored: %+v", e)
	}
	if s := e.step("ratelimit"); s.Facts["remaining"] != "2" {
		t.Errorf("after one request: %+v", s)
	}
	for range 2 {
		g.get("/api/users/public/1")
	}
	for range 2 {
		e = explain(map[string]any{"url": "/api/users/public/1"})
		if s := e.step("ratelimit"); e.Outcome != "refused" || e.Status != 429 || !strings.Contains(s.Reason, "0 left of 3/1h") || len(e.Fields["Retry-After"]) != 1 {
			t.Errorf("over the limit: %+v", e)
		}
	}
	if e = explain(map[string]any{"url": "/api/users/public/1", "client": "203.0.113.9"}); e.Status == 429 {
		t.Errorf("another client: %+v", e)
	}

	if status, text := call("POST", "/tentagate/breakers/down", `{"state":"open","for":"10m"}`); status >= 300 {
		t.Fatalf("%d %s", status, text)
	}
	e = explain(map[string]any{"url": "/api/down/1", "client": "203.0.113.9"})
	if s := e.step("circuit_breaker"); e.Outcome != "refused" || e.Status != 503 || s.Facts["state"] != "open" || len(e.Fields["Retry-After"]) != 1 {
		t.Errorf("open: %+v", e)
	}
	sub, _ := json.Marshal(map[string]string{"sub": "alice"})
	if status, text := call("POST", "/tentagate/revocations", string(sub)); status >= 300 {
		t.Fatalf("%d %s", status, text)
	}
	if e = explain(map[string]any{"url": "/api/users/1", "token": good}); e.Status != 401 || !strings.Contains(e.step("jwt_auth").Reason, "revoked") {
		t.Errorf("revoked: %+v", e)
	}

	t.Run("mistakes", func(t *testing.T) {
		for _, body := range []string{
			``, `{}`, `[]`, `{"url":"/path"}`, `{"url":"ftp://` + g.addr + `/"}`, `{"url":"http://u:p@` + g.addr + `/"}`, `{"url":"http://` + g.addr + `/","x":1}`,
			`{"url":"http://` + g.addr + `/","method":"G T"}`, `{"url":"http://` + g.addr + `/","client":"me"}`,
			`{"url":"http://` + g.addr + `/","headers":{"a b":["c"]}}`, `{"url":"http://` + g.addr + `/","headers":{"A":["c\r\nB: d"]}}`,
			`{"url":"http://` + g.addr + `/","token":"a","headers":{"Authorization":["b"]}}`, `{"url":"http://` + g.addr + `/` + strings.Repeat("a", 200<<10) + `"}`,
		} {
			if status, text := call("POST", "/tentagate/explain", body); status != http.StatusBadRequest || !strings.Contains(text, `"detail"`) {
				t.Errorf("%.80s: %d %s", body, status, text)
			}
		}
		if status, text := call("POST", "/tentagate/explain", `{"url":"http://127.0.0.1:9/"}`); status != http.StatusNotFound || !strings.Contains(text, "listens on") {
			t.Errorf("another port: %d %s", status, text)
		}
		if status, _ := call("GET", "/tentagate/explain", ""); status != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d", status)
		}
	})

	t.Run("command", func(t *testing.T) {
		code, out := cli(t, nil, "explain", "--address", "unix/"+socket, "-H", "Cookie: a=s3cret", g.url("/api/users/1?a=s3cret"))
		for _, want := range []string{"HANDLER", "jwt_auth", "Caddyfile:", "refuses 401", "refused by the gateway: the client gets 401 Unauthorized", "Www-Authenticate: "} {
			if code != 0 || !strings.Contains(out, want) || strings.Contains(out, "s3cret") {
				t.Errorf("no %q: %d\n%s", want, code, out)
			}
		}
		for _, args := range [][]string{{"explain"}, {"explain", "-H", "nothing", g.url("/")}, {"explain", "--token", "-", g.url("/")}, {"explain", "path"}} {
			if code, out := cli(t, nil, append(args, "--address", "unix/"+socket)...); code != 1 || !strings.Contains(out, "Error: ") {
				t.Errorf("%v: %d %s", args, code, out)
			}
		}
	})
}

// different returns the lines of which only one of two lists has one.
func different(a, b []string) (lines []string) {
	for _, line := range a {
		if !slices.Contains(b, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return lines
}
