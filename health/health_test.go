package health

import (
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
	lost := *h
	lost.redis = new(app.Redis) // never reached
	required := lost
	required.Require = []string{"redis"}
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
		{"HEAD", h, "HEAD", "/health", "", false, 200, ""},
		{"POST", h, "POST", "/health", "", false, 405, `"status":405`},
		{"verbose", h, "GET", "/health?verbose", "", false, 200, `"uptime"`},
		{"by Accept", h, "GET", "/health", "application/health+json", false, 200, `"uptime"`},
		{"verbose, lost redis", &lost, "GET", "/health?verbose=1", "", false, 200, `"redis:connection":[{"componentType":"datastore","status":"warn"}]`},
		{"live", h, "GET", "/livez", "", true, 200, "alive"},
		{"live, lost redis", &required, "GET", "/livez", "", false, 200, "alive"},
		{"ready", h, "GET", "/readyz", "", false, 200, `{"status":"ready"}`},
		{"draining", h, "GET", "/readyz", "", true, 503, "draining"},
		{"ready, lost redis", &lost, "GET", "/readyz", "", false, 200, `"redis":"warn"`},
		{"unready, required redis", &required, "GET", "/readyz", "", false, 503, `"redis":"down"`},
		{"another path", h, "GET", "/health/x", "", false, 418, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := ask(tc.h, tc.method, tc.target, tc.accept, tc.draining)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) || tc.body == "" && w.Body.Len() > 0 {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tc.status, tc.body)
			}
			if tc.status != 418 && w.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
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
		"health {\n path a\n}":            "begin with a slash",
		"health {\n path /livez\n}":       "each probe needs its own",
		"health {\n path /a\n path /b\n}": "given more than once",
		"health {\n require postgres\n}":  "accepted is redis",
		"health {\n require redis\n}":     "there is no Redis",
		"health {\n log yes\n}":           "it takes none",
		"health {\n probe\n}":             `unknown option "probe"`,
	} {
		if _, err := load(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
}
