package snapshot

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gateway has the metrics that a gateway exports.
type gateway struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	cache    *prometheus.CounterVec
	refused  *prometheus.CounterVec
	verified *prometheus.CounterVec
	failed   []Failed
}

func newGateway() *gateway {
	counter := func(name string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, labels)
	}
	g := &gateway{
		registry: prometheus.NewRegistry(),
		requests: counter(requestsFamily, "service", "route", "code"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: durationFamily, Buckets: []float64{0.01, 0.1, 1}, NativeHistogramBucketFactor: 1.1}, []string{"service", "route"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: inFlightFamily}, []string{"service"}),
		cache:    counter(cacheFamily, "result"),
		refused:  counter("tentagate_guard_refused_total", "reason"),
		verified: counter("tentagate_jwt_verifications_total", "provider", "outcome"),
	}
	g.registry.MustRegister(g.requests, g.duration, g.inFlight, g.cache, g.refused, g.verified)
	return g
}

// serve counts requests.
func (g *gateway) serve(service, route, code string, n int, took float64) {
	g.inFlight.WithLabelValues(service).Set(1)
	g.requests.WithLabelValues(service, route, code).Add(float64(n))
	for range n {
		g.duration.WithLabelValues(service, route).Observe(took)
	}
}

func (g *gateway) take(t *testing.T, e *Engine, now time.Time, status StatusPart) *Snapshot {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return e.Take(now, families, status, g.failed)
}

var began = time.Unix(1_800_000_000, 0)

func TestRates(t *testing.T) {
	g, e := newGateway(), new(Engine)
	g.serve("users", "/a", "200", 1000, 0.5)
	s := g.take(t, e, began, nil)
	if s.Rated || s.Total.Requests != 1000 || s.Total.Rate != 0 || s.Total.P50 != nil || len(s.Failures) != 0 {
		t.Errorf("the first snapshot has rates: %+v", s.Total)
	}
	g.serve("users", "/a", "200", 10, 0.05)
	g.serve("users", "/b", "503", 4, 0.005)
	g.serve("orders", "_other", "404", 6, 0.05)
	g.serve("orders", "_other", "_other", 2, 0.05)
	g.failed = []Failed{
		{"other-status", "users", "/b", 502, began}, {"other-route", "users", "/a", 503, began}, {"latest", "users", "/b", 503, began}, {"before", "users", "/b", 503, began},
	}
	s = g.take(t, e, began.Add(2*time.Second), nil)
	if !s.Rated || !s.Telemetry || s.Total.Rate != 11 || s.Total.Classes != [6]float64{1, 0, 5, 0, 3, 2} || s.Total.InFlight != 2 {
		t.Errorf("total %+v", s.Total)
	}
	if len(s.Services) != 2 || s.Services[0].Name != "orders" || s.Services[1].Rate != 7 || s.Services[1].Requests != 1014 {
		t.Fatalf("services %+v", s.Services)
	}
	if r := s.Services[1].Routes; len(r) != 2 || r[0].Route != "/a" || r[0].Rate != 5 || r[1].Failed != 4 || r[1].LastRequest != nil {
		t.Errorf("routes %+v", r)
	}
	if f := s.Failures; len(f) != 1 || f[0] != (Failure{began.Add(2 * time.Second).UnixMilli(), "users", "/b", "503", 4, "latest"}) {
		t.Errorf("failures %+v", f)
	}
}

// A request that is kept after it was counted is found at a later snapshot, unless that is
// much later.
func TestFailureIsIdentifiedLater(t *testing.T) {
	for after, want := range map[time.Duration]string{time.Second: "late", Lately + time.Second: ""} {
		g, e := newGateway(), new(Engine)
		g.take(t, e, began, nil)
		g.serve("users", "/a", "500", 1, 0.5)
		g.take(t, e, began.Add(time.Second), nil)
		g.failed = []Failed{{"late", "users", "/a", 500, began}}
		if s := g.take(t, e, began.Add(time.Second+after), nil); len(s.Failures) != 1 || s.Failures[0].RequestID != want {
			t.Errorf("after %s: %+v, want %q", after, s.Failures, want)
		}
	}
}

// Counters that start anew are counted from zero, and a series that is gone from its next
// start on.
func TestReset(t *testing.T) {
	g, e := newGateway(), new(Engine)
	g.serve("users", "/a", "200", 50, 0.5)
	g.take(t, e, began, nil)
	g.requests.Reset()
	g.duration.Reset()
	s := g.take(t, e, began.Add(time.Second), nil)
	if s.Total.Rate != 0 || s.Total.P50 != nil {
		t.Errorf("without the series: %+v", s.Total)
	}
	g.serve("users", "/a", "200", 3, 0.005)
	s = g.take(t, e, began.Add(2*time.Second), nil)
	if s.Total.Rate != 3 || s.Total.P99 == nil || *s.Total.P99 > 0.01 {
		t.Errorf("after it began anew: %+v", s.Total)
	}
	g.requests.Reset()
	g.serve("users", "/a", "200", 2, 0.005)
	if s = g.take(t, e, began.Add(3*time.Second), nil); s.Total.Rate != 2 {
		t.Errorf("smaller than before: %+v", s.Total)
	}
	e.Forget()
	if s = g.take(t, e, began.Add(time.Hour), nil); s.Rated {
		t.Error("there are rates over a time in which nobody watched")
	}
}

