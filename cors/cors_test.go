package cors

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/servertest"
)

func handler(t *testing.T, block string) *Handler {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		t.Fatal(err)
	}
	if err := provision(t, h); err != nil {
		t.Fatal(err)
	}
	return h
}

func provision(t testing.TB, h *Handler) error {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		return err
	}
	return h.Validate()
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

// The fields are there however the answer begins.
func TestEveryBeginning(t *testing.T) {
	h := handler(t, "cors https://app.example.com")
	for name, begin := range map[string]caddyhttp.HandlerFunc{
		"header": ok,
		"body": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.WriteString(w, "x")
			return err
		},
		"flush": func(w http.ResponseWriter, _ *http.Request) error { return http.NewResponseController(w).Flush() },
		"copy": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("x"))
			return err
		},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Origin", "https://app.example.com")
		// Result has the header as it was sent, not what was added later.
		if got := serve(h, r, begin).Result().Header.Get(acAllowOrigin); got != "https://app.example.com" {
			t.Errorf("%s: got %q", name, got)
		}
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

// Where every origin is allowed, one answer is for all: a cache may keep it.
func TestAnyOriginAnswersAlike(t *testing.T) {
	h := handler(t, "cors *")
	for _, from := range []string{"", "https://a.test", "null"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if from != "" {
			r.Header.Set("Origin", from)
		}
		w := serve(h, r, ok)
		if w.Header().Get(acAllowOrigin) != "*" || w.Header().Get("Vary") != "" || w.Header().Get(acExposeHeaders) == "" || w.Header().Get(acAllowCredentials) != "" {
			t.Errorf("%q: %v", from, w.Header())
		}
	}
}

func TestPreflight(t *testing.T) {
	listed := handler(t, "cors https://app.example.com {\n allow_credentials\n allowed_methods get PUT\n allowed_headers X-A\n max_age 1h\n}")
	all := handler(t, "cors https://app.example.com {\n allow_credentials\n allowed_methods *\n allowed_headers *\n}")
	for _, tc := range []struct {
		name             string
		h                *Handler
		from, method     string
		asked            []string
		methods, headers string // "" is a refusal
	}{
		{"listed", listed, "https://app.example.com", "PUT", []string{"x-a"}, "GET, PUT", "x-a"},
		{"no headers asked for", listed, "https://app.example.com", "GET", nil, "GET, PUT", ""},
		{"safelisted method", listed, "https://app.example.com", "POST", nil, "GET, PUT", ""},
		// What is refused to an origin that is allowed is not named, what it may is.
		{"other method", listed, "https://app.example.com", "DELETE", nil, "GET, PUT", ""},
		{"methods have a case", listed, "https://app.example.com", "put", nil, "GET, PUT", ""},
		{"other header", listed, "https://app.example.com", "GET", []string{"x-a,x-b"}, "GET, PUT", "X-A"},
		{"other header and method", listed, "https://app.example.com", "PATCH", []string{"x-b"}, "GET, PUT", "X-A"},
		{"other method, all headers", handler(t, "cors https://app.example.com {\n allow_credentials\n allowed_headers *\n}"), "https://app.example.com", "PURGE", []string{"x-b"}, "GET, HEAD, POST, PUT, PATCH, DELETE, QUERY", "x-b"},
		{"other header of another origin", listed, "https://evil.test", "GET", []string{"x-b"}, "", ""},
		{"QUERY", handler(t, "cors https://app.example.com {\n allow_credentials\n}"), "https://app.example.com", "QUERY", []string{"content-type"}, "GET, HEAD, POST, PUT, PATCH, DELETE, QUERY", "content-type"},
		{"no headers", handler(t, "cors https://app.example.com {\n allow_credentials\n allowed_headers off\n}"), "https://app.example.com", "PUT", []string{"off"}, "GET, HEAD, POST, PUT, PATCH, DELETE, QUERY", ""},
		{"no methods", handler(t, "cors https://app.example.com {\n allow_credentials\n allowed_methods off\n}"), "https://app.example.com", "OFF", []string{"authorization"}, "", "authorization"},
		{"spaces and empty places", listed, "https://app.example.com", "GET", []string{" x-a ,, "}, "GET, PUT", " x-a ,, "},
		{"two fields", listed, "https://app.example.com", "GET", []string{"x-a", "X-A"}, "GET, PUT", "x-a, X-A"},
		{"other origin", listed, "https://evil.test", "GET", nil, "", ""},
		{"null", listed, "null", "GET", nil, "", ""},
		{"all", all, "https://app.example.com", "PURGE", []string{"x-any,authorization"}, "PURGE", "x-any,authorization"},
		{"no token", all, "https://app.example.com", "GET, PUT", nil, "", ""},
		{"no name", all, "https://app.example.com", "GET", []string{"x a"}, "", ""},
		{"too long", all, "https://app.example.com", "GET", []string{strings.Repeat("a,", maxRequestHeaders)}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodOptions, "/", nil)
			r.Header.Set("Origin", tc.from)
			r.Header.Set(acRequestMethod, tc.method)
			if tc.asked != nil {
				r.Header[acRequestHeaders] = tc.asked
			}
			w := serve(tc.h, r, func(http.ResponseWriter, *http.Request) error {
				t.Error("it reached the service")
				return nil
			})
			got := w.Header()
			if w.Code != http.StatusNoContent || strings.Join(got["Vary"], ",") != "Origin,"+acRequestMethod+","+acRequestHeaders {
				t.Errorf("got %d %v", w.Code, got)
			}
			if got.Get(acAllowMethods) != tc.methods || got.Get(acAllowHeaders) != tc.headers {
				t.Errorf("got %v", got)
			}
			if tc.methods == "" && tc.headers == "" {
				for name := range got {
					if strings.HasPrefix(name, acPrefix) {
						t.Errorf("a refusal says %s: %s", name, got[name])
					}
				}
			} else if got.Get(acAllowOrigin) != tc.from || got.Get(acAllowCredentials) != "true" {
				t.Errorf("got %v", got)
			} else if refused := strings.HasPrefix(tc.name, "other") || tc.name == "methods have a case" || strings.HasPrefix(tc.name, "no methods") || tc.name == "no headers"; (got.Get(acMaxAge) == "") != refused {
				t.Errorf("max age of a browser's memory: %v", got)
			}
		})
	}
}

