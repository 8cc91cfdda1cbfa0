package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
	"github.com/pythopus/tentagate/telemetry"
)

// answer passes the stages of the gateway and answers.
type answer struct{ header http.Header }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(int)             {}
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }

var body = []byte("{}")

// user is boxed once.
var user any = "ann@example.com"

func serve(w http.ResponseWriter, r *http.Request) error {
	s := requeststate.Of(r)
	problem.SetRequestID(r, "019a1b2c-3d4e-7f60-8a9b-0c1d2e3f4a5b")
	s.Replacer().Set("http.auth.user.id", user)
	s.Decisions.Stages.Enter(stage.Guard)
	s.Decisions.Stages.Enter(stage.Auth)
	s.Decisions.Stages.Enter(stage.Limit)
	s.Decisions.Stages.Enter(stage.Cache)
	s.Decisions.Stages.Enter(stage.Upstream)
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(body)
	return err
}

// run returns a function that sends one request through the handler, or past it.
func run(t testing.TB, observed bool) func() {
	t.Helper()
	h := &telemetry.Handler{Path: "/api/", Services: []string{"bench"}}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Cleanup() })
	r := httptest.NewRequest(http.MethodGet, "/api/bench/x", nil)
	w := &answer{header: http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	next := caddyhttp.HandlerFunc(serve)
	before := r.Context()
	return func() {
		// As a new request, which has no state yet.
		*r = *r.WithContext(before)
		delete(vars, "tentagate")
		var err error
		if observed {
			err = h.ServeHTTP(w, r, next)
		} else {
			err = next.ServeHTTP(w, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllocations(t *testing.T) {
	if got, off := testing.AllocsPerRun(1000, run(t, true)), testing.AllocsPerRun(1000, run(t, false)); got > off {
		t.Errorf("%.0f allocations for a request that is not sampled, %.0f without telemetry", got, off)
	}
}

// What observing a request costs is the difference of the two.
func BenchmarkRequest(b *testing.B) {
	for name, observed := range map[string]bool{"off": false, "on": true} {
		b.Run(name, func(b *testing.B) {
			one := run(b, observed)
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}
