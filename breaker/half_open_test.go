package breaker

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// Go's HTTP/2 server cancels the request of a HEAD when its header is sent, which
// is not the client's doing: what the backend answered counts.
func TestHeadOverHTTP2(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.NewTLS(t, `
:80 {
	circuit_breaker head-2 {
		trip 100% of 1000
		window 1h
	}
	reverse_proxy `+p.addr+`
}`)
	const each = 300
	for _, status := range []int{500, 200} {
		p.handle(withStatus(status))
		for range each {
			resp, err := gateway.Client().Head(gateway.URL)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	gateway.Close() // the last request has ended then
	if s := stands(t, "head-2"); s.Failures != each || s.Requests != 2*each {
		t.Errorf("%+v", s)
	}
}

// A backend that hangs after the circuit was half-open opens it again, for
// twice as long: whether its clients wait or leave, and whatever the method.
func TestHangingProbes(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for name, leave := range map[string]bool{"waits": false, "leaves": true} {
			for _, h2 := range []bool{false, true} {
				t.Run(method+"/"+name, func(t *testing.T) {
					breaker := "hung-" + method + "-" + name
					serve := servertest.New
					if h2 {
						breaker, serve = breaker+"-2", servertest.NewTLS
					}
					p := newFakeBackend(t)
					gateway := serve(t, `
:80 {
	circuit_breaker `+breaker+` {
		consecutive 1
		open_for 5s
		half_open 1 max 4s
	}
	reverse_proxy `+p.addr+`
}`)
					ask := func(ctx context.Context) int {
						req, err := http.NewRequestWithContext(ctx, method, gateway.URL, nil)
						if err != nil {
							t.Error(err)
							return 0
						}
						resp, err := gateway.Client().Do(req)
						if err != nil {
							return 0
						}
						_ = resp.Body.Close()
						return resp.StatusCode
					}
					p.handle(withStatus(500))
					ask(t.Context())
					halfOpens(t, breaker, 5*time.Second)
					p.handle(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
					probe := func() (leaves func()) {
						was := p.served.Load()
						ctx, cancel := context.WithCancel(t.Context())
						done := make(chan struct{})
						go func() {
							defer close(done)
							// The place of the probe before is free a moment later.
							for ask(ctx) == http.StatusServiceUnavailable && ctx.Err() == nil {
								time.Sleep(time.Millisecond)
							}
						}()
						testkit.Eventually(t, "the probe", func() bool { return p.served.Load() > was })
						return func() { cancel(); <-done }
					}
					if leave {
						for range 2 {
							expectState(t, breaker, "half_open")
							leaves := probe()
							testClock.Add(2 * time.Second)
							leaves()
						}
					} else {
						leaves := probe()
						defer leaves()
						testClock.Add(4*time.Second + time.Millisecond)
						if got := ask(t.Context()); got != http.StatusServiceUnavailable {
							t.Errorf("%d", got)
						}
					}
					testkit.Eventually(t, "opening", func() bool { return stands(t, breaker).State == "open" })
				})
			}
		}
	}
}
