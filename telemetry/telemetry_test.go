package telemetry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	_ "github.com/pythopus/tentagate/guard"
	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/telemetry"
)

func init() {
	caddy.RegisterModule(new(namer))
	httpcaddyfile.RegisterHandlerDirective("namer", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return new(namer), nil })
	httpcaddyfile.RegisterDirectiveOrder("namer", httpcaddyfile.Before, "reverse_proxy")
}

// namer names the routes of requests, as a handler with an OpenAPI document would.
type namer struct{}

func (*namer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.namer", New: func() caddy.Module { return new(namer) }}
}

func (*namer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if strings.HasPrefix(r.URL.Path, "/items/") {
		route.Set(r, "/items/{id}")
	}
	return next.ServeHTTP(w, r)
}

// site is a gateway with the services, whose names must be the test's own.
func site(services ...string) string {
	return ":80 {\n\troute {\n\t\ttelemetry {\n\t\t\tservices /api/ " + strings.Join(services, " ") + `
		}
		guard
		metrics /metrics
		uri strip_prefix /api/` + services[0] + `
		namer
		respond /items/missing "none" 404
		respond /fails "broken" 503
		error /error "no" 418
		respond "hello"
	}
}
`
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func contains(t *testing.T, scrape string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+scrape, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			t.Errorf("there is no %s, but\n%s", line, strings.Join(slices.DeleteFunc(strings.Split(scrape, "\n"), func(l string) bool { return !strings.HasPrefix(l, name+"{") }), "\n"))
		}
	}
}

