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

	"github.com/pythopus/tentagate/internal/running"
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

// prefix begins the names of all series.
const prefix = "tentagate_"

// Counter returns the counter tentagate_<name>.
func Counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
}

// Counters returns the counters tentagate_<name> by labels.
func Counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

// Histogram returns the histogram tentagate_<name>.
func Histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets})
}

// Histograms returns the histograms tentagate_<name> by one label.
func Histograms(name, help, label string, buckets ...float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, []string{label})
}

// Desc describes the series tentagate_<name> by labels, for Collector.
func Desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// SendGauge sends a value that is read when the metrics are scraped.
func SendGauge(ch chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// SendCounter is SendGauge for a counter.
func SendCounter(ch chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

// Bool returns 1 for true and 0 for false.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