// exposed_headers adds to the defaults, and zero and off mean off.
func TestExposedAndOff(t *testing.T) {
	const defaults = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, Cache-Status, Age"
	for block, want := range map[string]string{
		"cors *": defaults,
		"cors * {\n exposed_headers X-Total-Count etag\n}":   defaults + ", X-Total-Count, etag",
		"cors * {\n exposed_headers x-request-id AGE X-A\n}": defaults + ", X-A",
		"cors * {\n exposed_headers *\n}":                    "*",
		"cors * {\n exposed_headers off\n}":                  "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Origin", "https://a.test")
		w := serve(handler(t, block), r, ok)
		if got := w.Header().Get(acExposeHeaders); got != want || w.Header().Get(acAllowOrigin) != "*" {
			t.Errorf("%s: got %q, want %q", block, got, want)
		}
	}
	for age, want := range map[string]string{"0": "0", "0s": "0", "off": "0", "1m": "60"} {
		r := httptest.NewRequest(http.MethodOptions, "/", nil)
		r.Header.Set("Origin", "https://a.test")
		r.Header.Set(acRequestMethod, "PUT")
		if got := serve(handler(t, "cors * {\n max_age "+age+"\n}"), r, ok).Header().Get(acMaxAge); got != want {
			t.Errorf("max_age %s: got %q, want %q", age, got, want)
		}
	}
}

// Errors name their line: that of the option where it is a literal,
// else that of the directive.
func TestErrorsNamePlaces(t *testing.T) {
	for block, want := range map[string]string{
		"cors {\nallowed_methods GET\nallowed_origins app.test\n}": "at Caddyfile:11",
		"cors * {\nallowed_headers \"a b\"\n}":                     "at Caddyfile:10",
		"cors * {\nmax_age 25h\n}":                                 "at Caddyfile:10",
		"cors * {\nallowed_headers off X-A\n}":                     "allowed_headers: off cannot be combined with other values, at Caddyfile:10",
		"cors * {\nallowed_origins {env.CORS_UNSET}\n}":            "allowed_origins: {env.CORS_UNSET} is empty",
		"cors {env.CORS_UNSET}":                                    "cors: allowed_origins: {env.CORS_UNSET} is empty: set the environment variable CORS_UNSET, or remove the option, at Caddyfile:9",
		"cors {env.CORS_BLANK}":                                    "allowed_origins: \"{env.CORS_BLANK}\" has no value",
		"cors * {\nallowed_headers X-{env.CORS_UNSET}\n}":          "cors: allowed_headers: {env.CORS_UNSET} is empty",
		"cors * {\nallowed_methods {method}\n}":                    "allowed_methods: {http.request.method} is not a placeholder that is known",
		"cors https://pr-*.github.io {\nallow_credentials\n}":      "anybody can register a name under github.io",
	} {
		t.Setenv("CORS_BLANK", " , ")
		_, err := servertest.Load(t, ":80 {\n"+block+"\n}")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s: got %v, want %q", block, err, want)
		}
	}
}

