package metrics

import "github.com/prometheus/client_golang/prometheus"

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
