package upstream_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// A POST goes to the other upstream: when one refuses, because its circuit is
// open, nothing was sent, and no client sees a 502.
func TestPostFailsOver(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+a.addr()+` `+b.addr()+` {
		lb_policy round_robin
		lb_retries 2
		transport tentagate {
			breaker over {
				consecutive 1
				open_for 5s
				half_open 1
			}
		}
	}
}`)
	a.status.Store(http.StatusInternalServerError)
	for send(t, http.MethodPost, gateway.URL, "x").status == http.StatusOK {
		continue
	}
	expectState(t, "over", a.addr(), "open")
	reached := a.served.Load()
	for range 20 {
		if got := send(t, http.MethodPost, gateway.URL, "body"); got.status != http.StatusOK || got.body != "body" {
			t.Fatalf("%d %q", got.status, got.body)
		}
	}
	if a.served.Load() != reached {
		t.Error("the upstream was asked when its circuit was open")
	}
	expectState(t, "over", b.addr(), "closed")

	a.status.Store(http.StatusOK)
	testClock.Add(5 * time.Second)
	expectState(t, "over", a.addr(), "half_open")
	send(t, http.MethodPost, gateway.URL, "x")
	send(t, http.MethodPost, gateway.URL, "x")
	expectState(t, "over", a.addr(), "closed")
}

// When each upstream refuses, a circuit_breaker around the proxy says when to
// come back, and does not count the refusals.
func TestAllOpen(t *testing.T) {
	gateway := servertest.New(t, `
:80 {
	circuit_breaker around {
		consecutive 3
	}
	reverse_proxy `+dead(t)+` {
		transport tentagate {
			breaker all-open {
				consecutive 1
				open_for 5s
			}
		}
	}
}`)
	if got := send(t, http.MethodGet, gateway.URL, ""); got.status != http.StatusBadGateway {
		t.Errorf("refused connection: %d", got.status)
	}
	for range 10 {
		got := send(t, http.MethodGet, gateway.URL, "")
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "5" ||
			got.header.Get("Proxy-Status") != "tentagate; error=destination_unavailable" {
			t.Errorf("%d %v", got.status, got.header)
		}
	}
	expectState(t, "around", "", "closed")
}

// Where several upstreams refuse, Retry-After has the shortest wait.
func TestShortestWait(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	a.status.Store(500)
	b.status.Store(500)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker shortest {
		consecutive 100
	}
	reverse_proxy /both `+a.addr()+` `+b.addr()+` {
		lb_policy round_robin
		lb_retries 1
		transport tentagate {
			breaker waits {
				consecutive 1
				open_for 60s
			}
		}
	}
	reverse_proxy /first `+a.addr()+` {
		transport tentagate {
			breaker waits {
				consecutive 1
				open_for 60s
			}
		}
	}
}`)
	send(t, http.MethodGet, gateway.URL+"/first", "")
	testClock.Add(20 * time.Second)
	for b.served.Load() == 0 {
		send(t, http.MethodGet, gateway.URL+"/both", "")
	}
	for range 4 {
		if got := send(t, http.MethodGet, gateway.URL+"/both", ""); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "40" {
			t.Errorf("%d, Retry-After %q", got.status, got.header.Get("Retry-After"))
		}
	}
}

// The policy leaves out what is open, but no more than the share.
func TestAvailable(t *testing.T) {
	a, b, c := newBackend(t), newBackend(t), newBackend(t)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+a.addr()+` `+b.addr()+` `+c.addr()+` {
		lb_policy available first {
			max_ejection 50%
		}
		transport tentagate {
			breaker chosen {
				consecutive 1
			}
		}
	}
}`)
	a.status.Store(500)
	for i, want := range []int{500, 200, 200} {
		if got := send(t, http.MethodPost, gateway.URL, "x").status; got != want {
			t.Errorf("request %d: %d, want %d", i+1, got, want)
		}
	}
	if a.served.Load() != 1 || b.served.Load() != 2 {
		t.Errorf("%d and %d requests", a.served.Load(), b.served.Load())
	}
	// Two of three are more than half: none is excluded, and the first refuses.
	b.status.Store(500)
	if got := send(t, http.MethodPost, gateway.URL, "x").status; got != 500 {
		t.Errorf("%d", got)
	}
	if got := send(t, http.MethodPost, gateway.URL, "x").status; got != http.StatusBadGateway {
		t.Errorf("%d", got)
	}
	if c.served.Load() != 0 {
		t.Error("all the load went to the last")
	}
}

// Active health checks pass an open circuit, and heal a half-open one.
func TestHealthChecksProbe(t *testing.T) {
	b := newBackend(t)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+b.addr()+` {
		health_uri /health
		health_interval 10ms
		health_passes 1
		transport tentagate {
			breaker checked {
				consecutive 1
				open_for 5s
				half_open 1
			}
		}
	}
}`)
	b.status.Store(500)
	send(t, http.MethodGet, gateway.URL, "")
	expectState(t, "checked", b.addr(), "open")
	reached := b.served.Load()
	testkit.Eventually(t, "a health check when open", func() bool { return b.served.Load() > reached })
	testClock.Add(5 * time.Second)
	expectState(t, "checked", b.addr(), "closed")
}

// An active health check that fails is a failed probe.
func TestHealthChecksFailAsProbes(t *testing.T) {
	b := newBackend(t)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+b.addr()+` {
		health_uri /checked
		health_interval 10ms
		health_fails 1000000
		transport tentagate {
			breaker check-fails {
				consecutive 1
				open_for 5s
				half_open 1
			}
		}
	}
}`)
	b.status.Store(500)
	send(t, http.MethodGet, gateway.URL, "")
	expectState(t, "check-fails", b.addr(), "open")
	for _, open := range []time.Duration{5, 10, 20} {
		reopened := changes(t, "check-fails", "half_open", "open")
		testClock.Add(open * time.Second)
		testkit.Eventually(t, "that it opens again", func() bool { return changes(t, "check-fails", "half_open", "open") == reopened+1 })
	}
	b.status.Store(200)
	testClock.Add(40 * time.Second)
	expectState(t, "check-fails", b.addr(), "closed")
}

// The status of a gRPC call is in the trailer, which only the end of the answer
// brings.
func TestGRPC(t *testing.T) {
	var status atomic.Value
	b := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, "message")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("Grpc-Status", status.Load().(string))
	}))
	b.Config.Protocols = new(http.Protocols)
	b.Config.Protocols.SetUnencryptedHTTP2(true)
	b.Start()
	defer b.Close()
	gateway := servertest.New(t, `
