// Package metrics registers TentaGate's collectors for each configuration.
//
// Caddy creates a registry for each configuration that it loads, and serves only the
// latest. TentaGate's collectors exist once per process, so that their values survive
// a reload, and are registered with every registry.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// Register adds the collectors, and that of the versions, to reg, unless they are there already, as with two
// sites that use one feature. Any other error is logged, and its series are missing:
// metrics must not make a configuration fail. reg may be nil.
func Register(reg *prometheus.Registry, collectors ...prometheus.Collector) {
	if reg == nil {
		return
	}
	for _, c := range append([]prometheus.Collector{buildInfo}, collectors...) {
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
