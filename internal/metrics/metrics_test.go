package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
