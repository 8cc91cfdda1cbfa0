package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// TestMetricsByOTLP compares what Caddy pushes with `metrics { otlp }` to what it serves at
// /metrics: names, labels and values.
func TestMetricsByOTLP(t *testing.T) {
	takeScrape(t)
	for name, family := range scrape.families {
		if !strings.HasPrefix(name, "tentagate_") {
			continue
		}
		pushed, ok := scrape.pushed[name]
		if !ok {
			t.Errorf("%s was not pushed", name)
			continue
		}
		values := pushedValues(pushed)
		for _, m := range family.GetMetric() {
			key, want := seriesOf(m), valueOf(m)
			got, ok := values[key]
			if !ok {
				t.Errorf("%s%s was not pushed, but %v", name, key, slices.Sorted(maps.Keys(values)))
			}
			if got != want && steady(name) {
				t.Errorf("%s%s: %v was pushed, %v scraped", name, key, got, want)
			}
		}
	}
	for name := range scrape.pushed {
		if strings.HasPrefix(name, "tentagate_") && scrape.families[name] == nil {
			t.Errorf("%s was pushed, but is not at /metrics", name)
		}
	}
	native := scrape.pushed["tentagate_request_duration_seconds"].GetExponentialHistogram().GetDataPoints()
	if len(native) == 0 {
		t.Fatal("the native histogram did not become an exponential histogram")
	}
	for _, p := range native {
		count := p.GetZeroCount()
		for _, n := range p.GetPositive().GetBucketCounts() {
			count += n
		}
		if count != p.GetCount() || p.GetScale() < 2 { // a factor of 1.1 needs 2^(2^-3)
			t.Errorf("%v: %d in the buckets of %d, scale %d", p.GetAttributes(), count, p.GetCount(), p.GetScale())
		}
	}
}

// steady reports whether only requests change the series.
func steady(name string) bool {
	for _, prefix := range []string{"tentagate_requests_total", "tentagate_request_", "tentagate_response_", "tentagate_jwt_verifications", "tentagate_ratelimit_decisions", "tentagate_http_cache_requests", "tentagate_circuit_breaker_requests", "tentagate_guard", "tentagate_cors", "tentagate_build_info"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// seriesOf returns the labels of a series as text, in their order.
func seriesOf(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		pairs = append(pairs, l.GetName()+"="+l.GetValue())
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

// valueOf returns the value of a series, for a histogram the number of observations.
func valueOf(m *dto.Metric) float64 {
	if h := m.GetHistogram(); h != nil {
		return float64(h.GetSampleCount())
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

// pushedValues returns the same of a pushed metric.
func pushedValues(m *metrics.Metric) map[string]float64 {
	values := map[string]float64{}
	add := func(attributes []*common.KeyValue, value float64) {
		var pairs []string
		for name, value := range attributesOf(attributes) {
			pairs = append(pairs, name+"="+value)
		}
		slices.Sort(pairs)
		values["{"+strings.Join(pairs, ",")+"}"] = value
	}
	for _, p := range slices.Concat(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()) {
		add(p.GetAttributes(), p.GetAsDouble())
	}
	for _, p := range m.GetHistogram().GetDataPoints() {
		add(p.GetAttributes(), float64(p.GetCount()))
	}
	for _, p := range m.GetExponentialHistogram().GetDataPoints() {
		add(p.GetAttributes(), float64(p.GetCount()))
	}
	return values
}
