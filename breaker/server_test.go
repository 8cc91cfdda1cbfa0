package breaker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// failureMode is a way in which a backend can fail.
type failureMode struct {
	name      string
	options   string // of the breaker
	transport string // options of the transport
	fail      func(p *fakeBackend)
	recover   func(t *testing.T, p *fakeBackend)
	rule      string // that opens
	cause     string // what the log says of it
	within    int    // requests
}

func failureModes(names *nameserver) []failureMode {
	half := new(atomic.Int64)
	return []failureMode{
		{
			name: "refusing", options: "consecutive 5", rule: "consecutive", cause: "connection refused", within: 5,
			fail: func(p *fakeBackend) { p.stop() }, recover: func(t *testing.T, p *fakeBackend) { t.Helper(); p.restart(t) },
		},
		{
			name: "hanging", options: "consecutive 3", transport: "response_header_timeout 50ms", rule: "consecutive", cause: "timeout", within: 3,
			fail: func(p *fakeBackend) {
				p.handle(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() })
			},
		},
		{
			name: "half-dead", options: "trip 50% of 20\n\t\tconsecutive 10", rule: "ratio", cause: "status 500", within: 20,
			fail: func(p *fakeBackend) {
				p.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200 + int(half.Add(1)%2)*300) })
			},
		},
		{
			name: "slow", options: "slow 80% over 2s\n\t\ttrip 100% of 10\n\t\twindow 60s", rule: "slow", within: 10,
			fail: func(p *fakeBackend) {
				p.handle(func(w http.ResponseWriter, _ *http.Request) {
					testClock.Add(2100 * time.Millisecond)
					_, _ = io.WriteString(w, "at last")
				})
			},
		},
		{
			name: "resetting", options: "consecutive 4", rule: "consecutive", cause: "status 200", within: 4,
			fail: func(p *fakeBackend) {
				p.handle(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", "1000")
					_, _ = io.WriteString(w, "half of")
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				})
			},
		},
		{
			name: "nameless", options: "consecutive 2", rule: "consecutive", cause: "lookup", within: 2,
			transport: "resolvers " + names.LocalAddr().String(),
			fail:      func(*fakeBackend) { names.knows.Store(false) },
			recover:   func(*testing.T, *fakeBackend) { names.knows.Store(true) },
		},
	}
}

// Each failure mode opens the circuit by its rule; probes close it again. Another
// service behind the same gateway is never affected.
func TestFailureModes(t *testing.T) {
	names := newNameserver(t)
	for _, tc := range failureModes(names) {
		t.Run(tc.name, func(t *testing.T) {
			p, neighbour := newFakeBackend(t), newFakeBackend(t)
			upstream := p.addr
			if tc.name == "nameless" {
				_, port, _ := net.SplitHostPort(p.addr)
				upstream = "users.example.test:" + port
			}
			name := "failing-" + tc.name
			gateway := servertest.New(t, fmt.Sprintf(`
:80 {
	handle /failing* {
		circuit_breaker %s {
			%s
			open_for 5s
			half_open 2
		}
		reverse_proxy %s {
			transport http {
				keepalive off
				%s
			}
		}
	}
	handle {
		circuit_breaker neighbour-%s {
			consecutive 1
		}
		reverse_proxy %s
	}
}`, name, tc.options, upstream, tc.transport, name, neighbour.addr))

			stop := served(t, gateway.URL)
			tc.fail(p)
			for i := range tc.within {
				if a := fetch(t, http.MethodGet, gateway.URL+"/failing", nil); a.status == http.StatusServiceUnavailable {
					t.Fatalf("request %d is refused already: %+v", i+1, stands(t, name))
				}
			}
			// The last answer may be here before the breaker has written down why it
			// opened.
			s := stands(t, name)
			testkit.Eventually(t, "a reason", func() bool { s = stands(t, name); return s.Rule != "" })
			if s.State != "open" || s.Rule != tc.rule || !strings.Contains(s.LastError, tc.cause) {
				t.Fatalf("%+v, want it open by %s for %q", s, tc.rule, tc.cause)
			}
			reached := p.served.Load()
			testClock.Add(1500 * time.Millisecond)
			a := fetch(t, http.MethodPost, gateway.URL+"/failing", strings.NewReader("x"))
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "4" ||
				a.header.Get("Proxy-Status") != "tentagate; error=destination_unavailable" ||
				a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("refusal: %d %v %s", a.status, a.header, a.body)
			}
			if p.served.Load() != reached {
				t.Error("the backend was asked when open")
			}

			// Still failing: a probe fails, and the open time is twice as long.
			halfOpens(t, name, 4*time.Second)
			if tc.rule == "consecutive" && tc.name != "resetting" {
				fetch(t, http.MethodGet, gateway.URL+"/failing", nil)
				if s := stands(t, name); s.State != "open" || s.Open != 10 {
					t.Errorf("after a failed probe: %+v", s)
				}
				halfOpens(t, name, 10*time.Second)
			}

			p.handle(nil)
			if tc.recover != nil {
				tc.recover(t, p)
			}
			for range 2 {
				if a := fetch(t, http.MethodGet, gateway.URL+"/failing", nil); a.status != 200 || a.body != "ok" {
					t.Errorf("probe: %d %s %v", a.status, a.body, a.err)
				}
			}
			expectState(t, name, "closed")
			stop()
			if s := stands(t, "neighbour-"+name); s.State != "closed" || s.Failures != 0 {
				t.Errorf("the neighbour: %+v", s)
			}
		})
	}
}

