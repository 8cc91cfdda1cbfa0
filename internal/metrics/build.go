package metrics

import (
	"cmp"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/version"
)

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
