package rediscache

import "github.com/prometheus/client_golang/prometheus"

func opts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "tentagate", Subsystem: "http_cache", Name: name, Help: help}
}

var (
	requests = prometheus.NewCounterVec(opts("requests_total",
		"Requests by result: hit, stale, stale_error, revalidated, collapsed, miss, bypass, only_if_cached."), []string{"result"})
	misses = prometheus.NewCounterVec(opts("misses_total",
		"Requests forwarded to the origin, by reason (RFC 9211): uri-miss, vary-miss, stale, request, method."), []string{"reason"})
	notStored = prometheus.NewCounterVec(opts("not_stored_total",
		"Responses that were not stored, by reason."), []string{"reason"})
	refreshes = prometheus.NewCounter(opts("refreshes_total",
		"Requests to origins in the background, to refresh stale responses."))
	invalidated = prometheus.NewCounter(opts("invalidated_total",
		"URLs and groups invalidated by requests with an unsafe method."))
	fillSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "http_cache", Name: "fill_seconds",
		Help:    "Time from a request to the origin until its response header.",
		Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	collapsedRequests = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "tentagate", Subsystem: "http_cache", Name: "collapse_width",
		Help:    "Client requests answered by one request to the origin.",
		Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
	})
)

// results are the counters of requests by result.
var results = struct {
	hit, stale, staleError, miss, revalidated, collapsed, bypass, onlyIfCached prometheus.Counter
}{
	hit: requests.WithLabelValues("hit"), stale: requests.WithLabelValues("stale"), staleError: requests.WithLabelValues("stale_error"),
	miss: requests.WithLabelValues("miss"), revalidated: requests.WithLabelValues("revalidated"), collapsed: requests.WithLabelValues("collapsed"),
	bypass: requests.WithLabelValues("bypass"), onlyIfCached: requests.WithLabelValues("only_if_cached"),
}

// collectors are all collectors of the feature.
func collectors() []prometheus.Collector {
	return []prometheus.Collector{
		tierCollector(), purges, requests, misses, notStored, refreshes, invalidated, fillSeconds, collapsedRequests,
	}
}
