package ratelimit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Series of all zones. No key is ever a label.
var (
	decisions = metrics.Counters("ratelimit_decisions_total",
		"Requests, by zone and outcome: allowed, limited, delayed, unavailable, exempt, shadow_limited, concurrency_limited.", "zone", "outcome")

	sources = metrics.Counters("ratelimit_sources_total",
		"Decisions, by zone and source: memory, redis, remembered (a refusal of Redis that still holds), lease, local (the share of this gateway while Redis is unreachable), unchecked, unavailable.", "zone", "source")

	latencies = metrics.Histograms("ratelimit_store_duration_seconds",
		"Duration of decisions of zones in Redis, those made without a round trip included.", "zone",
		1e-6, 1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1)

	batches = metrics.Histogram("ratelimit_batch_decisions", "Number of decisions per round trip to Redis.",
		1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

	roundTrips = metrics.Histograms("ratelimit_round_trip_duration_seconds",
		"Duration of round trips to Redis, by result: ok, error.", "result",
		1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1)

	outage = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "outage",
		Help: "Number of unreachable Redis servers.",
	})

	evictions = metrics.Desc("ratelimit_evictions_total", "Active keys evicted because max_keys was reached.", "zone", "store")

	leaseUnits = metrics.Desc("ratelimit_lease_units_total", "Units of leases, by state: granted, spent, returned.", "zone", "state")

	leasesHeld = metrics.Desc("ratelimit_leases", "Keys that hold a lease.", "zone")

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
		metrics.SendCounter(ch, evictions, float64(n), k.zone, k.store)
	}
	for name, u := range units {
		metrics.SendCounter(ch, leaseUnits, float64(u.granted), name, "granted")
		metrics.SendCounter(ch, leaseUnits, float64(u.spent), name, "spent")
		metrics.SendCounter(ch, leaseUnits, float64(u.returned), name, "returned")
		metrics.SendGauge(ch, leasesHeld, float64(u.held), name)
	}
}

// eachZone calls f with every zone in use.
func eachZone(f func(*zone)) {
	for _, z := range zones.Values() {
		f(z)
	}
}
