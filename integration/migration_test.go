package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// migrated is what a page on migration says about its Caddyfile.
type migrated struct {
	page string
	// calls are made in turn, with a token where it names a subject.
	calls []migratedCall
}

type migratedCall struct {
	method, path, subject string
	header                map[string]string
	times                 int // at most, until it has the status; default: once
	status                int
	field, value          string
	upstream              string // the path that the service sees
}

// TestMigrations runs the Caddyfile of each page on migration with a service behind
// it, and checks what is said of it.
func TestMigrations(t *testing.T) {
	t.Setenv("JWT_SECRET_KEY", "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa")
	t.Setenv("REDIS_URL", "")
	for _, m := range []migrated{
		{"migration-from-kong.md", []migratedCall{
			{path: "/users/7", status: 401, field: "Www-Authenticate", value: "Bearer"},
			{path: "/users/7", subject: "ann", status: 200, upstream: "/7", field: "Ratelimit-Policy", value: "q=300"},
			{path: "/users2", subject: "ann", status: 404},
			{method: "POST", path: "/users/7", subject: "ann", header: map[string]string{"Content-Length": "9000000"}, status: 413},
			{path: "/catalog/1", status: 200, upstream: "/catalog/1", field: "Cache-Status", value: "stored"},
			{path: "/catalog/1", status: 200, field: "Cache-Status", value: "hit"},
			{method: "POST", path: "/catalog/1", status: 404},
			{path: "/users/7", subject: "bob", header: map[string]string{"Origin": "https://app.example.com"}, status: 200, field: "Access-Control-Allow-Origin", value: "https://app.example.com"},
			{path: "/users/7", subject: "eve", times: 2000, status: 429, field: "Retry-After", value: ""},
		}},
		{"migration-from-ingress-nginx.md", []migratedCall{
			{path: "/users/7", status: 200, upstream: "/7"},
			{path: "/users", status: 200, upstream: "/"},
			{path: "/other", status: 404},
			{path: "/users/7", header: map[string]string{"Origin": "https://evil.example"}, status: 200, field: "-Access-Control-Allow-Origin"},
			{method: "POST", path: "/users/7", header: map[string]string{"Content-Length": "9000000"}, status: 413},
			{path: "/users/7", times: 500, status: 429, field: "Retry-After", value: ""},
		}},
		{"migration-from-krakend.md", []migratedCall{
			{path: "/users/7", status: 401},
			{path: "/users/7", subject: "reader", status: 200, upstream: "/7"},
			{path: "/users/7", subject: "ann", status: 403},
			{path: "/users/7/more", subject: "reader", status: 404},
			{path: "/catalog/1", status: 200, upstream: "/catalog/1"},
			{path: "/catalog/1", status: 200, field: "Cache-Status", value: "hit"},
			{path: "/users/7", subject: "reader", times: 500, status: 429},
		}},
		{"migration-from-caddy-plugins.md", []migratedCall{
			{path: "/a", status: 401},
			{path: "/a", subject: "ann", status: 200, upstream: "/a", field: "Cache-Status", value: "stored"},
			{path: "/a", subject: "ann", status: 200, field: "Cache-Status", value: "hit"},
			{path: "/a", subject: "bob", status: 200, field: "Cache-Status", value: "stored"},
			{path: "/a?access_token=TOKEN", status: 200},
			{path: "/b?access_token=TOKEN", subject: "ann", status: 400},
			{path: "/a", subject: "eve", times: 400, status: 429},
		}},
	} {
		t.Run(m.page, func(t *testing.T) { m.run(t) })
	}
}

