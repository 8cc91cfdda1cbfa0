package certstore

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/certstore/internal/store"
)

const (
	namespace = "tentagate"
	subsystem = "certificate_storage"
)

var (
	operationSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem,
		Name:    "operation_duration_seconds",
		Help:    "Time that operations of certificate storage took, failures and retries included.",
		Buckets: []float64{.001, .005, .025, .1, .5, 1, 2.5, 10},
	}, []string{"operation"})
	operationErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem,
		Name: "errors_total",
		Help: "Operations of certificate storage that failed, by reason: unavailable, wrong_key, lock_lost, corrupt, other.",
	}, []string{"operation", "reason"})
	locksLost = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem,
		Name: "locks_lost_total",
		Help: "Locks that another gateway took, because this one did not renew their lease in time.",
	})
)

// reasons are the values of the label reason.
var reasons = []string{"unavailable", "wrong_key", "lock_lost", "corrupt", "other"}

// Errors are rare, and the first must be seen as an increase from 0.
func init() {
	for _, operation := range store.Operations {
		for _, reason := range reasons {
			operationErrors.WithLabelValues(operation, reason)
		}
	}
}

func collectors() []prometheus.Collector {
	return []prometheus.Collector{operationSeconds, operationErrors, locksLost, statusCollector{}}
}

func statusDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+subsystem+"_"+name, help, []string{"redis"}, nil)
}

var (
	upDesc       = statusDesc("up", "Whether certificate storage can be used as far as is known (1), or Redis is unreachable or the key wrong (0).")
	evictingDesc = statusDesc("evicting", "Whether the maxmemory-policy of Redis may evict certificates (1), or not as far as is known (0).")
	locksDesc    = statusDesc("locks", "Locks that this gateway holds.")
)

// statusCollector reads the stores when it is asked.
type statusCollector struct{}

func (statusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- upDesc
	ch <- evictingDesc
	ch <- locksDesc
}

func (statusCollector) Collect(ch chan<- prometheus.Metric) {
	type sums struct {
		up, evicting bool
		locks        int
	}
	// Two configurations may use one Redis with other options during a reload.
	byRedis := map[string]sums{}
	stores.Range(func(_ string, s *shared) bool {
		status := s.Status()
		sum, seen := byRedis[s.redis]
		byRedis[s.redis] = sums{
			up: (sum.up || !seen) && status.Reason == nil, evicting: sum.evicting || status.Evicting, locks: sum.locks + status.Locks,
		}
		return true
	})
	for redis, sum := range byRedis {
		send := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, redis)
		}
		send(upDesc, number(sum.up))
		send(evictingDesc, number(sum.evicting))
		send(locksDesc, float64(sum.locks))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
