package rediscache

import (
	"io"
	"net/http"
	"sort"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/testkit"
)

// numbers are the series of the feature: counters, gauges, and of histograms how
// much they have seen.
func numbers(t *testing.T) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	metrics.Register(reg, collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			sort.Strings(labels)
			name := strings.TrimPrefix(family.GetName(), "tentagate_http_cache_") + " " + strings.Join(labels, " ")
			all[strings.TrimSpace(name)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func TestMetricsByResult(t *testing.T) {
	s := startSite(t, "http_cache {\n\tmemory 4MiB\n\tpurge_method {\n\t\tallow private_ranges\n\t}\n}", func(w http.ResponseWriter, r *http.Request, n int64) {
		switch r.URL.Path {
		case "/stored":
			w.Header().Set("Cache-Control", "max-age=600")
		case "/swr":
			w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
		case "/vary":
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Vary", "X-Kind")
		case "/private":
			w.Header().Set("Cache-Control", "private")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	// The numbers are the process's. What an earlier test left to run must not
	// count here.
	testkit.Eventually(t, "an end of what earlier tests have begun", func() bool {
		n, _ := calls.Stats()
		return n == 0
	})
	for _, step := range []struct {
		name string
		do   func()
		want map[string]float64
	}{
		{"a miss", func() { s.get("/stored") }, map[string]float64{
			"requests_total miss": 1, "misses_total uri-miss": 1, "fill_seconds": 1, "collapse_width": 1, "memory_entries": 1,
		}},
		{"a hit", func() { s.get("/stored") }, map[string]float64{"requests_total hit": 1}},
		{"another variant", func() { s.get("/vary", "X-Kind", "a"); s.get("/vary", "X-Kind", "b") }, map[string]float64{
			"misses_total uri-miss": 1, "misses_total vary-miss": 1,
		}},
		{"nothing stored", func() { s.get("/private") }, map[string]float64{"requests_total miss": 1}},
		{"stale", func() { s.get("/swr"); s.get("/swr") }, map[string]float64{
			"requests_total stale": 1, "refreshes_total": 1,
		}},
		{"an unsafe method", func() { _, _, _ = s.do(http.MethodPost, "/stored") }, map[string]float64{"invalidated_total": 1}},
		{"a purge", func() { _, _, _ = s.do("PURGE", "/vary") }, map[string]float64{"purges_total url": 1}},
	} {
		before := numbers(t)
		step.do()
		for name, want := range step.want {
			testkit.Eventually(t, step.name+": "+name, func() bool { return numbers(t)[name]-before[name] >= want })
			if got := numbers(t)[name] - before[name]; got != want {
				t.Errorf("%s: %s: %v more, want %v", step.name, name, got, want)
			}
		}
	}
	now := numbers(t)
	if bytes := now["memory_bytes"]; bytes < 3000 || bytes > 4<<20 || now["memory_maximum_bytes"] != 4<<20 {
		t.Errorf("%v bytes of %v", bytes, now["memory_maximum_bytes"])
	}
	for _, name := range []string{"memory_evictions_total", "memory_evicted_bytes_total", "redis_errors_total", "redis_late_total", "redis_writes_total", "redis_write_errors_total"} {
		if _, ok := now[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	for name := range now {
		if strings.ContainsAny(name, "/?") {
			t.Errorf("%s: a path is a label", name)
		}
	}
}