// TestMigrationFromFastAPI runs the gateway with the last environment file of its page,
// and checks what the page says stays.
func TestMigrationFromFastAPI(t *testing.T) {
	backend, _ := echo(t)
	environment := ""
	for _, b := range blocks(t) {
		if b.page == "migration-from-fastapi.md" && strings.HasPrefix(b.text, "JWT_SECRET_KEY=") {
			environment = b.text
		}
	}
	g := prepare(t)
	g.admin = g.addr // the admin API is a Unix socket
	environment = strings.NewReplacer("…", secret, "http://users:8000", backend.URL, "http://orders:8000", backend.URL, "REDIS_URL=redis://redis:6379/0\n", "").Replace(environment)
	if err := os.WriteFile(filepath.Join(g.home, ".env"), []byte(environment), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(nil, "gateway", "--listen", g.addr)
	g.waitReady()
	bearer := "Bearer " + token(t, "ann")
	for _, c := range []struct {
		path, authorization string
		status              int
		field, value, body  string
	}{
		{path: "/", status: 200, field: "Content-Type", value: "application/json", body: "TentaGate"},
		{path: "/health", status: 200, body: `{"status":"healthy"}`},
		{path: "/docs", status: 200, field: "Content-Type", value: "text/html"},
		{path: "/openapi.json", status: 200, body: `"openapi"`},
		{path: "/api/users/7?a=b", status: 401, field: "Www-Authenticate", value: "Bearer", body: `"detail"`},
		{path: "/api/nobody/7", authorization: bearer, status: 404, body: "Service not found"},
		{path: "/api/users/7?a=b", authorization: bearer, status: 200, field: "Cache-Status", value: "stored", body: `"path":"/7","query":"a=b"`},
		{path: "/api/users/7?a=b", authorization: bearer, status: 200, field: "Cache-Status", value: "hit"},
		{path: "/api/orders/1", authorization: bearer, status: 200, field: "Access-Control-Allow-Origin", value: "https://app.example.com"},
	} {
		a := g.get(c.path, "Authorization", c.authorization, "Origin", "https://app.example.com")
		if a.status != c.status || !strings.Contains(a.header.Get(c.field), c.value) || !strings.Contains(a.body, c.body) {
			t.Errorf("%s: %d %v %s, want %d, %q in %s, and %q", c.path, a.status, a.header, a.body, c.status, c.value, c.field, c.body)
		}
	}
	if limited, admitted := g.limitedAt(t, 100, "/api/users/many", "Authorization", bearer); admitted < 50 || limited.header.Get("Retry-After") == "" {
		t.Errorf("limited after %d more requests: %v", admitted, limited.header)
	}
}

// run serves the last Caddyfile of the part Both configurations, and makes the calls.
func (m migrated) run(t *testing.T) {
	seen := ""
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.URL.Path
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "ok")
	}))
	defer service.Close()
	gateway := servertest.New(t, m.caddyfile(t, strings.TrimPrefix(service.URL, "http://")))
	for i, c := range m.calls {
		var status int
		var header http.Header
		seen = ""
		for range max(c.times, 1) {
			if status, header = c.do(t, gateway.URL); status == c.status {
				break
			}
		}
		where := fmt.Sprintf("call %d, %s %s of %q", i, c.method, c.path, c.subject)
		if status != c.status {
			t.Errorf("%s: status %d, want %d", where, status, c.status)
		}
		if c.upstream != "" && seen != c.upstream {
			t.Errorf("%s: the service saw the path %q, want %q", where, seen, c.upstream)
		}
		switch name, absent := strings.CutPrefix(c.field, "-"); {
		case absent && header.Get(name) != "":
			t.Errorf("%s: the response has %s: %s", where, name, header.Get(name))
		case !absent && c.field != "" && (header.Get(name) == "" || !strings.Contains(header.Get(name), c.value)):
			t.Errorf("%s: %s is %q, want %q in it", where, name, header.Get(name), c.value)
		}
	}
}

// caddyfile returns the page's Caddyfile with the service in place of the addresses,
// for any host.
func (m migrated) caddyfile(t *testing.T, service string) string {
	t.Helper()
	text := ""
	for _, b := range blocks(t) {
		if b.page == m.page && b.isCaddyfile() {
			text = b.text
		}
	}
	if text == "" {
		t.Fatalf("%s has no Caddyfile", m.page)
	}
	if rest, ok := strings.CutPrefix(text, "{\n"); ok { // the global options: servertest has its own
		_, text, _ = strings.Cut(rest, "\n}\n")
	}
	return strings.NewReplacer("users:8000", service, "catalog:8000", service, "api.example.com {", ":80 {", ":8080 {", ":80 {").Replace(text)
}

func (c migratedCall) do(t *testing.T, url string) (int, http.Header) {
	t.Helper()
	claims := jwt.MapClaims{"iss": "https://issuer.example.com", "sub": c.subject, "exp": time.Now().Add(time.Hour).Unix()}
	if c.subject == "" {
		claims["sub"] = "zoe" // of a token in the query
	}
	if c.subject == "reader" {
		claims["roles"] = []string{"reader"}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(os.Getenv("JWT_SECRET_KEY")))
	if err != nil {
		t.Fatal(err)
	}
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if c.header["Content-Length"] != "" {
		body = strings.NewReader(strings.Repeat("x", 9000000))
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url+strings.Replace(c.path, "TOKEN", token, 1), body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Expect", "100-continue") // the refusal comes before the body
	}
	for name, value := range c.header {
		if name != "Content-Length" {
			r.Header.Set(name, value)
		}
	}
	if c.subject != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, answer.Header
}
