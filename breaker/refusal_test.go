package breaker

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// A name that no configuration has any more leaves neither circuits nor
// goroutines, however many of its circuits were open.
func TestDroppedConfigurationsLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("served", func(t *testing.T) { // its end stops Caddy
		url := serve(t, "log {\n\t\toutput discard\n\t}", `
	route {
		circuit_breaker dropped {
			key {http.request.header.X-Key}
			max_keys 1000
			consecutive 1
			max_inflight 5 queue 5
		}
		error 500
	}`)
		for i := range 1000 {
			fetch(t, http.MethodGet, url, nil, "X-Key", fmt.Sprint(i))
		}
		_, list := admin(t, http.MethodGet, "/dropped", "")
		if len(list) != 1000 || slices.ContainsFunc(list, func(s standing) bool { return s.State != "open" }) {
			t.Fatalf("%d circuits", len(list))
		}
		http.DefaultClient.CloseIdleConnections()
	})
	if code, _ := admin(t, http.MethodGet, "/dropped", ""); code != http.StatusNotFound {
		t.Errorf("it is still there: %d", code)
	}
	testkit.Eventually(t, "the end of the goroutines", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// refusing is a site whose breaker is open.
func refusing(b *testing.B, name string) http.Handler {
	b.Helper()
	p := newFakeBackend(b)
	p.handle(withStatus(500))
	h := servertest.Handler(b, ":80 {\n\tcircuit_breaker "+name+" {\n\t\tconsecutive 1\n\t\topen_for 1h\n\t}\n\treverse_proxy "+p.addr+"\n}")
	h.ServeHTTP(httptest.NewRecorder(), get())
	expectState(b, name, "open")
	return h
}

// quantiles reports the median and the 99th percentile.
func quantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100])/1e3, "p99-µs")
}

// How long a refusal takes: within the server, and for a client on loopback that
// shares the machine with it.
func BenchmarkRefusal(b *testing.B) {
	b.Run("server", func(b *testing.B) {
		h := refusing(b, "refusing-server")
		var took []time.Duration
		for b.Loop() {
			w, r := httptest.NewRecorder(), get()
			began := time.Now()
			h.ServeHTTP(w, r)
			took = append(took, time.Since(began))
			if w.Code != http.StatusServiceUnavailable {
				b.Fatal(w.Code)
			}
		}
		quantiles(b, took)
	})
	for _, clients := range []int{1, 4} {
		b.Run(fmt.Sprintf("loopback-%d", clients), func(b *testing.B) {
			s := httptest.NewServer(refusing(b, fmt.Sprintf("refusing-%d", clients)))
			defer s.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
			defer client.CloseIdleConnections()
			var mu sync.Mutex
			var all []time.Duration
			b.SetParallelism(clients)
			b.RunParallel(func(pb *testing.PB) {
				var took []time.Duration
				for pb.Next() {
					began := time.Now()
					resp, err := client.Get(s.URL)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					took = append(took, time.Since(began))
					if resp.StatusCode != http.StatusServiceUnavailable {
						b.Error(resp.StatusCode)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, took...)
			})
			quantiles(b, all)
		})
	}
}
