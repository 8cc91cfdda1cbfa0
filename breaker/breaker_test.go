package breaker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/problem"
)

func load(t testing.TB, block string) (*Handler, error) {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(func() { _ = h.Cleanup(); cancel() })
	return h, h.Provision(ctx)
}

func mustLoad(t testing.TB, block string) *Handler {
	t.Helper()
	h, err := load(t, block)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type backend = caddyhttp.HandlerFunc

// ask sends a request through the handler; it returns the answer and what
// panicked.
func ask(h *Handler, r *http.Request, b backend) (w *httptest.ResponseRecorder, panicked any) {
	w = httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	defer func() { panicked = recover() }()
	_ = h.ServeHTTP(w, r, b)
	return w, nil
}

func get() *http.Request { return httptest.NewRequest(http.MethodGet, "/", nil) }

func status(code int) backend {
	return func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(code); return nil }
}

func failing(code int) backend {
	return func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(code, errors.New("dial tcp")) }
}

// badBody fails as a malformed chunk does.
type badBody struct{}

func (badBody) Read([]byte) (int, error) { return 0, errors.New("invalid byte in chunk length") }

func TestClassification(t *testing.T) {
	readsBody := func(code int) backend {
		return func(w http.ResponseWriter, r *http.Request) error {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return caddyhttp.Error(code, err)
			}
			return status(200)(w, r)
		}
	}
	canceled := func() *http.Request {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return get().WithContext(ctx)
	}
	grpc := func() *http.Request {
		r := get()
		r.Header.Set("Content-Type", "application/grpc")
		return r
	}
	trailer := func(name, code string) backend {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(200)
			w.Header().Set(name, code)
			return nil
		}
	}
	abort := func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(200)
		panic(http.ErrAbortHandler)
	}
	for _, tc := range []struct {
		name    string
		r       func() *http.Request
		b       backend
		failure bool
		status  int
	}{
		{"200", get, status(200), false, 200},
		{"404", get, status(404), false, 404},
		{"499", canceled, status(499), false, 499},
		{"500", get, status(500), true, 500},
		{"503 of the backend", get, status(503), true, 503},
		{"refused", get, failing(502), true, 502},
		{"no upstream", get, failing(503), false, 503},
		{"the last of the tries was a 503", get, func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(503, errors.New("upstream response matched retry_match (status 503)"))
		}, true, 503},
		{"header timeout", get, failing(504), true, 504},
		{"client gone", canceled, failing(502), false, 502},
		{"aborted within the answer", get, abort, true, 200},
		{"aborted by the client", canceled, abort, false, 200},
		{"body too large", get, failing(413), false, 413},
		{"malformed body", func() *http.Request { return httptest.NewRequest(http.MethodPost, "/", badBody{}) }, readsBody(502), false, 400},
		{"proper body", func() *http.Request { return httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")) }, readsBody(502), false, 200},
		{"own refusal further in", get, func(http.ResponseWriter, *http.Request) error { return problem.Error(problem.New(503, "x")) }, false, 503},
		{"websocket", get, status(101), false, 101},
		{"gRPC unavailable", grpc, trailer("Grpc-Status", "14"), true, 200},
		{"gRPC unavailable, unannounced trailer", grpc, trailer(http.TrailerPrefix+"Grpc-Status", "14"), true, 200},
		{"gRPC not found", grpc, trailer("Grpc-Status", "5"), false, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := mustLoad(t, "circuit_breaker "+strings.ReplaceAll(t.Name(), " ", "-")+" {\n consecutive 1\n}")
			w, panicked := ask(h, tc.r(), tc.b)
			if w != nil && w.Code != tc.status {
				t.Errorf("status %d, want %d", w.Code, tc.status)
			}
			if strings.HasPrefix(tc.name, "aborted") && !isAbort(panicked) {
				t.Errorf("panicked with %v", panicked)
			}
			if got := h.member.Circuit("").State() == circuit.Open; got != tc.failure {
				t.Errorf("counted as a failure: %v", got)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	h := mustLoad(t, "circuit_breaker refusal {\n consecutive 2\n open_for 90s\n}")
	reached := 0
	dead := func(w http.ResponseWriter, r *http.Request) error { reached++; return failing(502)(w, r) }
	for range 5 {
		ask(h, get(), dead)
	}
	if reached != 2 {
		t.Errorf("the backend was asked %d times", reached)
	}
	w, _ := ask(h, get(), dead)
	after := w.Header().Get("Retry-After")
	if w.Code != 503 || after != "90" && after != "89" || w.Header().Get("Proxy-Status") != "tentagate; error=destination_unavailable" ||
		w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestObserve(t *testing.T) {
	h := mustLoad(t, "circuit_breaker observe {\n consecutive 1\n mode observe\n}")
	for range 3 {
		if w, _ := ask(h, get(), status(500)); w.Code != 500 {
			t.Errorf("%d", w.Code)
		}
	}
	if h.member.Circuit("").State() != circuit.Open {
		t.Error("it does not report what it would do")
	}
}

func TestKeys(t *testing.T) {
	h := mustLoad(t, "circuit_breaker keys {\n consecutive 1\n key {http.request.host}\n max_keys 2\n}")
	to := func(host string, b backend) int {
		r := get()
		r.Host = host
		w, _ := ask(h, r, b)
		return w.Code
	}
	to("a", status(500))
	if to("a", status(200)) != 503 || to("b", status(200)) != 200 {
		t.Error("circuits of two keys are one")
	}
	to("c", status(200)) // removes b, the longest unused of those without state
	if to("a", status(200)) != 503 {
		t.Error("an open circuit was forgotten for a closed one")
	}
	if got := to(strings.Repeat("x", 5000), status(500)); got != 500 {
		t.Errorf("long key: %d", got)
	}
	if to(strings.Repeat("x", 5000), status(200)) != 503 || to(strings.Repeat("x", 5001), status(200)) != 200 {
		t.Error("circuits of two long keys are one")
	}
}

func TestStateOutlivesReload(t *testing.T) {
	first := mustLoad(t, "circuit_breaker reload {\n consecutive 1\n}")
	ask(first, get(), status(500))
	if _, err := load(t, "circuit_breaker reload {\n open_for 10m\n half_open 1 max 1s\n trip 50%\n failure nonsense\n}"); err == nil {
		t.Fatal("accepted")
	}
	second := mustLoad(t, "circuit_breaker reload {\n consecutive 3\n}")
	_ = first.Cleanup()
	if w, _ := ask(second, get(), status(200)); w.Code != 503 {
		t.Errorf("after the reload: %d", w.Code)
	}
}

// The rules of the newest configuration apply to what was counted before.
func TestChangedRulesApply(t *testing.T) {
	first := mustLoad(t, "circuit_breaker changed {\n consecutive 10\n}")
	for range 4 {
		ask(first, get(), status(500))
	}
	second := mustLoad(t, "circuit_breaker changed {\n consecutive 5\n open_for 7s\n}")
	expectState(t, "changed", "closed")
	ask(second, get(), status(500))
	if s := stands(t, "changed"); s.State != "open" || s.Open != 7 {
		t.Errorf("%+v", s)
	}
	// The older one, which still serves requests, does not restore its rules.
	ask(first, get(), status(500))
	third := mustLoad(t, "circuit_breaker changed {\n consecutive 5\n half_open 1\n}")
	halfOpens(t, "changed", 7*time.Second)
	ask(third, get(), status(200))
	expectState(t, "changed", "closed")
	for range 9 {
		ask(first, get(), status(500))
	}
	expectState(t, "changed", "open")
}

func TestConfiguration(t *testing.T) {
	h := mustLoad(t, "circuit_breaker full {\n key {http.vars.x}\n max_keys 5\n window 20s\n trip 25% of 40\n consecutive 7\n slow 80% over 2s\n failure 502 5xx timeout\n open_for 10s max 2m jitter 20%\n half_open 2 max 5s\n retry_after honor max 5m\n max_inflight adaptive min 5 max 50 queue 7 200ms\n share\n mode observe\n}")
	want := registry.Rules{
		Window: 20e9, Ratio: .25, MinRequests: 40, Consecutive: 7, SlowRatio: .8, SlowOver: 2e9, Failure: []string{"502", "5xx", "timeout"},
		OpenFor: 10e9, OpenMax: 120e9, Jitter: .2, HalfOpen: 2, HalfOpenMax: 5e9, RetryAfterMax: 300e9,
	}
	if !reflect.DeepEqual(h.Rules, want) {
		t.Errorf("got %+v\nwant %+v", h.Rules, want)
	}
	if want := (MaxInflight{Adaptive: true, Min: 5, Max: 50, Queue: 7, QueueWait: 200e6}); *h.MaxInflight != want || !h.Share {
		t.Errorf("got %+v, share %v", h.MaxInflight, h.Share)
	}
	for options, want := range map[string]string{
		"trip 101%":                         "trip: write it as",
		"trip 50% of":                       "trip: write it as",
		"trip 50% of none":                  "not a number of requests",
		"trip":                              "missing argument",
		"consecutive -1":                    "; to disable it, write off",
		"consecutive 5\n consecutive 5":     "given more than once",
		"slow 80% 2s 3":                     "slow: write it as",
		"failure 200":                       "accepted are status codes",
		"open_for":                          "missing argument",
		"open_for 30s max 10s":              "at least 30s",
		"open_for 30s jitter 2":             "is not a percentage",
		"open_for 30s min 3s":               "open_for: write it as",
		"half_open 0":                       "at least one probe",
		"half_open 1 max":                   "half_open: write it as",
		"mode shadow":                       "accepted are enforce and observe",
		"key {http.request.uri}":            "clients choose paths",
		"max_keys 0":                        "from 1 to",
		"windows 10s":                       `unknown option "windows"`,
		"open_for 10m max 5m":               "at least 10m",
		"open_for 1s max 5m max 6m":         "max is given more than once",
		"key {http.auth.user.id}":           "not for a user",
		"key /{path.0}":                     "clients choose paths",
		"retry_after honor":                 "missing argument",
		"retry_after obey max 5m":           "retry_after: write it as",
		"max_inflight -1":                   "neither a number",
		"window 0":                          "not a duration above zero",
		"open_for 0":                        "mode observe",
		"open_for off":                      "mode observe",
		"key {clientip}":                    "key: {clientip}",
		"key {http.response.header.X}":      "key: {http.response.header.X}",
		"max_inflight 5 min 3":              "max_inflight: write it as",
		"max_inflight 5 queue":              "max_inflight: write it as",
		"max_inflight 5 queue x":            "not a number of at least 1",
		"max_inflight 5 queue 5 -1s":        "not a duration of at least zero",
		"max_inflight 5 queue 5 5s 7":       "max_inflight: write it as",
		"max_inflight adaptive min 9 max 3": "min 9 is above max 3",
		"share yes":                         "unexpected argument",
		"open now":                          "unexpected argument",
	} {
		if _, err := load(t, "circuit_breaker x {\n "+options+"\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", options, err, want)
		}
	}
	for block, want := range map[string]string{"circuit_breaker": "missing name", "circuit_breaker a b": "unexpected argument"} {
		if _, err := load(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", block, err)
		}
	}
}

// chain returns a request through the breaker, or straight to the backend, as it
// is called again and again.
func chain(tb testing.TB, with bool) func() {
	tb.Helper()
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(get(), caddy.NewReplacer(), w, &caddyhttp.Server{})
	last := status(200)
	if !with {
		return func() { _ = last.ServeHTTP(w, r) }
	}
	h := mustLoad(tb, "circuit_breaker chain {\n consecutive 5\n trip 50% of 20\n slow 80% over 2s\n}")
	return func() { _ = h.ServeHTTP(w, r, last) }
}

func TestAllocations(t *testing.T) {
	without, with := testing.AllocsPerRun(1000, chain(t, false)), testing.AllocsPerRun(1000, chain(t, true))
	if with-without > 2 {
		t.Errorf("%v allocations, and %v without the breaker", with, without)
	}
}

func BenchmarkChain(b *testing.B) {
	for name, with := range map[string]bool{"without": false, "with": true} {
		b.Run(name, func(b *testing.B) {
			f := chain(b, with)
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
