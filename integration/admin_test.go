package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/testkit"
)

// adminConf has a service, a key set from a URL, and secrets of all kinds.
const adminConf = `{
	admin $ADMIN
	auto_https off
	tentagate {
		redis redis://ann:s3cret-1-url@127.0.0.1:1 {
			password s3cret-2-redis-password
		}
	}
}
http://$ADDR {
	tentagate {
		service users $SERVICE {
			header_up Authorization "Bearer s3cret-3-header-up"
			header_up X-Api-Key s3cret-4-api-key
			health_uri /health
			health_headers {
				X-Origin-Verify s3cret-5-health-header
			}
		}
		jwt {
			provider keys {
				jwks $SERVICE/jwks.json
				issuer https://keys.example
			}
			provider main {
				secret s3cret-6-jwt-secret-that-is-long-enough
				issuer https://main.example
			}
			deny_list
			dpop {
				nonce s3cret-7-dpop-nonce-secret-long-enough
			}
		}
		public /api/users/public*
	}
	@internal header X-Internal-Key s3cret-8-matcher
	respond @internal ok
	@expression ` + "`{http.request.header.X-Pass} == 's3cret-9-expression'`" + `
	respond @expression ok
	vars upstream_token s3cret-10-variable
	map {header.X-Partner} {partner} {
		s3cret-12-input acme
		~s3cret-13-.* other
	}
	basic_auth /basic/* {
		ann $2a$14$s3cret-11-hash................................................
	}
}
`