func TestSeries(t *testing.T) {
	server := servertest.New(t, site("series"))
	for _, path := range []string{"/api/series/x", "/API/Series/items/1", "/api/series/items/2", "/api/series/items/missing", "/api/series/fails", "/api/series/error", "/api/series"} {
		get(t, server.URL+path)
	}
	resp, err := http.Post(server.URL+"/api/series/items/1", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, scrape := get(t, server.URL+"/metrics")
	contains(t, scrape,
		`tentagate_requests_total{code="200",route="_other",service="series"} 2`,
		`tentagate_requests_total{code="200",route="/items/{id}",service="series"} 3`,
		`tentagate_requests_total{code="404",route="/items/{id}",service="series"} 1`,
		`tentagate_requests_total{code="503",route="_other",service="series"} 1`,
		`tentagate_requests_total{code="418",route="_other",service="series"} 1`,
		`tentagate_request_duration_seconds_count{route="/items/{id}",service="series"} 4`,
		`tentagate_request_duration_seconds_bucket{route="_other",service="series",le="10"} 4`,
		`tentagate_requests_in_flight{service="series"} 0`,
		`tentagate_request_stage_duration_seconds_count{service="series",stage="guard"} 8`,
		`tentagate_request_stage_duration_seconds_count{service="series",stage="response"} 8`,
	)
	if !strings.Contains(scrape, `tentagate_build_info{caddy_version="`) {
		t.Error("there is no tentagate_build_info")
	}
	if !strings.Contains(scrape, "tentagate_requests_in_flight{service=\"_other\"} ") {
		t.Error("the scrape itself is not in flight")
	}
}

func TestBytes(t *testing.T) {
	server := servertest.New(t, `:80 {
	route {
		telemetry bytes
		guard
		metrics /metrics
		request_body {
			max_size 1MB
		}
		respond {http.request.body}
	}
}`)
	for _, body := range []io.Reader{strings.NewReader("12345"), io.MultiReader(strings.NewReader("67890"))} { // with a length, and chunked
		resp, err := http.Post(server.URL+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	_, scrape := get(t, server.URL+"/metrics")
	contains(t, scrape,
		`tentagate_request_body_bytes_total{service="bytes"} 10`,
		`tentagate_response_body_bytes_total{service="bytes"} 10`,
	)
}

// A request that passes two telemetry handlers is one request.
func TestNested(t *testing.T) {
	server := servertest.New(t, `:80 {
	route {
		telemetry nested
		telemetry inner
		metrics /metrics
		error /error 500
		respond hello
	}
	handle_errors {
		route {
			telemetry errors
			respond "sorry" 502
		}
	}
}`)
	get(t, server.URL+"/")
	get(t, server.URL+"/error")
	_, scrape := get(t, server.URL+"/metrics")
	contains(t, scrape,
		`tentagate_requests_total{code="200",route="_other",service="nested"} 1`,
		`tentagate_requests_total{code="500",route="_other",service="nested"} 1`,
	)
	for _, other := range []string{"inner", "errors"} {
		if strings.Contains(scrape, `tentagate_requests_total{code="200",route="_other",service="`+other) || strings.Contains(scrape, `code="502",route="_other",service="`+other) {
			t.Errorf("the request was counted for %s too:\n%s", other, scrape)
		}
	}
}

// No client can make a series, whatever it sends.
func TestNoClientMakesASeries(t *testing.T) {
	handler := servertest.Handler(t, site("fixed", "other-fixed"))
	send := func(method, target, host string, header http.Header) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.URL.Path, r.RequestURI, r.Host, r.Header = method, target, target, host, header
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	count := func() int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		n := 0
		for line := range strings.SplitSeq(w.Body.String(), "\n") {
			if strings.HasPrefix(line, "tentagate_") {
				n++
			}
		}
		return n
	}
	// Each service with each answer that this site may give.
	for _, path := range []string{"/api/fixed/x", "/api/fixed/items/1", "/api/fixed/items/missing", "/api/other-fixed/", "/", "/api/fixed/fails"} {
		send(http.MethodGet, path, "gateway.test", http.Header{})
		send(http.MethodTrace, path, "gateway.test", http.Header{})
		send("not a method", path, "gateway.test", http.Header{})
	}
	before := count()
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		const letters = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-._~%/{}\xff"
		b := make([]byte, 1+random.IntN(20))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	prefixes := []string{"/", "/api/", "/api/fixed/", "/api/FIXED/items/", "/api/other-fixed/"}
	for range 10_000 {
		method := http.MethodGet
		if random.IntN(2) == 0 {
			method = strings.ToUpper(text())
		}
		send(method, prefixes[random.IntN(len(prefixes))]+text(), text(), http.Header{"Authorization": {"Bearer " + text()}, "X-Request-Id": {text()}})
	}
	if after := count(); after != before {
		t.Errorf("%d series before, %d after", before, after)
	}
}

// Two sites and a reload share the series; those of a service that is gone are deleted.
func TestReload(t *testing.T) {
	load := func(names ...string) (context caddy.Context, done func()) {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		for range 2 { // sites
			if _, err := ctx.LoadModuleByID("http.handlers.telemetry", mustJSON(telemetry.Handler{Path: "/api/", Services: names})); err != nil {
				t.Fatal(err)
			}
		}
		return ctx, cancel
	}
	has := func(ctx caddy.Context, name string) bool {
		for _, family := range gather(t, ctx.GetMetricsRegistry()) {
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetValue() == name {
						return true
					}
				}
			}
		}
		return false
	}
	_, endFirst := load("kept", "removed")
	second, endSecond := load("kept")
	if !has(second, "kept") || !has(second, "removed") {
		t.Error("the series are not in the registry of the new configuration")
	}
	endFirst()
	if !has(second, "kept") || has(second, "removed") {
		t.Error("after the old configuration ended: want the series of the service that is left, and no others")
	}
	endSecond()
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func gather(t *testing.T, reg *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestPromlint(t *testing.T) {
	server := servertest.New(t, site("lint"))
	get(t, server.URL+"/api/lint/x")
	_, scrape := get(t, server.URL+"/metrics")
	var ours strings.Builder
	for line := range strings.SplitSeq(scrape, "\n") {
		if strings.Contains(line, "tentagate_") {
			fmt.Fprintln(&ours, line)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestBadInput(t *testing.T) {
	for lines, want := range map[string]string{
		"telemetry _other":                              "reserved",
		"telemetry a b":                                 "argument",
		"telemetry {\nservices /api/\n}":                "services",
		"telemetry {\nservices api a\n}":                "begin and end with a slash",
		"telemetry {\nservices /api a\n}":               "begin and end with a slash",
		"telemetry {\nservices /api/ a A\n}":            "twice",
		"telemetry {\nservices /api/ a/b\n}":            "segment",
		"telemetry {\nservices /api/ _other\n}":         "reserved",
		"telemetry {\nsite " + strings.Repeat("x", 300): "at most 256",
		"telemetry {\nservice /api/ a\n}":               "services",
	} {
		if strings.Contains(lines, "{") && !strings.HasSuffix(lines, "}") {
			lines += "\n}"
		}
		if _, err := servertest.Load(t, ":80 {\n"+lines+"\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", lines, err, want)
		}
	}
}
