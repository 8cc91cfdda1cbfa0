package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pythopus/tentagate/internal/running"
)

// guarded logs a panic of a collector, and its further series are missing. A registry
// collects in goroutines of its own, where no server recovers: the panic would end the
// process.
type guarded struct{ prometheus.Collector }

func (g guarded) Collect(ch chan<- prometheus.Metric) {
	defer func() {
		if v := recover(); v != nil {
			logger.Error("collecting metrics", zap.Any("panic", v), zap.Stack("stack"))
		}
	}()
	g.Collector.Collect(ch)
}

// logger outlives configurations, as collectors do.
var logger = running.Logger("tentagate.metrics")
