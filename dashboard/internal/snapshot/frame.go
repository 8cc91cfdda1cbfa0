package snapshot

import (
	"maps"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// The families that are read.
const (
	requestsFamily = "tentagate_requests_total"
	durationFamily = "tentagate_request_duration_seconds"
	inFlightFamily = "tentagate_requests_in_flight"
	cacheFamily    = "tentagate_http_cache_requests_total"
)

// refusalFamilies are those that count refusals: what refuses, the label that says why, and
// the values of that label that are refusals. Without values all are.
var refusalFamilies = map[string]struct {
	by, label string
	values    string
}{
	"tentagate_guard_refused_total":            {by: "guard", label: "reason"},
	"tentagate_jwt_verifications_total":        {by: "jwt_auth", label: "outcome", values: "!ok anonymous"},
	"tentagate_ratelimit_decisions_total":      {by: "ratelimit", label: "outcome", values: "limited unavailable concurrency_limited"},
	"tentagate_circuit_breaker_requests_total": {by: "circuit_breaker", label: "outcome", values: "rejected limited"},
}

// refusalKey names the counters of refusals.
type refusalKey struct{ by, reason string }

// seriesKey names the counters of a service.
type seriesKey struct{ service, route, code string }

// histogram has the cumulative counts of classic buckets, and of all observations.
type histogram struct {
	bounds []float64
	counts []float64
	total  float64
}

// frame is what the engine needs of one gathering.
type frame struct {
	requests map[seriesKey]float64
	latency  map[string]*histogram // by service
	inFlight map[string]float64    // by service
	cache    map[string]float64    // by result; nil without a cache
	refusals map[refusalKey]float64
}

func newFrame(families []*dto.MetricFamily) *frame {
	f := &frame{
		requests: map[seriesKey]float64{}, latency: map[string]*histogram{}, inFlight: map[string]float64{}, refusals: map[refusalKey]float64{},
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			f.add(family.GetName(), m)
		}
	}
	return f
}

func (f *frame) add(family string, m *dto.Metric) {
	switch family {
	case requestsFamily:
		f.requests[seriesKey{label(m, "service"), label(m, "route"), label(m, "code")}] += m.GetCounter().GetValue()
	case durationFamily:
		service := label(m, "service")
		if f.latency[service] == nil {
			f.latency[service] = new(histogram)
		}
		f.latency[service].add(ofMetric(m.GetHistogram()))
	case inFlightFamily:
		f.inFlight[label(m, "service")] += m.GetGauge().GetValue()
	case cacheFamily:
		if f.cache == nil {
			f.cache = map[string]float64{}
		}
		f.cache[label(m, "result")] += m.GetCounter().GetValue()
	default:
		kind, ok := refusalFamilies[family]
		if !ok {
			return
		}
		if value := label(m, kind.label); refuses(kind.values, value) {
			f.refusals[refusalKey{kind.by, value}] += m.GetCounter().GetValue()
		}
	}
}

// refuses reports whether a value is one of a list, or not one of a list that begins with
// an exclamation mark. An empty list has all values.
func refuses(list, value string) bool {
	rest, but := strings.CutPrefix(list, "!")
	in := list == ""
	for item := range strings.FieldsSeq(rest) {
		in = in || item == value
	}
	return in != but
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func ofMetric(m *dto.Histogram) *histogram {
	h := &histogram{total: float64(m.GetSampleCount())}
	for _, b := range m.GetBucket() {
		h.bounds = append(h.bounds, b.GetUpperBound())
		h.counts = append(h.counts, float64(b.GetCumulativeCount()))
	}
	return h
}

// growth returns how much each counter grew since before. One that is smaller than it was
// has started anew, as has one that was not there.
func growth[K comparable](now, before map[K]float64) map[K]float64 {
	grown := maps.Clone(now)
	for k, value := range now {
		if was := before[k]; was <= value {
			grown[k] = value - was
		}
	}
	return grown
}