func TestSeveralOriginsMatchNone(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Origin"] = []string{"https://app.example.com", "https://app.example.com"}
	if w := serve(handler(t, "cors https://app.example.com"), r, ok); w.Header().Get(acAllowOrigin) != "" {
		t.Errorf("got %v", w.Header())
	}
}

func TestConfiguration(t *testing.T) {
	for block, want := range map[string]string{
		"cors":                            "missing origins",
		"cors {\n}":                       "missing origins",
		"cors app.example.com":            "write https://",
		"cors null":                       "null is not an origin",
		"cors https://a.test *":           "leave the others out",
		"cors * {\n allow_credentials\n}": "* excludes allow_credentials",
		"cors * {\n allowed_origins https://a.test\n}":                     "given more than once",
		"cors {\n allowed_origins\n}":                                      "missing argument",
		"cors * {\n max_age 25h\n}":                                        "24h",
		"cors * {\n max_age never\n}":                                      "not a duration",
		"cors * {\n max_age 1m 2m\n}":                                      "unexpected argument",
		"cors * {\n allow_credentials yes\n}":                              "it takes none",
		"cors * {\n origins\n}":                                            `unknown option "origins"`,
		"cors * {\n allowed_methods\n}":                                    "missing argument",
		"cors * {\n allowed_methods TRACE\n}":                              "never send TRACE",
		"cors * {\n allowed_headers \"a b\"\n}":                            `allowed_headers: "a b" is not a valid name`,
		"cors * {\n exposed_headers a:\n}":                                 `exposed_headers: "a:" is not a valid name`,
		"cors https://a.test {\n allow_credentials\n exposed_headers *\n}": "name the fields",
		"cors https://*.github.io {\n allow_credentials\n}":                "anybody can register",
		"cors {env.TENTAGATE_TEST_UNSET}":                                  "allowed_origins: ",
		"cors \"\"":                                                        "an empty value",
	} {
		h := new(Handler)
		err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block))
		if err == nil {
			err = provision(t, h)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
	for _, block := range []string{"cors https://*.github.io", "cors https://*.example.co.uk {\n allow_credentials\n}", "cors http://localhost:* {\n allow_credentials\n}", "cors * {\n exposed_headers *\n}"} {
		handler(t, block)
	}
	if err := provision(t, &Handler{AllowedOrigins: []string{"*"}, MaxAge: -1}); err == nil || !strings.Contains(err.Error(), "max_age") {
		t.Errorf("negative max_age: %v", err)
	}
	if err := provision(t, new(Handler)); err == nil || !strings.Contains(err.Error(), "allowed_origins: missing") {
		t.Errorf("no origins in JSON: %v", err)
	}
}

func TestPlaceholders(t *testing.T) {
	t.Setenv("TENTAGATE_TEST_ORIGINS", "https://a.test, https://b.test")
	h := handler(t, "cors {env.TENTAGATE_TEST_ORIGINS} https://c.test")
	for from, want := range map[string]bool{"https://a.test": true, "https://b.test": true, "https://c.test": true, "https://d.test": false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Origin", from)
		if got := serve(h, r, ok).Header().Get(acAllowOrigin) == from; got != want {
			t.Errorf("%s: allowed is %v", from, got)
		}
	}
	if h.AllowedOrigins[0] != "{env.TENTAGATE_TEST_ORIGINS}" {
		t.Errorf("the configuration became %q", h.AllowedOrigins)
	}
}

func TestAllocations(t *testing.T) {
	h := &Handler{AllowedOrigins: []string{"https://app.example.com"}}
	if err := provision(t, h); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]float64{"": 1, "https://app.example.com": 3} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
		if from != "" {
			r.Header.Set("Origin", from)
		}
		if n := testing.AllocsPerRun(100, func() {
			clear(w.Header())
			_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(ok))
		}); n > want {
			t.Errorf("Origin %q: %v allocations, want %v", from, n, want)
		}
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	h := &Handler{AllowedOrigins: []string{"https://app.example.com"}}
	if err := provision(b, h); err != nil {
		b.Fatal(err)
	}
	next := caddyhttp.HandlerFunc(ok)
	for name, from := range map[string]string{"no origin": "", "allowed origin": "https://app.example.com"} {
		b.Run(name, func(b *testing.B) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if from != "" {
				r.Header.Set("Origin", from)
			}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			b.ReportAllocs()
			for b.Loop() {
				_ = h.ServeHTTP(w, r, next)
			}
		})
	}
}
