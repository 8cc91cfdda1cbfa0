package cors

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jub "github.com/jub0bs/cors"
	rs "github.com/rs/cors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

func handler(t *testing.T, block string) *Handler {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	return h
}

// serve sends a request through the handler to a service.
func serve(h *Handler, r *http.Request, service caddyhttp.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	_ = h.ServeHTTP(w, r, service)
	return w
}

func ok(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// allows reads from an answer what a browser would conclude.
func allows(r *http.Request, w *httptest.ResponseRecorder) bool {
	from := r.Header.Get("Origin")
	acao := w.Header()[acAllowOrigin]
	if len(acao) != 1 || acao[0] != "*" && acao[0] != from {
		return false
	}
	if r.Method != http.MethodOptions {
		return true
	}
	method := r.Header.Get(acRequestMethod)
	if !listed(w.Header().Values(acAllowMethods), method) && method != "GET" && method != "HEAD" && method != "POST" {
		return false
	}
	for name := range strings.SplitSeq(r.Header.Get(acRequestHeaders), ",") {
		if name != "" && !listed(w.Header().Values(acAllowHeaders), name) {
			return false
		}
	}
	return true
}

func listed(values []string, name string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.EqualFold(item, name) {
				return true
			}
		}
	}
	return false
}

// Two libraries are asked the same as the handler: what a browser concludes
// from the answers must be the same.
func TestAgainstLibraries(t *testing.T) {
	configs := []struct {
		name, block string
		rs          rs.Options
		jub         jub.Config
	}{
		{
			"exact with credentials", "cors https://app.example.com http://localhost:9090 {\n allow_credentials\n allowed_methods GET POST PUT\n allowed_headers Authorization X-Request-Id Content-Type X-A X-B X-C\n}",
			rs.Options{AllowedOrigins: []string{"https://app.example.com", "http://localhost:9090"}, AllowCredentials: true, AllowedMethods: []string{"GET", "POST", "PUT"}, AllowedHeaders: []string{"Authorization", "X-Request-Id", "Content-Type", "X-A", "X-B", "X-C"}},
			jub.Config{Origins: []string{"https://app.example.com", "http://localhost:9090"}, Credentialed: true, Methods: []string{"GET", "POST", "PUT"}, RequestHeaders: []string{"Authorization", "X-Request-Id", "Content-Type", "X-A", "X-B", "X-C"}},
		},
		{
			"subdomains", "cors https://*.example.com {\n allowed_methods GET DELETE\n allowed_headers Authorization\n}",
			rs.Options{AllowedOrigins: []string{"https://*.example.com"}, AllowedMethods: []string{"GET", "POST", "HEAD", "DELETE"}, AllowedHeaders: []string{"Authorization"}},
			jub.Config{Origins: []string{"https://*.example.com"}, Methods: []string{"GET", "DELETE"}, RequestHeaders: []string{"Authorization"}},
		},
		{
			"any", "cors * {\n allowed_methods *\n allowed_headers X-A\n}",
			rs.Options{AllowedOrigins: []string{"*"}, AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"}, AllowedHeaders: []string{"X-A"}},
			jub.Config{Origins: []string{"*"}, Methods: []string{"*"}, RequestHeaders: []string{"X-A"}},
		},
	}
	origins := []string{"https://app.example.com", "http://localhost:9090", "https://a.b.example.com", "https://example.com", "https://evil.test", "http://app.example.com", "null", "https://app.example.com.evil.test"}
	methods := []string{"GET", "POST", "PUT", "DELETE"}
	fields := []string{"", "authorization", "x-a", "authorization,content-type,x-request-id", "x-unknown"}
	compared := 0
	for _, cfg := range configs {
		h := handler(t, cfg.block)
		service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		rsHandler := rs.New(cfg.rs).Handler(service)
		mw, err := jub.NewMiddleware(cfg.jub)
		if err != nil {
			t.Fatal(err)
		}
		jubHandler := mw.Wrap(service)
		for _, from := range origins {
			for _, method := range methods {
				for _, names := range append(fields, "actual") {
					request := func() *http.Request {
						r := httptest.NewRequest(method, "/x", nil)
						if names != "actual" {
							r = httptest.NewRequest(http.MethodOptions, "/x", nil)
							r.Header.Set(acRequestMethod, method)
							if names != "" {
								r.Header.Set(acRequestHeaders, names)
							}
						}
						r.Header.Set("Origin", from)
						return r
					}
					compared++
					r := request()
					got := allows(r, serve(h, r, ok))
					answers := map[string]bool{}
					for name, oracle := range map[string]http.Handler{"rs": rsHandler, "jub0bs": jubHandler} {
						r, w := request(), httptest.NewRecorder()
						oracle.ServeHTTP(w, r)
						answers[name] = allows(r, w)
					}
					if difference := explain(cfg.name, from, method, names); difference != "" {
						continue
					}
					if got != answers["rs"] || got != answers["jub0bs"] {
						t.Errorf("%s: %s %s %q: got %v, the libraries say %v", cfg.name, from, method, names, got, answers)
					}
				}
			}
		}
	}
	if compared < 200 {
		t.Errorf("only %d requests compared", compared)
	}
	t.Logf("%d requests compared", compared)
}

// explain returns why the libraries answer one request differently, and which
// answer is ours.
func explain(config, from, method, names string) string {
	switch {
	case config == "any" && from == "null":
		return "any origin means any: null too, as the Fetch standard has it"
	case config == "any" && method == "DELETE" || config == "any" && method == "PUT":
		return "rs/cors has no wildcard for methods"
	case config == "exact with credentials" && from == "http://localhost:9090":
		return "jub0bs/cors refuses insecure origins with credentials unless asked twice; it is the operator's choice here"
	case names == "actual" && (method == "PUT" || method == "DELETE"):
		return "rs/cors withholds the fields of an actual request with a method that is not allowed; the preflight has decided that"
	}
	return ""
}

func TestActualRequest(t *testing.T) {
	h := handler(t, "cors https://app.example.com {\n allow_credentials\n}")
	service := func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set(acAllowOrigin, "*")
		w.Header().Add(acAllowOrigin, "https://other.test")
		w.Header().Set(acAllowMethods, "PUT")
		w.Header().Set("Vary", "Accept-Encoding")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	for from, want := range map[string]string{"https://app.example.com": "https://app.example.com", "https://evil.test": "", "": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if from != "" {
			r.Header.Set("Origin", from)
		}
		w := serve(h, r, service)
		if got := strings.Join(w.Header()[acAllowOrigin], "|"); got != want {
			t.Errorf("%q: %s is %q", from, acAllowOrigin, got)
		}
		if w.Header().Get(acAllowMethods) != "" {
			t.Errorf("%q: the service's own fields came through", from)
		}
		if got := w.Header().Values("Vary"); len(got) != 2 || got[1] != "Origin" {
			t.Errorf("%q: Vary %q", from, got)
		}
		if (w.Header().Get(acAllowCredentials) == "true") != (want != "") || (w.Header().Get(acExposeHeaders) != "") != (want != "") {
			t.Errorf("%q: %v", from, w.Header())
		}
	}
}

func TestErrorsCarryTheFields(t *testing.T) {
	h := handler(t, "cors https://app.example.com")
	refuse := func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Retry-After", "3")
		return problem.Error(problem.New(429, "slow down"))
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Origin", "https://app.example.com")
	w := serve(h, r, refuse)
	if w.Code != 429 || len(w.Header()[acAllowOrigin]) != 1 || w.Header().Get("Vary") != "Origin" || w.Header().Get("Retry-After") != "3" {
		t.Errorf("answered here: %d %v", w.Code, w.Header())
	}

	// With an error route, or an outer handler of ours, the error goes on.
	server := &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: caddyhttp.RouteList{{}}}}
	w = httptest.NewRecorder()
	r = httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Origin", "https://app.example.com")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(refuse))
	if !errors.As(err, new(caddyhttp.HandlerError)) || len(w.Header()[acAllowOrigin]) != 1 {
		t.Errorf("passed on: %v %v", err, w.Header())
	}
}

