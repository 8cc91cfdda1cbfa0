package rediscache

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
)

var (
	requests = metrics.Counters("http_cache_requests_total",
		"Requests by result: hit, stale, stale_error, revalidated, collapsed, miss, bypass, only_if_cached.", "result")
	misses = metrics.Counters("http_cache_misses_total",
		"Requests forwarded to the origin, by reason (RFC 9211): uri-miss, vary-miss, stale, request, method.", "reason")
	notStored = metrics.Counters("http_cache_not_stored_total",
		"Responses that were not stored, by reason.", "reason")
	refreshes = metrics.Counter("http_cache_refreshes_total",
		"Requests to origins in the background, to refresh stale responses.")
	invalidated = metrics.Counter("http_cache_invalidated_total",
		"URLs and groups invalidated by requests with an unsafe method.")
	fillSeconds = metrics.Histogram("http_cache_fill_seconds", "Time from a request to the origin until its response header.",
		.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	collapsedRequests = metrics.Histogram("http_cache_collapse_width", "Client requests answered by one request to the origin.",
		1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
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
