package discovery

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/discovery/internal/lookup"
)

// collector reads the names when it is asked.
type collector struct{}

var (
	addressesDesc = prometheus.NewDesc("tentagate_discovery_addresses", "Addresses in use for a name that is looked up by DNS.", []string{"name"}, nil)
	failuresDesc  = prometheus.NewDesc("tentagate_discovery_lookup_errors_total", "Look-ups of the name that the DNS did not answer.", []string{"name"}, nil)
)

func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- addressesDesc
	ch <- failuresDesc
}

func (collector) Collect(ch chan<- prometheus.Metric) {
	// One name may be looked up in several ways.
	addresses, failures := map[string]int{}, map[string]int64{}
	names.Range(func(key string, n *lookup.Name) bool {
		name := strings.Fields(key)[1]
		addresses[name] = max(addresses[name], len(n.Addresses()))
		failures[name] += n.Failures()
		return true
	})
	for name, count := range addresses {
		ch <- prometheus.MustNewConstMetric(addressesDesc, prometheus.GaugeValue, float64(count), name)
		ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(failures[name]), name)
	}
}
