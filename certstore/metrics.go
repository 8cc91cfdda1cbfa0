package certstore

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/certstore/internal/store"
	"github.com/pythopus/tentagate/internal/metrics"
)

var (
	operationSeconds = metrics.Histograms("certificate_storage_operation_duration_seconds",
		"Time that operations of certificate storage took, failures and retries included.", "operation", .001, .005, .025, .1, .5, 1, 2.5, 10)
	operationErrors = metrics.Counters("certificate_storage_errors_total",
		"Operations of certificate storage that failed, by reason: unavailable, wrong_key, lock_lost, corrupt, other.", "operation", "reason")
	locksLost = metrics.Counter("certificate_storage_locks_lost_total",
		"Locks that another gateway took, because this one did not renew their lease in time.")
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
	return []prometheus.Collector{operationSeconds, operationErrors, locksLost, metrics.Collector(collectStatus, upDesc, evictingDesc, locksDesc)}
}

var (
	upDesc       = metrics.Desc("certificate_storage_up", "Whether certificate storage can be used as far as is known (1), or Redis is unreachable or the key wrong (0).", "redis")
	evictingDesc = metrics.Desc("certificate_storage_evicting", "Whether the maxmemory-policy of Redis may evict certificates (1), or not as far as is known (0).", "redis")
	locksDesc    = metrics.Desc("certificate_storage_locks", "Locks that this gateway holds.", "redis")
)

// collectStatus reads the stores.
func collectStatus(ch chan<- prometheus.Metric) {
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
		metrics.SendGauge(ch, upDesc, metrics.Bool(sum.up), redis)
		metrics.SendGauge(ch, evictingDesc, metrics.Bool(sum.evicting), redis)
		metrics.SendGauge(ch, locksDesc, float64(sum.locks), redis)
	}
}