// served sends requests to a site, which must always answer 200, until the
// function that it returns is called.
func served(t *testing.T, url string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	answers := new(atomic.Int64)
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if a := fetch(t, http.MethodGet, url, nil); a.status != http.StatusOK || a.body != "ok" {
					t.Errorf("the neighbour: %d %q %v", a.status, a.body, a.err)
					return
				}
				answers.Add(1)
			}
		})
	}
	testkit.Eventually(t, "the neighbour", func() bool { return answers.Load() > 0 || t.Failed() })
	before := answers.Load()
	stop = func() {
		testkit.Eventually(t, "more answers of the neighbour", func() bool { return answers.Load() > before+5 || t.Failed() })
		cancel()
		wg.Wait()
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return stop
}

// A request of before the opening that ends only when the breaker is half-open
// says nothing about the backend at that time, whatever its result.
func TestLateAnswer(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker late {
		consecutive 2
		open_for 5s
		half_open 1
	}
	reverse_proxy `+p.addr+`
}`)
	release := make(chan struct{})
	p.handle(func(w http.ResponseWriter, r *http.Request) {
		if status, err := strconv.Atoi(r.URL.Query().Get("late")); err == nil {
			<-release
			w.WriteHeader(status)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	late := make(chan answer, 4)
	for _, status := range []string{"200", "200", "500", "500"} {
		go func() { late <- fetch(t, http.MethodGet, gateway.URL+"/?late="+status, nil) }()
	}
	testkit.Eventually(t, "the requests", func() bool { return p.served.Load() == 4 })
	for range 2 {
		fetch(t, http.MethodGet, gateway.URL, nil)
	}
	expectState(t, "late", "open")
	halfOpens(t, "late", 5*time.Second)
	close(release)
	for range 4 {
		if a := <-late; a.status != 200 && a.status != 500 {
			t.Errorf("a late answer: %d %v", a.status, a.err)
		}
	}
	expectState(t, "late", "half_open")
	p.handle(nil)
	fetch(t, http.MethodGet, gateway.URL, nil)
	expectState(t, "late", "closed")
}

// 500 requests at once meet a half-open breaker: no more than the probes reach
// the backend.
func TestProbesAtOnce(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker at-once {
		consecutive 1
		open_for 5s
		half_open 3
	}
	reverse_proxy `+p.addr+`
}`)
	p.handle(withStatus(500))
	fetch(t, http.MethodGet, gateway.URL, nil)
	halfOpens(t, "at-once", 5*time.Second)

	reached := p.served.Load()
	release := make(chan struct{})
	p.handle(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusNotFound) // proves nothing, so the state stays
	})
	const clients = 500
	answers := make(chan int, clients)
	for range clients {
		go func() { answers <- fetch(t, http.MethodGet, gateway.URL, nil).status }()
	}
	for range clients - 3 {
		if status := <-answers; status != http.StatusServiceUnavailable {
			t.Errorf("status %d", status)
		}
	}
	// The admitted ones may not have arrived yet.
	testkit.Eventually(t, "three probes at the backend", func() bool { return p.served.Load()-reached >= 3 })
	expectState(t, "at-once", "half_open")
	close(release)
	for range 3 {
		if status := <-answers; status != http.StatusNotFound {
			t.Errorf("status of a probe %d", status)
		}
	}
	if n := p.served.Load() - reached; n != 3 {
		t.Errorf("%d requests reached the backend, want 3", n)
	}
}
