package breaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/breaker/circuit"
)

var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "circuit_breaker",
		Name:      "requests_total",
		Help:      "Requests by outcome: success, failure, ignored (the client's doing), rejected, fallback, observed.",
	}, []string{"name", "outcome"})
	transitions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "circuit_breaker",
		Name:      "transitions_total",
		Help:      "Changes of state.",
	}, []string{"name", "from", "to"})
	stateDesc = prometheus.NewDesc("tentagate_circuit_breaker_state",
		"How many circuits of the breaker are in the state.", []string{"name", "state"}, nil)
)

func collectors() []prometheus.Collector {
	return []prometheus.Collector{requests, transitions, stateCollector{}}
}

func count(name, outcome string) { requests.WithLabelValues(name, outcome).Inc() }

// stateCollector reads the states when it is asked.
type stateCollector struct{}

func (stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- stateDesc }

func (stateCollector) Collect(ch chan<- prometheus.Metric) {
	groups.Range(func(_, value any) bool {
		g, ok := value.(*group)
		if !ok {
			return true
		}
		n := map[circuit.State]int{}
		g.each(func(_ string, b *circuit.Breaker) { n[b.State()]++ })
		for _, s := range []circuit.State{circuit.Closed, circuit.HalfOpen, circuit.Open} {
			ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(n[s]), g.name, s.String())
		}
		return true
	})
}
