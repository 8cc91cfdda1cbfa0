package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"

	_ "github.com/pythopus/tentagate/breaker" // the handler that answers for the transport
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/testkit"
)

// testClock is the time of all circuits in these tests.
var testClock = clock.NewMock()

// series has the metrics of the breakers.
var series = prometheus.NewRegistry()

func TestMain(m *testing.M) {
	testClock.Set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	registry.SetClock(testClock)
	metrics.Register(series, registry.Collectors()...)
	os.Exit(m.Run())
}

// states returns the circuits of a breaker by address.
func states(t testing.TB, name string) map[string]string {
	t.Helper()
	families, err := series.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, family := range families {
		if family.GetName() != "tentagate_circuit_breaker_state" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["name"] == name && m.GetGauge().GetValue() > 0 {
				found[labels["key"]] = labels["state"]
			}
		}
	}
	return found
}

// changes returns how often a breaker went from one state to the other.
func changes(t testing.TB, name, from, to string) float64 {
	t.Helper()
	families, err := series.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "tentagate_circuit_breaker_transitions_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["name"] == name && labels["from"] == from && labels["to"] == to {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func expectState(t testing.TB, name, address, want string) {
	t.Helper()
	testkit.Eventually(t, name+" of "+address+" "+want, func() bool { return states(t, name)[address] == want })
}

// backend is a server with a settable status. To /health it always answers 200.
type backend struct {
	*httptest.Server
	served atomic.Int64
	status atomic.Int64
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	b := unstarted()
	b.Start()
	t.Cleanup(b.Close)
	return b
}

func unstarted() *backend {
	b := new(backend)
	b.status.Store(http.StatusOK)
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.served.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/health" {
			w.WriteHeader(int(b.status.Load()))
		}
		_, _ = w.Write(body)
	}))
	return b
}

func (b *backend) addr() string { return b.Listener.Addr().String() }

// dead returns an address where connections are refused.
func dead(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(nil)
	defer s.Close()
	return s.Listener.Addr().String()
}

type answer struct {
	status int
	header http.Header
	body   string
}

func send(t testing.TB, method, url, body string) answer {
	t.Helper()
	var content io.Reader = http.NoBody
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}
