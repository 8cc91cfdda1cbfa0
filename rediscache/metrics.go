package rediscache

import "github.com/prometheus/client_golang/prometheus"

var requests = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "tentagate",
	Subsystem: "http_cache",
	Name:      "requests_total",
	Help:      "Requests by result: hit, stale, revalidated, miss, bypass.",
}, []string{"result"})

var (
	hits        = requests.WithLabelValues("hit")
	stales      = requests.WithLabelValues("stale")
	revalidated = requests.WithLabelValues("revalidated")
	misses      = requests.WithLabelValues("miss")
	bypasses    = requests.WithLabelValues("bypass")
)