func TestQuantiles(t *testing.T) {
	g, e := newGateway(), new(Engine)
	g.serve("users", "/a", "200", 1000, 5) // before, and so in no quantile
	g.take(t, e, began, nil)
	g.serve("users", "/a", "200", 90, 0.05)
	g.serve("users", "/b", "200", 10, 0.5)
	s := g.take(t, e, began.Add(time.Second), nil)
	for _, tc := range []struct {
		got  *float64
		want float64
	}{
		{s.Services[0].P50, 0.01 + 0.09*50/90}, {s.Services[0].P95, 0.1 + 0.9*5/10}, {s.Services[0].P99, 0.1 + 0.9*9/10}, {s.Total.P50, 0.01 + 0.09*50/90},
	} {
		if tc.got == nil || math.Abs(*tc.got-tc.want) > 1e-9 {
			t.Errorf("%v, want %v", tc.got, tc.want)
		}
	}
	g.serve("users", "/a", "200", 900, 20)
	if s = g.take(t, e, began.Add(2*time.Second), nil); *s.Total.P50 != 1 {
		t.Errorf("above the last bound: %v, want the bound", *s.Total.P50)
	}
	for i := range window {
		s = g.take(t, e, began.Add(time.Duration(3+i)*time.Second), nil)
	}
	if s.Total.P50 != nil {
		t.Errorf("%v after %d snapshots without requests", *s.Total.P50, window)
	}
}

func TestCacheAndRefusals(t *testing.T) {
	g, e := newGateway(), new(Engine)
	if s := g.take(t, e, began, nil); s.Cache != nil || s.Telemetry {
		t.Errorf("without a cache and telemetry: %+v", s)
	}
	g.take(t, e, began.Add(time.Second), nil)
	for result, n := range map[string]float64{"hit": 2, "stale": 1, "miss": 1, "bypass": 50} {
		g.cache.WithLabelValues(result).Add(n)
	}
	g.refused.WithLabelValues("path").Add(3)
	g.refused.WithLabelValues("body").Add(0)
	for _, outcome := range []string{"ok", "anonymous", "missing", "missing"} {
		g.verified.WithLabelValues("main", outcome).Inc()
		g.verified.WithLabelValues("other", outcome).Inc()
	}
	s := g.take(t, e, began.Add(2*time.Second), nil)
	if s.Cache == nil || s.Cache.Requests != 4 || s.Cache.HitRatio == nil || *s.Cache.HitRatio != 0.75 {
		t.Errorf("cache %+v", s.Cache)
	}
	if got, want := fmt.Sprint(s.Refusals), "[{guard path 3 3} {jwt_auth missing 4 4}]"; got != want {
		t.Errorf("refusals %s, want %s", got, want)
	}
	if s = g.take(t, e, began.Add(3*time.Second), nil); s.Cache.HitRatio != nil {
		t.Errorf("a ratio of no requests: %v", *s.Cache.HitRatio)
	}
}

func TestStatus(t *testing.T) {
	g, e := newGateway(), new(Engine)
	g.serve("users", "/a", "200", 1, 0.5)
	status := StatusPart{
		"traffic":  json.RawMessage(`[{"service":"users","last_request":"2027-01-15T08:01:00Z","routes":[{"route":"/a","last_request":"2027-01-15T08:00:00Z"}]}]`),
		"calls":    json.RawMessage(`[{"service":"users","never_called":[{"method":"GET","path":"/unused"}]},{"service":"orders","never_called":[]}]`),
		"redis":    json.RawMessage(`[{"addresses":["r:1"],"partitions":[{"state":"unavailable","reason":"refused"},{"node":"n:1","state":"available"}]}]`),
		"breakers": json.RawMessage(`[{"name":"users","key":"u:1","state":"open","last_rule":"trip","last_error":"status 500"},{"name":"orders","state":"closed","last_rule":"trip","last_error":"status 500"}]`),
		"keys":     json.RawMessage(`[{"url":"https://i/jwks.json","error":"500"},{"url":"https://j/"}]`),
		"docs":     json.RawMessage(`[{"service":"users","error":"404"}]`),
		"checks":   json.RawMessage(`{"certificates:storage":[{"status":"fail","output":"no answer"},{"status":"pass"}]}`),
	}
	s := g.take(t, e, began, status)
	if u := s.Services[0]; u.LastRequest == nil || *u.LastRequest != "2027-01-15T08:01:00Z" || u.Routes[0].LastRequest == nil || *u.Routes[0].LastRequest != "2027-01-15T08:00:00Z" {
		t.Errorf("last requests %+v", u)
	}
	if len(s.Unused) != 1 || s.Unused[0].Operations[0] != (Operation{"GET", "/unused"}) {
		t.Errorf("unused %+v", s.Unused)
	}
	want := "[{redis r:1 unavailable: refused} {circuit_breaker users u:1 opened last by trip: status 500} {jwt_auth https://i/jwks.json 500} {api_docs users 404} {health certificates:storage fail: no answer}]"
	if got := fmt.Sprint(s.Problems); got != want {
		t.Errorf("problems\n%s, want\n%s", got, want)
	}
	if len(s.Status) != 2 || s.Status["redis"] == nil || s.Status["breakers"] == nil {
		t.Errorf("passed on: %v", s.Status)
	}
	// Parts of another form are left out.
	g.take(t, e, began.Add(time.Second), StatusPart{"traffic": json.RawMessage(`{}`), "calls": json.RawMessage(`7`), "redis": json.RawMessage(`"x"`), "checks": json.RawMessage(`[]`)})
}

