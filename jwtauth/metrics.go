package jwtauth

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/jwtauth/keyset"
)

var (
	verifications = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "verifications_total",
		Help:      "Requests by provider and outcome: ok, anonymous, or the reason of the refusal.",
	}, []string{"provider", "outcome"})
	refreshes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "jwks_refresh_total",
		Help:      "Fetches of key sets by result: ok, unchanged, error.",
	}, []string{"provider", "result"})
	ageDesc = prometheus.NewDesc("tentagate_jwt_jwks_age_seconds",
		"Time since a key set was last fetched well.", []string{"source"}, nil)
)

func collectors() []prometheus.Collector {
	return []prometheus.Collector{verifications, refreshes, ageCollector{}}
}

func count(provider, outcome string) { verifications.WithLabelValues(provider, outcome).Inc() }

// ageCollector reads the ages when it is asked. The label is a hash of the
// source's settings.
type ageCollector struct{}

func (ageCollector) Describe(ch chan<- *prometheus.Desc) { ch <- ageDesc }

func (ageCollector) Collect(ch chan<- prometheus.Metric) {
	remotes.Range(func(key, value any) bool {
		if r, ok := value.(*keyset.Remote); ok {
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, r.Age().Seconds(), key.(string)[:16])
		}
		return true
	})
}
