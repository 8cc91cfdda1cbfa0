// Package metrics registers TentaGate's collectors for each configuration.
//
// Caddy creates a registry for each configuration that it loads, and serves only the
// latest. TentaGate's collectors exist once per process, so that their values survive
// a reload, and are registered with every registry.
package metrics

import (
	"cmp"
	"errors"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/version"
)

// Register adds the collectors, and that of the versions, to reg, unless they are there
// already, as with two sites that use one feature. Any other error is logged, and its
// series are missing: metrics must not make a configuration fail. reg may be nil.
func Register(reg *prometheus.Registry, collectors ...prometheus.Collector) {
	if reg == nil {
		return
	}
	for _, c := range append([]prometheus.Collector{buildInfo}, collectors...) {
		err := reg.Register(guarded{c})
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			continue
		}
		caddy.Log().Named("tentagate.metrics").Error("registering a collector", zap.Error(err))
	}
}

// buildInfo says which versions run. Every registry has it.
var buildInfo = func() prometheus.Collector {
	simple, _ := caddy.Version()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tentagate",
		Name:      "build_info",
		Help:      "Always 1: the versions of TentaGate, Caddy and Go.",
	}, []string{"version", "caddy_version", "go_version"})
	g.WithLabelValues(cmp.Or(version.Of(), "devel"), simple, runtime.Version()).Set(1)
	return g
}()

// Collector returns a collector of series that are read from elsewhere when they are
// scraped. collect sends metrics of the descriptions.
func Collector(collect func(ch chan<- prometheus.Metric), descriptions ...*prometheus.Desc) prometheus.Collector {
	return collector{collect, descriptions}
}

type collector struct {
	collect      func(ch chan<- prometheus.Metric)
	descriptions []*prometheus.Desc
}

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descriptions {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) { c.collect(ch) }
