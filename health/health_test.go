package health

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
)

func load(t *testing.T, block string) (*Handler, error) {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		return nil, err
	}
	return h, h.Validate()
}

func ask(h *Handler, method, target, accept string, draining bool) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, &caddyhttp.Server{})
	if draining {
		repl.Set("http.shutting_down", true)
	}
	_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	}))
	return w
}

func TestAnswers(t *testing.T) {
	h, err := load(t, "health")
	if err != nil {
		t.Fatal(err)
	}
	lost := &Handler{Path: h.Path, LivePath: h.LivePath, ReadyPath: h.ReadyPath, redis: new(app.Redis)} // never reached
	required := &Handler{Path: h.Path, LivePath: h.LivePath, ReadyPath: h.ReadyPath, redis: lost.redis, Require: []string{"redis"}}
	lost.run, required.run = lost.serve, required.serve
	for _, tc := range []struct {
		name     string
		h        *Handler
		method   string
		target   string
		accept   string
		draining bool
		status   int
		body     string
	}{
		{"plain", h, "GET", "/health", "", false, 200, `{"status":"healthy"}`},
		{"plain while draining", h, "GET", "/health", "", true, 200, `{"status":"healthy"}`},
		{"plain, lost redis", required, "GET", "/health", "", false, 200, `{"status":"healthy"}`},
		{"HEAD", h, "HEAD", "/health", "", false, 200, ""},
		{"HEAD of readiness", h, "HEAD", "/readyz", "", true, 503, ""},
		{"POST", h, "POST", "/health", "", false, 405, `"status":405`},
		{"OPTIONS", h, "OPTIONS", "/livez", "", false, 405, `"status":405`},
		{"verbose", h, "GET", "/health?verbose", "", false, 200, `{"status":"healthy","checks":{"uptime":[{"componentType":"system","observedValue":`},
		{"by Accept", h, "GET", "/health", "text/html, Application/Health+JSON; q=0.5", false, 200, `{"status":"pass",`},
		{"not by Accept", h, "GET", "/health", "application/health+json;q=0", false, 200, `{"status":"healthy"}`},
		{"any type", h, "GET", "/health", "*/*", false, 200, `{"status":"healthy"}`},
		{"verbose, lost redis", lost, "GET", "/health?verbose=1", "", false, 200, `"redis:connection":[{"componentType":"datastore","status":"warn"}]`},
		{"verbose while draining", h, "GET", "/health?verbose", "", true, 200, `{"status":"warn","notes":["the server is shutting down"],`},
		{"live", h, "GET", "/livez", "", true, 200, `{"status":"alive"}`},
		{"live, lost redis", required, "GET", "/livez", "", false, 200, `{"status":"alive"}`},
		{"ready", h, "GET", "/readyz", "", false, 200, `{"status":"ready"}`},
		{"draining", h, "GET", "/readyz", "", true, 503, `{"status":"draining"}`},
		{"ready, lost redis", lost, "GET", "/readyz", "", false, 200, `{"status":"ready","redis":"warn"}`},
		{"unready, required redis", required, "GET", "/readyz", "", false, 503, `{"status":"unready","redis":"down"}`},
		{"another path", h, "GET", "/health/x", "", false, 418, ""},
		{"another method of another path", h, "POST", "/x", "", false, 418, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := ask(tc.h, tc.method, tc.target, tc.accept, tc.draining)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) || tc.body == "" && w.Body.Len() > 0 {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tc.status, tc.body)
			}
			if tc.status != 418 && w.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
			if (tc.status == 405) != (w.Header().Get("Allow") == "GET, HEAD") {
				t.Errorf("Allow is %q", w.Header().Get("Allow"))
			}
			if tc.status == 200 && tc.body != "" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s is no JSON", w.Body)
			}
		})
	}
}

func TestConfiguration(t *testing.T) {
	if h, err := load(t, "health {\n path /h\n live_path /l\n ready_path /r\n log\n}"); err != nil || ask(h, "GET", "/r", "", false).Code != 200 || ask(h, "GET", "/health", "", false).Code != 418 {
		t.Errorf("own paths: %v", err)
	}
	for block, want := range map[string]string{
		"health x":                        "it takes none",
		"health {\n path\n}":              "missing argument",
		"health {\n live_path a\n}":       "live_path: \"a\" is not a path",
		"health {\n path /livez\n}":       "is the path of another probe",
		"health {\n path /a\n path /b\n}": "given more than once",
		"health {\n path /a/*\n}":         "no wildcards",
		"health {\n require\n}":           "missing argument",
		"health {\n require postgres\n}":  "accepted is redis",
		"health {\n require redis\n}":     "no Redis is configured",
		"health {\n details\n}":           "missing argument",
		"health {\n details off any\n}":   "cannot be combined with other values",
		"health {\n details 10/8\n}":      "is not an address or a network",
		"health {\n log yes\n}":           "it takes none",
		"health {\n probe\n}":             `unknown option "probe"`,
	} {
		if _, err := load(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
}

// Only those who may see details get them; others get the plain response.
func TestDetails(t *testing.T) {
	for details, want := range map[string]bool{"any": true, "private_ranges": false, "off": false, "10.0.0.0/8 192.0.2.1": true} {
		h, err := load(t, "health {\n details "+details+"\n}")
		if err != nil {
			t.Fatal(err)
		}
		for _, accept := range []string{"", "application/health+json"} {
			target := "/health?verbose"
			if accept != "" {
				target = "/health"
			}
			w := ask(h, "GET", target, accept, false) // from 192.0.2.1
			if got := strings.Contains(w.Body.String(), "uptime"); w.Code != 200 || got != want {
				t.Errorf("details %s: %d %s", details, w.Code, w.Body)
			}
		}
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	h := new(Handler)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: b.Context()})
	defer cancel()
	if err := h.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	for _, path := range []string{"/api/users", "/health"} {
		b.Run(path, func(b *testing.B) {
			w := httptest.NewRecorder()
			r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, path, nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
			b.ReportAllocs()
			for b.Loop() {
				w.Body.Reset()
				_ = h.ServeHTTP(w, r, next)
			}
		})
	}
}
