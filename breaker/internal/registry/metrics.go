package registry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/internal/metrics"
)

// Outcome is how the metrics count a request.
type Outcome int

// The outcomes.
const (
	Succeeded Outcome = iota
	Failed
	Slow     // succeeded, but slowly
	Ignored  // says nothing about the backend
	Rejected // not admitted: the circuit is open
	FellBack // answered by the fallback
	Limited  // not admitted: too many are in flight
	Observed // would not have been admitted
	outcomes
)

// String returns the value of the label.
func (o Outcome) String() string {
	return [outcomes]string{"success", "failure", "slow", "ignored", "rejected", "fallback", "limited", "observed"}[o]
}

var (
	requests = metrics.Counters("circuit_breaker_requests_total",
		"Requests by outcome: success, failure, slow, ignored (caused by the client), rejected, fallback, limited, observed.", "name", "scope", "outcome")
	transitions = metrics.Counters("circuit_breaker_transitions_total", "State changes of circuits.", "name", "scope", "from", "to")
	stateDesc   = metrics.Desc("circuit_breaker_state",
		"Number of circuits in the state. For an upstream the key is its address; the circuits of all keys of a service are counted together.", "name", "scope", "key", "state")
	ratioDesc    = metrics.Desc("circuit_breaker_failure_ratio", "Share of failures in the window; for a service with several keys, the highest.", "name", "scope", "key")
	inFlightDesc = metrics.Desc("circuit_breaker_in_flight", "Requests in flight, with max_inflight.", "name", "scope")
	limitDesc    = metrics.Desc("circuit_breaker_in_flight_limit", "Limit of requests in flight, summed over the keys.", "name", "scope")
	openDesc     = metrics.Desc("circuit_breaker_open_seconds_total", "Time that circuits were open, in seconds, summed over the keys.", "name", "scope")
)

// Collectors returns the collectors of all breakers of the process.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{requests, transitions, metrics.Collector(collectStates, stateDesc, ratioDesc, inFlightDesc, limitDesc, openDesc)}
}

// Count counts a request.
func (m *Member) Count(o Outcome) { m.counters[o].Inc() }

// CountResult counts the result of an admitted request.
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

// maxUpstreamSeries is how many addresses have series of their own; others share
// the key "other".
const maxUpstreamSeries = 100

// collectStates reads the circuits. Keys of a service are no labels, as requests
// choose them.
func collectStates(ch chan<- prometheus.Metric) {
	for _, g := range eachGroup() {
		g.collect(ch)
	}
}

// series sums the circuits that share labels.
type series struct {
	states [len(circuit.States)]int
	ratio  float64
}

func (g *group) collect(ch chan<- prometheus.Metric) {
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
			metrics.SendGauge(ch, stateDesc, float64(s.states[state]), g.Name, scope, key, state.String())
		}
		metrics.SendGauge(ch, ratioDesc, s.ratio, g.Name, scope, key)
	}
	if limited {
		metrics.SendGauge(ch, inFlightDesc, float64(inFlight), g.Name, scope)
		metrics.SendGauge(ch, limitDesc, float64(limit), g.Name, scope)
	}
	metrics.SendCounter(ch, openDesc, open.Seconds(), g.Name, scope)
}
