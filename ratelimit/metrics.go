package ratelimit

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Series of all zones. Labels are what operators named, never a key.
var (
	decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "decisions_total",
		Help: "Requests by zone and outcome: allowed, limited, delayed, unavailable, exempt, shadow_limited, concurrency_limited.",
	}, []string{"zone", "outcome"})

	sources = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "sources_total",
		Help: "Decisions by zone and where they were made: memory, redis, remembered, lease, local, unchecked, unavailable.",
	}, []string{"zone", "source"})

	latencies = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "store_duration_seconds",
		Help:    "How long decisions of zones in Redis took, those made without it included.",
		Buckets: []float64{1e-6, 1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1},
	}, []string{"zone"})

	batches = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "batch_decisions",
		Help:    "How many decisions shared a round trip to Redis.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
	})

	roundTrips = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "round_trip_duration_seconds",
		Help:    "How long round trips to Redis took, by result: ok, error.",
		Buckets: []float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1},
	}, []string{"result"})

	outage = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "tentagate", Subsystem: "ratelimit", Name: "outage",
		Help: "The number of Redis connections that do not answer.",
	})

	evictions = prometheus.NewDesc("tentagate_ratelimit_evictions_total",
		"Live keys that were forgotten because max_keys was reached.", []string{"zone", "store"}, nil)

	leaseUnits = prometheus.NewDesc("tentagate_ratelimit_lease_units_total",
		"Units of leases by what became of them: granted, spent, returned.", []string{"zone", "state"}, nil)

	leasesHeld = prometheus.NewDesc("tentagate_ratelimit_leases",
		"Keys for which units are reserved at the moment.", []string{"zone"}, nil)

	collectors = []prometheus.Collector{decisions, sources, latencies, batches, roundTrips, outage, zoneCollector{}}
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

// zoneMetrics are a zone's series, found once.
type zoneMetrics struct {
	zone     string
	outcomes sync.Map // outcome → prometheus.Counter
	sources  [gcra.Sources]prometheus.Counter
	latency  prometheus.Observer
}

func metricsOf(zone string) *zoneMetrics {
	m := &zoneMetrics{zone: zone, latency: latencies.WithLabelValues(zone)}
	for i := range m.sources {
		m.sources[i] = sources.WithLabelValues(zone, gcra.Source(i).String())
	}
	return m
}

func (m *zoneMetrics) count(outcome string) {
	c, ok := m.outcomes.Load(outcome)
	if !ok {
		c, _ = m.outcomes.LoadOrStore(outcome, decisions.WithLabelValues(m.zone, outcome))
	}
	c.(prometheus.Counter).Inc()
}

func (m *zoneMetrics) countSource(s gcra.Source) { m.sources[s].Inc() }

// zoneCollector reads what zones count by themselves.
type zoneCollector struct{}

// Describe implements prometheus.Collector.
func (zoneCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- evictions
	ch <- leaseUnits
	ch <- leasesHeld
}

// Collect implements prometheus.Collector.
func (zoneCollector) Collect(ch chan<- prometheus.Metric) {
	type id struct{ zone, store string }
	evicted := make(map[id]uint64)
	type leased struct{ granted, spent, returned, held uint64 }
	units := make(map[string]leased)
	eachZone(func(z *zone) {
		if z.redis == nil {
			evicted[id{z.called(), storeMemory}] += z.evictions()
			return
		}
		evicted[id{z.called(), storeRedis}] += z.evictions()
		s := z.redis.LeaseStats()
		u := units[z.called()]
		u.granted += s.Granted
		u.spent += s.Spent
		u.returned += s.Returned
		u.held += s.Held
		units[z.called()] = u
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
	zones.Range(func(_, value any) bool {
		if z, ok := value.(*zone); ok {
			f(z)
		}
		return true
	})
}
