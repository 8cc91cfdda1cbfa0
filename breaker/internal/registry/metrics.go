package registry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

// Outcome is what became of a request.
type Outcome int

// The outcomes.
const (
	Succeeded Outcome = iota
	Failed
	Slow     // succeeded, but slowly
	Ignored  // says nothing of the backend
	Rejected // not let through, for the circuit is open
	FellBack // answered by the fallback
	Limited  // not let through, for too many are under way
	Observed // would not have been let through
	outcomes
)

// String returns the value of the label.
func (o Outcome) String() string {
	return [outcomes]string{"success", "failure", "slow", "ignored", "rejected", "fallback", "limited", "observed"}[o]
}

var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "circuit_breaker",
		Name:      "requests_total",
		Help:      "Requests by outcome: success, failure, slow, ignored (the client's doing), rejected, fallback, limited, observed.",
	}, []string{"name", "scope", "outcome"})
	transitions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "circuit_breaker",
		Name:      "transitions_total",
		Help:      "Changes of state.",
	}, []string{"name", "scope", "from", "to"})
	stateDesc = prometheus.NewDesc("tentagate_circuit_breaker_state",
		"How many circuits are in the state. For an upstream the key is its address; the circuits of a service's keys are counted together.",
		[]string{"name", "scope", "key", "state"}, nil)
	ratioDesc = prometheus.NewDesc("tentagate_circuit_breaker_failure_ratio",
		"Share of failures in the window; of a service with several keys, the worst.",
		[]string{"name", "scope", "key"}, nil)
	inFlightDesc = prometheus.NewDesc("tentagate_circuit_breaker_in_flight",
		"Requests under way, where max_inflight bounds them.", []string{"name", "scope"}, nil)
	limitDesc = prometheus.NewDesc("tentagate_circuit_breaker_in_flight_limit",
		"The bound of requests under way, the sum over the keys.", []string{"name", "scope"}, nil)
	openDesc = prometheus.NewDesc("tentagate_circuit_breaker_open_seconds_total",
		"Time that circuits were open, the sum over the keys.", []string{"name", "scope"}, nil)
)

// Collectors returns the series of all breakers of the process.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{requests, transitions, stateCollector{}}
}

// Count counts a request.
func (m *Member) Count(o Outcome) { m.counters[o].Inc() }

// CountResult counts the result of a request that was let through.
func (m *Member) CountResult(r circuit.Result) {
	switch {
	case r.Outcome == circuit.Failure:
		m.Count(Failed)
	case r.Outcome == circuit.Ignored:
		m.Count(Ignored)
	case m.settings.SlowOver > 0 && r.Latency > m.settings.SlowOver:
		m.Count(Slow)
	default:
		m.Count(Succeeded)
	}
}

// maxUpstreamSeries bounds the addresses that are told apart in the metrics; the
// others are counted together, with the key "other".
const maxUpstreamSeries = 100

// stateCollector reads the circuits when it is asked. Keys of a service are no
// labels: requests make them.
type stateCollector struct{}

func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, ratioDesc, inFlightDesc, limitDesc, openDesc} {
		ch <- d
	}
}

func (stateCollector) Collect(ch chan<- prometheus.Metric) {
	for _, g := range eachGroup() {
		g.collect(ch)
	}
}

// series are the circuits that share a label.
type series struct {
	states [len(circuit.States)]int
	ratio  float64
}

func (g *Group) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	scope := string(g.Scope)
	byKey := map[string]*series{}
	inFlight, limit, limited := 0, 0, false
	circuits := g.each()
	g.mu.Lock()
	open := g.openTime
	g.mu.Unlock()
	for _, c := range circuits {
		key := ""
		if g.Scope == Upstream {
			key = c.Key
			if byKey[key] == nil && len(byKey) >= maxUpstreamSeries {
				key = "other"
			}
		}
		if byKey[key] == nil {
			byKey[key] = new(series)
		}
		s := c.Snapshot()
		byKey[key].states[s.State]++
		if s.Total > 0 {
			byKey[key].ratio = max(byKey[key].ratio, float64(s.Failures)/float64(s.Total))
		}
		open += s.Open
		if l := c.Limiter(); l != nil {
			n, _, most := l.Stats()
			inFlight, limit, limited = inFlight+n, limit+most, true
		}
	}
	for key, s := range byKey {
		for _, state := range circuit.States {
			gauge(stateDesc, float64(s.states[state]), g.Name, scope, key, state.String())
		}
		gauge(ratioDesc, s.ratio, g.Name, scope, key)
	}
	if limited {
		gauge(inFlightDesc, float64(inFlight), g.Name, scope)
		gauge(limitDesc, float64(limit), g.Name, scope)
	}
	ch <- prometheus.MustNewConstMetric(openDesc, prometheus.CounterValue, open.Seconds(), g.Name, scope)
}
