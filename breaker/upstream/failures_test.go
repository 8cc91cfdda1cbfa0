package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
)

// Whatever makes an upstream fail opens its circuit after as many requests as the
// rule says, and that of no other upstream.
func TestFailingUpstreams(t *testing.T) {
	stuck, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	server := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	resetting := server(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "half of")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mute := server(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	failing := server(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	slow := server(func(w http.ResponseWriter, _ *http.Request) {
		testClock.Add(3 * time.Second)
		w.WriteHeader(http.StatusOK)
	})
	for _, tc := range []struct {
		name, upstream, rule, options string
		status                        int // of the answer; 0: it breaks off
	}{
		{"refusing", dead(t), "consecutive 3", "", http.StatusBadGateway},
		{"hanging", stuck.Addr().String(), "consecutive 3", "response_header_timeout 20ms", http.StatusGatewayTimeout},
		{"resetting", resetting, "consecutive 3", "", 0},
		{"mute", mute, "consecutive 3", "keepalive off", http.StatusBadGateway},
		{"failing", failing, "trip 100% of 3", "", http.StatusInternalServerError},
		{"slow", slow, "slow 100% over 2s\n\t\t\t\ttrip 100% of 3", "", http.StatusOK},
		{"nameless", "no.such.name.invalid:80", "consecutive 3", "dial_timeout 5s\n\t\t\tresolvers " + nowhere(t), http.StatusBadGateway},
	} {
		t.Run(tc.name, func(t *testing.T) {
			healthy := newBackend(t)
			config := ":80 {\n\tcircuit_breaker around-" + tc.name + " {\n\t\tconsecutive 100\n\t}\n"
			for path, upstream := range map[string]string{"/failing": tc.upstream, "/healthy": healthy.addr()} {
				config += fmt.Sprintf(`
	reverse_proxy %s %s {
		transport tentagate {
			%s
			breaker failing-%s {
				%s
				window 1h
			}
		}
	}`, path, upstream, tc.options, tc.name, tc.rule)
			}
			gateway := servertest.New(t, config+"\n}")
			ask := func() int {
				resp, err := http.Get(gateway.URL + "/failing")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					return 0
				}
				return resp.StatusCode
			}
			for i := range 3 {
				if got := ask(); got != tc.status {
					t.Errorf("request %d: %d, want %d", i+1, got, tc.status)
				}
				if got := send(t, http.MethodGet, gateway.URL+"/healthy", "").status; got != http.StatusOK {
					t.Errorf("the neighbour: %d", got)
				}
			}
			expectState(t, "failing-"+tc.name, tc.upstream, "open")
			expectState(t, "failing-"+tc.name, healthy.addr(), "closed")
			if got := ask(); got != http.StatusServiceUnavailable {
				t.Errorf("when open: %d", got)
			}
		})
	}
}

// nowhere is an address without a name server.
func nowhere(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

// What clients do wrong opens no upstream's circuit.
func TestClientsCannotTripUpstreams(t *testing.T) {
	wait := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/wait" {
			select {
			case <-r.Context().Done():
			case <-wait:
			}
		}
	}))
	defer s.Close()
	defer close(wait)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+s.Listener.Addr().String()+` {
		transport tentagate {
			breaker hostile-upstream {
				consecutive 1
				trip 1% of 1
			}
		}
	}
}`)
	addr := gateway.Listener.Addr().String()
	raw := func(text string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, text)
		if strings.HasSuffix(text, "\n") {
			_, _ = conn.Read(make([]byte, 1))
		}
	}
	canceled := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway.URL+"/wait", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	const head = "POST / HTTP/1.1\r\nHost: x\r\n"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				raw(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")
				raw(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n")
				raw(head + "Content-Length: 1000\r\n\r\nonly this")
				raw(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel")
				canceled()
			}
		})
	}
	wg.Wait()
	if got := send(t, http.MethodPost, gateway.URL, "x").status; got != http.StatusOK {
		t.Errorf("afterwards: %d", got)
	}
	gateway.Close() // the last request has ended then
	expectState(t, "hostile-upstream", s.Listener.Addr().String(), "closed")
}