// However many routes, operations and errors there are, a snapshot stays small.
func TestBounds(t *testing.T) {
	g, e := newGateway(), new(Engine)
	g.take(t, e, began, nil)
	for i := range 1000 {
		g.serve(fmt.Sprintf("s%d", i%3), fmt.Sprintf("/route/%d", i), "500", 1+i%7, 0.5)
	}
	operations := strings.Repeat(`{"method":"GET","path":"/x"},`, 500)
	one := fmt.Sprintf(`{"service":"s","never_called":[%s]}`, strings.TrimSuffix(operations, ","))
	s := g.take(t, e, began.Add(time.Second), StatusPart{"calls": json.RawMessage("[" + one + "," + one + "]")})
	if s.MoreCircuits != 0 || s.MoreUpstreams != 0 {
		t.Errorf("left out of nothing: %d circuits, %d upstreams", s.MoreCircuits, s.MoreUpstreams)
	}
	routes := 0
	for _, one := range s.Services {
		routes += len(one.Routes)
	}
	if routes > maxRoutes || routes+s.MoreRoutes != 1000 {
		t.Errorf("%d routes, and %d more", routes, s.MoreRoutes)
	}
	if s.Services[0].Routes[0].Requests != 7 {
		t.Errorf("the most used routes are left out: %+v", s.Services[0].Routes[0])
	}
	if len(s.Failures) != maxFailures || len(s.Unused[0].Operations) != maxUnused || s.Unused[0].More != 300 || len(s.Unused[1].Operations) != 0 || s.Unused[1].More != 500 {
		t.Errorf("%d failures, unused %d %d", len(s.Failures), len(s.Unused[0].Operations), s.Unused[1].More)
	}
	if text, err := json.Marshal(s); err != nil || len(text) > 100_000 {
		t.Errorf("%v, %d bytes", err, len(text))
	}
}

// Circuits and upstreams that are well are left out first.
func TestBoundsOfStatus(t *testing.T) {
	circuits, upstreams := make([]string, 5000), make([]string, 1000)
	for i := range circuits {
		state := map[int]string{4000: "open", 4500: "half_open"}[i]
		circuits[i] = fmt.Sprintf(`{"name":"users","key":"%d","state":%q,"last_rule":"trip"}`, i, cmp.Or(state, "closed"))
	}
	circuits[4999] = `{"name":"users","key":"forced","state":"closed","forced_seconds":60}`
	for i := range upstreams {
		upstreams[i] = fmt.Sprintf(`{"address":"u:%d","healthy":%t}`, i, i != 999)
	}
	half := strings.Join(upstreams[:500], ",")
	status := StatusPart{
		"breakers": json.RawMessage("[" + strings.Join(circuits, ",") + "]"),
		"services": json.RawMessage(`[{"site":"s","upstreams":[` + half + `]},{"site":"t","name":"n","upstreams":[` + strings.Join(upstreams[500:], ",") + `]}]`),
	}
	s := newGateway().take(t, new(Engine), began, status)
	var breakers []struct{ Key string }
	read(s.Status["breakers"], &breakers)
	keys := fmt.Sprint(breakers[max(0, len(breakers)-3):])
	if len(breakers) != maxCircuits || s.MoreCircuits != 4500 || s.CircuitsNotClosed != 2 || keys != "[{4000} {4500} {forced}]" {
		t.Errorf("%d circuits, the last %s, and %d more; %d not closed", len(breakers), keys, s.MoreCircuits, s.CircuitsNotClosed)
	}
	var services []struct {
		Site, Name string
		Upstreams  []struct{ Address string }
	}
	read(s.Status["services"], &services)
	if len(services) != 2 || len(services[0].Upstreams) != maxUpstreams-1 || fmt.Sprint(services[1]) != "{t n [{u:999}]}" || s.MoreUpstreams != 500 {
		t.Errorf("%d services, %d more upstreams", len(services), s.MoreUpstreams)
	}
	if text, err := json.Marshal(s); err != nil || len(text) > 100_000 {
		t.Errorf("%v, %d bytes", err, len(text))
	}
}