func TestOtherOptions(t *testing.T) {
	h := handler(t, "cors https://app.example.com")
	reached := false
	r := httptest.NewRequest(http.MethodOptions, "/", nil)
	r.Header.Set("Origin", "https://app.example.com")
	serve(h, r, func(w http.ResponseWriter, r *http.Request) error { reached = true; return ok(w, r) })
	if !reached {
		t.Error("OPTIONS without Access-Control-Request-Method is the service's to answer")
	}
}

// Two handlers never share a slice: Caddy's header directive edits in place.
func TestNothingIsShared(t *testing.T) {
	h := handler(t, "cors https://app.example.com")
	for range 2 {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Origin", "https://app.example.com")
		w := serve(h, r, ok)
		for name, values := range w.Header() {
			for i := range values {
				if strings.Contains(values[i], "HACKED") {
					t.Errorf("%s: %q", name, values)
				}
				values[i] = "HACKED"
			}
		}
	}
}

func TestConfiguration(t *testing.T) {
	for block, want := range map[string]string{
		"cors":                            "missing origins",
		"cors {\n}":                       "missing origins",
		"cors app.example.com":            "it has no scheme",
		"cors null":                       "null is not an origin",
		"cors * {\n allow_credentials\n}": "not with allowed_origins *",
		"cors * {\n allowed_origins https://a.test\n}":                     "given more than once",
		"cors * {\n max_age 25h\n}":                                        "24h",
		"cors * {\n max_age never\n}":                                      "not a duration",
		"cors * {\n allow_credentials yes\n}":                              "it takes none",
		"cors * {\n origins\n}":                                            `unknown option "origins"`,
		"cors * {\n allowed_methods\n}":                                    "missing argument",
		"cors * {\n allowed_methods TRACE\n}":                              "never send TRACE",
		"cors * {\n allowed_headers \"a b\"\n}":                            "is not a name",
		"cors https://a.test {\n allow_credentials\n exposed_headers *\n}": "name the fields",
	} {
		h := new(Handler)
		err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block))
		if err == nil {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			if err = h.Provision(ctx); err == nil {
				err = h.Validate()
			}
			cancel()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "*": "[*]", " https://a.test , https://b.test/,": "[https://a.test https://b.test/]", "https://a.test,*": "[*]",
	} {
		if got, err := ParseList(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseList("https://a.test,b.test"); err == nil || !strings.Contains(err.Error(), "item 2") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkNoOrigin(b *testing.B) {
	h := &Handler{AllowedOrigins: []string{"https://app.example.com"}}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: b.Context()})
	defer cancel()
	if err := h.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
	next := caddyhttp.HandlerFunc(ok)
	b.ReportAllocs()
	for b.Loop() {
		_ = h.ServeHTTP(w, r, next)
	}
}
