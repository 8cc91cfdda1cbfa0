package discovery

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/discovery/internal/lookup"
	"github.com/pythopus/tentagate/internal/metrics"
)

var (
	addressesDesc = metrics.Desc("discovery_addresses", "Addresses that the DNS has for a name that is looked up, as of its last answer: 0 while the name itself is used.", "name")
	failuresDesc  = metrics.Desc("discovery_lookup_errors_total", "Look-ups of the name that the DNS did not answer.", "name")

	collector = metrics.Collector(collect, addressesDesc, failuresDesc)
)

// collect reads the names.
func collect(ch chan<- prometheus.Metric) {
	// One name may be looked up in several ways.
	addresses, failures := map[string]int{}, map[string]int64{}
	names.Range(func(key string, n *lookup.Name) bool {
		name := strings.Fields(key)[1]
		addresses[name] = max(addresses[name], n.Found())
		failures[name] += n.Failures()
		return true
	})
	for name, count := range addresses {
		metrics.SendGauge(ch, addressesDesc, float64(count), name)
		metrics.SendCounter(ch, failuresDesc, float64(failures[name]), name)
	}
}
