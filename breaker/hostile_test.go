package breaker

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// attack is what a client does to a service, and how it is answered.
type attack struct {
	name   string
	text   string
	drop   bool  // the client leaves without waiting for the answer
	status []int // accepted ones
}

func attacks() []attack {
	const post, get = "POST / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	large := strings.Repeat("x", 3000)
	var all []attack
	for _, method := range []string{"POST", "PUT", "GET", "DELETE", "QUERY"} {
		head := method + " / HTTP/1.1\r\nHost: x\r\n"
		for name, body := range map[string]string{
			"a size that is none":    "5\r\nhello\r\nZZZ\r\n",
			"a size that is none, 1": "ZZZ\r\n",
			"a negative size":        "5\r\nhello\r\n-1\r\n",
			"a chunk too long":       "5\r\nhelloX\r\n0\r\n\r\n",
			"a size too large":       "5\r\nhello\r\nffffffffffffffffff\r\n",
		} {
			all = append(all, attack{method + ": " + name, head + chunked + body, false, []int{400}})
		}
		all = append(all,
			attack{method + ": too large, chunked", head + chunked + "bb8\r\n" + large + "\r\n0\r\n\r\n", false, []int{413}},
			attack{method + ": too large", head + "Content-Length: 3000\r\n\r\n" + large, false, []int{413}},
			attack{method + ": left within its body", head + "Content-Length: 1000\r\n\r\nonly this", true, nil},
			attack{method + ": left within a chunk", head + chunked + "5\r\nhel", true, nil},
			attack{method + ": left without waiting", head + "Content-Length: 0\r\n\r\n", true, nil},
		)
	}
	for name, query := range map[string]string{
		"a line feed": "q=a%0Ab", "a carriage return": "q=a%0D%0AX-Y:%20z", "a NUL": "q=%00", "a control character": "q=%01", "DEL": "q=%7F",
	} {
		all = append(all, attack{"field with " + name, "GET /?" + query + " HTTP/1.1\r\nHost: x\r\n\r\n", false, []int{400}},
			attack{"field with " + name + ", and a body", "POST /?" + query + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", false, []int{400}})
	}
	return append(all,
		attack{"both lengths", post + "Content-Length: 5\r\n" + chunked + "0\r\n\r\n", false, []int{200, 400}},
		attack{"a trailer that is none", post + chunked + "0\r\nX Y: z\r\n\r\n", false, []int{200, 400}},
		attack{"an upgrade to nothing", get + "Connection: upgrade\r\nUpgrade: nothing\r\n\r\n", false, []int{200}},
		attack{"an answer that is not read", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", true, nil},
		attack{"an answer that is slow", "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", true, nil},
	)
}

// Whatever clients send, no upstream is blamed, be it by the handler, by the
// circuits of the transport or by reverse_proxy's own passive health checks: a
// good request is answered at once.
func TestClientsCannotTakeTheServiceDown(t *testing.T) {
	fresh := func(t *testing.T) string {
		p := newFakeBackend(t)
		p.handle(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			switch r.URL.Path {
			case "/wait":
				<-r.Context().Done()
			case "/large":
				for range 1024 {
					if _, err := w.Write(make([]byte, 4096)); err != nil {
						return
					}
				}
			}
		})
		return p.addr
	}
	const transport = `
		transport tentagate {
			breaker %[1]s {
				consecutive 1
				trip 1%% of 1
				slow 1%% over 1s
			}
			retry_budget 100%%
		}`
	for _, tc := range []struct {
		name, options string
		bare          bool // reverse_proxy alone counts requests that cannot be sent against the upstream
	}{
		{"reverse_proxy", "", true},
		{"reverse_proxy-retries", "lb_retries 3", true},
		{"transport", transport, false},
		{"transport-alone", "lb_retries 2\n\t\tfail_duration 1h\n\t\ttransport tentagate", false},
		{"transport-retries", "lb_retries 3\n\t\tlb_policy round_robin" + transport, false},
		{"transport-tries", "lb_try_duration 5s\n\t\tlb_policy available" + transport, false},
		{"transport-matched", "lb_retries 3\n\t\tlb_retry_match method GET POST PUT DELETE QUERY" + transport, false},
		{"transport-kept", "lb_retries 3\n\t\trequest_buffers 1MiB\n\t\tlb_retry_match method GET POST PUT DELETE QUERY" + transport, false},
		{"fail_duration", "lb_retries 1\n\t\tfail_duration 1h", true},
		{"fail_duration-matched", "lb_retries 3\n\t\tlb_retry_match method GET POST PUT DELETE QUERY\n\t\tfail_duration 1h", true},
		{"transport-fail_duration", "lb_retries 3\n\t\tlb_policy first\n\t\tfail_duration 1h" + transport, false},
		{"transport-kept-fail_duration", "lb_retries 3\n\t\trequest_buffers 1MiB\n\t\tfail_duration 1h" + transport, false},
	} {
		for _, handler := range []bool{true, false} {
			if !handler && tc.bare {
				continue // nothing of TentaGate's is there
			}
			t.Run(fmt.Sprintf("%s/%v", tc.name, handler), func(t *testing.T) {
				name := fmt.Sprintf("hostile-%s-%v", tc.name, handler)
				options := tc.options
				if strings.Contains(options, "%[1]s") {
					options = fmt.Sprintf(options, name)
				}
				breaker := ""
				if handler {
					breaker = "circuit_breaker " + name + " {\n\t\tconsecutive 1\n\t\ttrip 1% of 1\n\t\tslow 1% over 1s\n\t}"
				}
				gateway := servertest.New(t, `
:80 {
	request_body {
		max_size 2000
	}
	`+breaker+`
	reverse_proxy `+fresh(t)+" "+fresh(t)+` {
		header_up X-Q {query.q}
		`+options+`
	}
}`)
				addr := gateway.Listener.Addr().String()
				work := attacks()
				var wg sync.WaitGroup
				next := make(chan attack)
				for range 8 {
					wg.Go(func() {
						for a := range next {
							status, err := raw(addr, a.text, a.drop)
							if !a.drop && (err != nil || !slices.Contains(a.status, status)) {
								t.Errorf("%s: %d and %v, want %d", a.name, status, err, a.status)
							}
						}
					})
				}
				for range 3 {
					for _, a := range work {
						if tc.bare && strings.Contains(tc.options, "fail_duration") && strings.HasPrefix(a.name, "field") {
							continue
						}
						next <- a
					}
				}
				close(next)
				wg.Wait()
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					for range 2 {
						if a := fetch(t, method, gateway.URL, strings.NewReader("x")); a.status != http.StatusOK {
							t.Errorf("%s afterwards: %d %s", method, a.status, a.body)
						}
					}
				}
				gateway.Close() // the last request has ended then
				_, list := admin(t, http.MethodGet, "/"+name, "")
				for _, s := range list {
					if s.State != "closed" || s.Failures != 0 {
						t.Errorf("%+v", s)
					}
				}
			})
		}
	}
}
