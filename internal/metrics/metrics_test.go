package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestRegister(t *testing.T) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "tentagate_test_total", Help: "test"})
	other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tentagate_test_total", Help: "a different help"})

	first := prometheus.NewPedanticRegistry()
	Register(first, counter)
	Register(first, counter) // two sites with the same feature
	Register(first, other)   // a mistake of ours must not stop the gateway
	Register(nil, counter)
	counter.Inc()

	second := prometheus.NewPedanticRegistry() // a reload
	Register(second, counter)
	counter.Inc()
	for name, reg := range map[string]*prometheus.Registry{"first": first, "second": second} {
		n, err := testutil.GatherAndCount(reg, "tentagate_test_total")
		if err != nil || n != 1 {
			t.Errorf("%s registry: %d series, %v", name, n, err)
		}
	}
	if got := testutil.ToFloat64(counter); got != 2 {
		t.Errorf("got %v, want the count from before the reload too", got)
	}
}

// A collector that panics ends neither the scrape nor the process, and is logged.
func TestCollectorPanics(t *testing.T) {
	desc := prometheus.NewDesc("tentagate_test_first", "test", nil, nil)
	core, lines := observer.New(zap.ErrorLevel)
	defer func(before *zap.Logger) { logger = before }(logger)
	logger = zap.New(core)
	reg := prometheus.NewPedanticRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "tentagate_test_total", Help: "test"})
	Register(reg, counter, Collector(func(ch chan<- prometheus.Metric) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1)
		panic("the reason")
	}, desc))
	for _, name := range []string{"tentagate_test_total", "tentagate_test_first"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
	if all := lines.All(); len(all) != 2 || all[0].ContextMap()["panic"] != "the reason" {
		t.Errorf("the log has %v", all)
	}
}
