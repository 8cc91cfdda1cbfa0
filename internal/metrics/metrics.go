// Package metrics puts TentaGate's collectors into the registry of each
// configuration.
//
// Caddy makes a new registry at every load of a configuration, and serves only
// that one. TentaGate's collectors are therefore made once per process, so
// that their values survive a reload, and registered again at each load.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// Register adds the collectors to reg. A collector that is there already (two
// sites with the same feature) is left alone. Any other failure is logged and
// leaves the series out rather than refusing the configuration: metrics are
// never the reason for an outage. A nil registry is accepted.
func Register(reg *prometheus.Registry, collectors ...prometheus.Collector) {
	if reg == nil {
		return
	}
	for _, c := range collectors {
		err := reg.Register(c)
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			continue
		}
		caddy.Log().Named("tentagate.metrics").Error("registering a collector", zap.Error(err))
	}
}
