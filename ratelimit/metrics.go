package ratelimit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Series of all zones. No key is ever a label.
var (
	decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "decisions_total",
		Help: "Requests, by zone and outcome: allowed, limited, delayed, unavailable, exempt, shadow_limited, concurrency_limited.",
	}, []string{"zone", "outcome"})

	sources = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "sources_total",
		Help: "Decisions, by zone and source: memory, redis, remembered (a refusal of Redis that still holds), lease, local (the share of this gateway while Redis is unreachable), unchecked, unavailable.",
	}, []string{"zone", "source"})

	latencies = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "store_duration_seconds",
		Help:    "Duration of decisions of zones in Redis, those made without a round trip included.",
		Buckets: []float64{1e-6, 1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1},
	}, []string{"zone"})

	batches = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "batch_decisions",
		Help:    "Number of decisions per round trip to Redis.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
	})

	roundTrips = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "round_trip_duration_seconds",
		Help:    "Duration of round trips to Redis, by result: ok, error.",
		Buckets: []float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1},
	}, []string{"result"})

	outage = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "outage",
		Help: "Number of unreachable Redis servers.",
	})

	evictions = prometheus.NewDesc("tentagate_ratelimit_evictions_total",
		"Active keys evicted because max_keys was reached.", []string{"zone", "store"}, nil)

	leaseUnits = prometheus.NewDesc("tentagate_ratelimit_lease_units_total",
		"Units of leases, by state: granted, spent, returned.", []string{"zone", "state"}, nil)

	leasesHeld = prometheus.NewDesc("tentagate_ratelimit_leases",
		"Keys that hold a lease.", []string{"zone"}, nil)

	collectors = []prometheus.Collector{decisions, sources, latencies, batches, roundTrips, outage, metrics.Collector(collectZones, evictions, leaseUnits, leasesHeld)}
)

func observeBatch(n int, took time.Duration, err error) {
	batches.Observe(float64(n))
	result := "ok"
	if err != nil {
		result = "error"
	}
	roundTrips.WithLabelValues(result).Observe(took.Seconds())
}

func observeOutage(down bool) {
	if down {
		outage.Inc()
	} else {
		outage.Dec()
	}
}

// zoneMetrics are the series of a zone.
type zoneMetrics struct {
	outcomes [len(outcomeNames)]prometheus.Counter
	sources  [gcra.Sources]prometheus.Counter
	latency  prometheus.Observer
}

func metricsOf(zone string) *zoneMetrics {
	m := &zoneMetrics{latency: latencies.WithLabelValues(zone)}
	for i, name := range outcomeNames {
		m.outcomes[i] = decisions.WithLabelValues(zone, name)
	}
	for i := range m.sources {
		m.sources[i] = sources.WithLabelValues(zone, gcra.Source(i).String())
	}
	return m
}

func (m *zoneMetrics) count(o outcome) { m.outcomes[o].Inc() }

func (m *zoneMetrics) countSource(s gcra.Source) { m.sources[s].Inc() }

// collectZones sends what zones count themselves.
func collectZones(ch chan<- prometheus.Metric) {
	type id struct{ zone, store string }
	evicted := make(map[id]uint64)
	type leased struct{ granted, spent, returned, held uint64 }
	units := make(map[string]leased)
	eachZone(func(z *zone) {
		evicted[id{z.displayName(), z.store()}] += z.counters().Evictions()
		if z.redis == nil {
			return
		}
		s := z.redis.LeaseStats()
		u := units[z.displayName()]
		u.granted += s.Granted
		u.spent += s.Spent
		u.returned += s.Returned
		u.held += s.Held
		units[z.displayName()] = u
	})
	for k, n := range evicted {
		ch <- prometheus.MustNewConstMetric(evictions, prometheus.CounterValue, float64(n), k.zone, k.store)
	}
	for name, u := range units {
		ch <- prometheus.MustNewConstMetric(leaseUnits, prometheus.CounterValue, float64(u.granted), name, "granted")
		ch <- prometheus.MustNewConstMetric(leaseUnits, prometheus.CounterValue, float64(u.spent), name, "spent")
		ch <- prometheus.MustNewConstMetric(leaseUnits, prometheus.CounterValue, float64(u.returned), name, "returned")
		ch <- prometheus.MustNewConstMetric(leasesHeld, prometheus.GaugeValue, float64(u.held), name)
	}
}

// eachZone calls f with every zone in use.
func eachZone(f func(*zone)) {
	for _, z := range zones.Values() {
		f(z)
	}
}