// adminService answers as a service and as an identity provider, whose keys fail when
// broken is set.
func adminService(t *testing.T, broken *atomic.Bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/jwks.json" && broken.Load():
			http.Error(w, "down", http.StatusInternalServerError)
		case r.URL.Path == "/jwks.json":
			_, _ = io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
		default:
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Set("Surrogate-Key", "tag-1")
			_, _ = io.WriteString(w, "hello")
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// adminStatus is a part of the status.
type adminStatus struct {
	Config   struct{ Loaded string }
	Services []struct {
		Name, Path string
		Breakers   []struct{ Name, State string } `json:"circuit_breakers"`
		Upstreams  []struct {
			Address string
			Healthy *bool
		}
	}
	Keys []struct {
		URL, Error string
		Keys       int
	}
	Redis []struct{ Partitions []struct{ State string } }
}

func TestAdminAPI(t *testing.T) {
	var broken atomic.Bool
	service := adminService(t, &broken)
	conf := strings.ReplaceAll(adminConf, "$SERVICE", service)
	g := start(t, conf)
	run := func(args ...string) (int, string) { return cli(t, nil, append(args, "--address", g.admin)...) }
	status := func() (s adminStatus) {
		t.Helper()
		if err := json.Unmarshal([]byte(g.adminGet("/tentagate/status")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if r := g.get("/api/users/public?page=1"); r.status != 200 {
		t.Fatalf("the gateway does not work: %d %s", r.status, r.body)
	}

	t.Run("status", func(t *testing.T) {
		testkit.Eventually(t, "keys", func() bool { k := status().Keys; return len(k) == 1 && k[0].Keys == 1 })
		s := status()
		if len(s.Services) != 1 || s.Services[0].Name != "users" || s.Services[0].Path != "/api/users/" || len(s.Services[0].Upstreams) != 1 ||
			"http://"+s.Services[0].Upstreams[0].Address != service || s.Services[0].Upstreams[0].Healthy == nil {
			t.Errorf("services: %+v", s.Services)
		}
		if b := s.Services[0].Breakers; len(b) != 1 || b[0].Name != "users" || b[0].State != "closed" {
			t.Errorf("circuit breakers: %+v", b)
		}
		if len(s.Redis) != 1 || len(s.Redis[0].Partitions) != 1 {
			t.Errorf("Redis: %+v", s.Redis)
		}
		code, out := run("status")
		for _, want := range []string{"VERSION", "users closed", strings.TrimPrefix(service, "http://"), service + "/jwks.json", "127.0.0.1:1", "\nlimits\nZONE ", "\ncache\nTIER "} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%d, without %q:\n%s", code, want, out)
			}
		}
		if code, out = run("status", "--json"); code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("status", "--watch=1ms"); code != 1 || !strings.Contains(out, "--watch: 1ms is not an interval of at least 100ms") {
			t.Errorf("%d %s", code, out)
		}
	})

	t.Run("keys", func(t *testing.T) {
		broken.Store(true)
		defer broken.Store(false)
		code, out := run("keys", "--refresh", service+"/jwks.json")
		if code != 0 || !strings.Contains(out, "500") || !regexp.MustCompile(`jwks\.json\s+1 `).MatchString(out) {
			t.Errorf("a failed refresh: %d %s", code, out)
		}
		broken.Store(false)
		if code, out = run("keys", "--refresh", "all"); code != 0 || strings.Contains(out, "500") {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("keys", "--refresh", "https://other.example"); code != 1 || !strings.Contains(out, "accepted are "+service) {
			t.Errorf("%d %s", code, out)
		}
	})

	t.Run("cache", func(t *testing.T) {
		url := "http://" + g.addr + "/api/users/public?page=1"
		code, out := run("cache", strings.Replace(url, "http:", "https:", 1))
		if code != 0 || !strings.Contains(out, url+"  200     fresh ") || !strings.Contains(out, "tag-1") {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("purge", "--tag", "tag-1"); code != 0 {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("cache", url); code != 0 || !strings.Contains(out, "200     purged ") {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("cache", url+"&other"); code != 0 || !strings.Contains(out, "nothing is stored") {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("cache", "example.com/a"); code != 1 || !strings.Contains(out, "it must begin with http:// or https://") {
			t.Errorf("%d %s", code, out)
		}
		if code, out = run("cache"); code != 0 || !strings.HasPrefix(out, "TIER ") {
			t.Errorf("%d %s", code, out)
		}
	})

	t.Run("no secret in the configuration", func(t *testing.T) {
		plain, masked := g.adminGet("/config/"), g.adminGet("/tentagate/config")
		for i := 1; i <= 13; i++ {
			if secret := fmt.Sprintf("s3cret-%d-", i); !strings.Contains(plain, secret) {
				t.Errorf("%s is not in the configuration", secret)
			}
		}
		all := masked + g.adminGet("/tentagate/status") + g.adminGet("/tentagate/openapi.json")
		if at := strings.Index(all, "s3cret-"); at >= 0 {
			t.Errorf("a secret is shown: %.60s", all[at:])
		}
		for _, want := range []string{`"*****"`, `redis://*****@127.0.0.1:1`, service + "/jwks.json", `"https://main.example"`} {
			if !strings.Contains(masked, want) {
				t.Errorf("the masked configuration has no %s", want)
			}
		}
	})

	t.Run("mistakes change nothing", func(t *testing.T) {
		before := g.adminGet("/config/")
		for _, tc := range []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/status", "", 405},
			{"GET", "/explain", "", 405},
			{"POST", "/explain", `{"url":"/path"}`, 400},
			{"DELETE", "/config", "", 405},
			{"PUT", "/openapi.json", "", 405},
			{"POST", "/cache/stats", "", 405},
			{"POST", "/keys", "", 400},
			{"POST", "/keys?refresh=other", "", 404},
			{"POST", "/docs", "", 400},
			{"POST", "/docs?refresh=other", "", 404},
			{"GET", "/cache/stored", "", 400},
			{"GET", "/cache/stored?url=ftp://h/", "", 400},
			{"POST", "/cache/purge", `{"all":false}`, 400},
			{"POST", "/breakers/users", `{"state":"ajar"}`, 400},
			{"POST", "/breakers/other", `{"state":"open"}`, 404},
			{"DELETE", "/ratelimit/default", "", 400},
			{"DELETE", "/ratelimit/other/key", "", 404},
			{"POST", "/revocations", `{}`, 400},
			{"DELETE", "/revocations", `{"id":"x"}`, 400},
		} {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+g.admin+"/tentagate"+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			var problem struct{ Detail string }
			if resp.StatusCode != tc.status || resp.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
				t.Errorf("%s %s: %d %v %s", tc.method, tc.path, resp.StatusCode, resp.Header, text)
			}
		}
		if g.adminGet("/config/") != before || g.breaker("users", "").State != "closed" {
			t.Error("something changed")
		}
	})

	t.Run("a failed reload is no load", func(t *testing.T) {
		loaded := status().Config.Loaded
		// No interface has the address.
		if err := g.reload(conf + "\nhttp://192.0.2.1:$PORT {\n\tbind 192.0.2.1\n}\n"); err == nil {
			t.Fatal("the configuration loads")
		}
		if now := status().Config.Loaded; loaded == "" || now != loaded {
			t.Errorf("loaded at %s, then %s", loaded, now)
		}
		if err := g.reload(conf); err != nil {
			t.Fatal(err)
		}
		if now := status().Config.Loaded; now == loaded {
			t.Error("a reload does not change the time")
		}
	})
}

const atSocket = `{
	admin unix/$SOCKET
	auto_https off
}
http://$ADDR {
	route {
		jwt_auth ` + secret + ` {
			deny_list
		}
		ratelimit 10/1m {
			zone at_a_socket
		}
		http_cache
		circuit_breaker at_a_socket
		respond ok
	}
}
`

// The commands reach a gateway at its Unix socket too.
func TestAdminUnixSocket(t *testing.T) {
	g := prepare(t)
	socket := filepath.Join(g.home, "admin.sock")
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(g.expand(atSocket), "$SOCKET", socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(nil, "run", "--config", file)
	testkit.Eventually(t, "the admin API", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	for _, tc := range []struct{ command, want string }{
		{"status", "UPTIME"},
		{"cache", "memory"},
		{"keys", "URL"},
		{"purge --all", "purged"},
		{"limits at_a_socket", "UNITS"},
		{"breakers open at_a_socket", "open (forced)"}, // also before the first request
		{"breakers at_a_socket", "open (forced)"},
		{"breakers auto at_a_socket", "closed"},
		{"revoke --sub ann", "revoked until"},
		{"explain " + g.url("/"), "refuses 401"},
	} {
		if code, out := cli(t, nil, append(strings.Fields(tc.command), "--address", "unix/"+socket)...); code != 0 || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %d %s", tc.command, code, out)
		}
	}
	if code, out := cli(t, nil, "status", "--config", file); code != 0 || !strings.Contains(out, "UPTIME") {
		t.Errorf("status with the configuration file: %d %s", code, out)
	}
}

// Every endpoint is in the OpenAPI document, which is well-formed, and the document has
// no others.
func TestAdminOpenAPI(t *testing.T) {
	g := start(t, "{\n\tadmin $ADMIN\n\tauto_https off\n}\nhttp://$ADDR {\n}\n")
	var document struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]operation
		Components struct{ Schemas map[string]any }
	}
	text := g.adminGet("/tentagate/openapi.json")
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	if document.OpenAPI != "3.1.0" || document.Info.Title == "" || document.Info.Version == "" {
		t.Errorf("%s %+v", document.OpenAPI, document.Info)
	}
	for _, ref := range regexp.MustCompile(`"\$ref": "#/components/schemas/([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if document.Components.Schemas[ref[1]] == nil {
			t.Errorf("nothing is at %s", ref[0])
		}
	}
	seen := map[string]bool{}
	for path, operations := range document.Paths {
		for method, o := range operations {
			o.check(t, method, path, seen)
		}
	}

	covered := func(pattern string) bool {
		for path := range document.Paths {
			if path == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern) {
				return true
			}
		}
		return false
	}
	var patterns []string
	only := map[string]bool{} // patterns of one path
	for _, m := range caddy.GetModules("admin.api") {
		router, ok := m.New().(caddy.AdminRouter)
		if !ok || !strings.HasPrefix(m.ID.Name(), "tentagate") {
			continue
		}
		for _, route := range router.Routes() {
			pattern, exact := strings.CutSuffix(route.Pattern, "{$}")
			if exact && document.Paths[pattern] == nil || !exact && !covered(pattern) {
				t.Errorf("%s is not in the document", route.Pattern)
			}
			if exact {
				only[pattern] = true
			} else {
				patterns = append(patterns, pattern)
			}
		}
	}
	for path := range document.Paths {
		if !only[path] && !slices.ContainsFunc(patterns, func(p string) bool { return p == path || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) }) {
			t.Errorf("%s is no endpoint", path)
		}
	}
}

// operation is an operation of an OpenAPI document.
type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   map[string]any
	}
	Responses map[string]struct{ Description string }
}

// check checks what OpenAPI 3.1 asks of an operation.
func (o *operation) check(t *testing.T, method, path string, seen map[string]bool) {
	t.Helper()
	if o.OperationID == "" || seen[o.OperationID] || o.Summary == "" || len(o.Responses) == 0 {
		t.Errorf("%s %s: %+v", method, path, o)
	}
	seen[o.OperationID] = true
	for code, r := range o.Responses {
		if len(code) != 3 || r.Description == "" {
			t.Errorf("%s %s: response %s: %+v", method, path, code, r)
		}
	}
	var inPath []string
	for _, p := range o.Parameters {
		if p.Schema == nil || (p.In == "path") != p.Required || p.In != "path" && p.In != "query" {
			t.Errorf("%s %s: parameter %+v", method, path, p)
		}
		if p.In == "path" {
			inPath = append(inPath, "{"+p.Name+"}")
		}
	}
	if want := regexp.MustCompile(`\{[^}]*\}`).FindAllString(path, -1); !slices.Equal(inPath, want) {
		t.Errorf("%s %s: parameters %v", method, path, inPath)
	}
}