:80 {
	reverse_proxy h2c://`+b.Listener.Addr().String()+` {
		transport tentagate {
			breaker grpc-upstream {
				consecutive 2
			}
		}
	}
}`)
	for _, code := range []string{"0", "5", "14", "0", "14", "5", "14"} {
		status.Store(code)
		if got := send(t, http.MethodPost, gateway.URL, ""); got.status != 200 || got.body != "message" {
			t.Fatalf("%d %q", got.status, got.body)
		}
	}
	expectState(t, "grpc-upstream", b.Listener.Addr().String(), "closed")
	status.Store("13")
	send(t, http.MethodPost, gateway.URL, "")
	expectState(t, "grpc-upstream", b.Listener.Addr().String(), "open")
}

// Addresses come and go with dynamic upstreams; those that are gone are
// forgotten.
func TestDynamicUpstreams(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	config := func(to *backend) string {
		_, port, _ := net.SplitHostPort(to.addr())
		return `
:80 {
	reverse_proxy {
		dynamic a localhost ` + port + ` {
			versions ipv4
		}
		transport tentagate {
			breaker dynamic {
				consecutive 1
			}
		}
	}
}`
	}
	first := servertest.New(t, config(a))
	a.status.Store(404)
	send(t, http.MethodGet, first.URL, "")
	expectState(t, "dynamic", a.addr(), "closed")
	a.status.Store(500)
	send(t, http.MethodGet, first.URL, "")
	expectState(t, "dynamic", a.addr(), "open")
	second := servertest.New(t, config(b))
	testClock.Add(6 * time.Minute) // half-open, and nobody probes it
	send(t, http.MethodGet, second.URL, "")
	testClock.Add(6 * time.Minute)
	testkit.Eventually(t, "removal", func() bool { _, ok := states(t, "dynamic")[a.addr()]; return !ok })
	if states(t, "dynamic")[b.addr()] != "closed" {
		t.Error(states(t, "dynamic"))
	}
}

// What Caddy's http transport can is possible within.
func TestTransports(t *testing.T) {
	secure, clear, socket := unstarted(), unstarted(), unstarted()
	secure.StartTLS()
	clear.Config.Protocols = new(http.Protocols)
	clear.Config.Protocols.SetUnencryptedHTTP2(true)
	clear.Start()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Listener.Close()
	socket.Listener = l
	socket.Start()
	defer secure.Close()
	defer clear.Close()
	defer socket.Close()
	for _, tc := range []struct{ name, to, address, options string }{
		{"tls", secure.addr(), secure.addr(), "tls_insecure_skip_verify"},
		{"https", "https://" + secure.addr(), secure.addr(), "tls_insecure_skip_verify\n\t\t\tversions 2"},
		{"h2c", "h2c://" + clear.addr(), clear.addr(), ""},
		{"versions", clear.addr(), clear.addr(), "versions h2c"},
		{"unix", "unix/" + path, path, "keepalive off"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gateway := servertest.New(t, fmt.Sprintf(`
:80 {
	reverse_proxy %s {
		transport tentagate {
			%s
			breaker by-%s {
				consecutive 1
			}
			retry_budget 20%%
		}
	}
}`, tc.to, tc.options, tc.name))
			if got := send(t, http.MethodPost, gateway.URL, "hello"); got.status != 200 || got.body != "hello" {
				t.Errorf("%d %q", got.status, got.body)
			}
			expectState(t, "by-"+tc.name, tc.address, "closed")
		})
	}
}

// However many retries reverse_proxy would make, the budget bounds the load of a
// backend that fails.
func TestRetriesCannotDoubleTheLoad(t *testing.T) {
	b := newBackend(t)
	b.status.Store(503)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+b.addr()+` {
		lb_retries 10
		lb_retry_match {
			expression {rp.status_code} == 503
		}
		transport tentagate {
			retry_budget 20% min 3
		}
	}
}`)
	const requests = 500
	for range requests {
		if got := send(t, http.MethodGet, gateway.URL, ""); got.status != 503 {
			t.Fatal(got.status)
		}
	}
	// A fifth, or the three that any second may have.
	if load := b.served.Load(); load <= requests+3 || load > requests*12/10+3 {
		t.Errorf("%d requests made %d requests to the backend", requests, load)
	}
}

// A request that the budget does not let try again is answered at once.
func TestRetryRefused(t *testing.T) {
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+dead(t)+` {
		lb_retries 10
		transport tentagate {
			retry_budget 1% min 3
		}
	}
}`)
	got := send(t, http.MethodGet, gateway.URL, "")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", got.status, got.header)
	}
}
