package upstream_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// Where no circuit admits a request within the time for which reverse_proxy
// tries, the answer comes at once, and says when to come back: with a handler
// around the proxy and without.
func TestAllOpenWithoutWaiting(t *testing.T) {
	for name, retries := range map[string]string{
		"once": "lb_policy round_robin", "retries": "lb_retries 5", "tries": "lb_try_duration 20s", "both": "lb_try_duration 20s\n\t\tlb_retries 100",
		"available": "lb_try_duration 20s\n\t\tlb_policy available",
	} {
		for _, around := range []string{"", "circuit_breaker around-open {\n\t\tconsecutive 100\n\t}"} {
			t.Run(fmt.Sprintf("%s/%v", name, around != ""), func(t *testing.T) {
				a, b := newBackend(t), newBackend(t)
				a.status.Store(500)
				b.status.Store(500)
				breaker := fmt.Sprintf("all-open-%s-%v", name, around != "")
				gateway := servertest.New(t, `
:80 {
	`+around+`
	reverse_proxy `+a.addr()+` `+b.addr()+` {
		`+retries+`
		transport tentagate {
			breaker `+breaker+` {
				consecutive 1
				open_for 60s
			}
		}
	}
}`)
				for range 20 {
					send(t, http.MethodPost, gateway.URL, "x")
				}
				expectState(t, breaker, a.addr(), "open")
				expectState(t, breaker, b.addr(), "open")
				asked := a.served.Load() + b.served.Load()
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					began := time.Now()
					got := send(t, method, gateway.URL, "")
					if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "60" ||
						got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/problem+json" ||
						!strings.Contains(got.body, `"instance":"`) {
						t.Errorf("%s: %+v", method, got)
					}
					if waited := time.Since(began); waited > 10*time.Second {
						t.Errorf("%s: it waited %s", method, waited)
					}
				}
				if got := a.served.Load() + b.served.Load(); got != asked {
					t.Errorf("%d requests came through", got-asked)
				}
			})
		}
	}
}

// reverse_proxy waits for a circuit that will admit requests while it retries.
func TestShortOpening(t *testing.T) {
	b := newBackend(t)
	b.status.Store(500)
	gateway := servertest.New(t, `
:80 {
	reverse_proxy `+b.addr()+` {
		lb_try_duration 30s
		lb_try_interval 5ms
		transport tentagate {
			breaker moment {
				consecutive 1
				open_for 5s
			}
		}
	}
}`)
	send(t, http.MethodPost, gateway.URL, "x")
	b.status.Store(200)
	got := make(chan int)
	go func() { got <- send(t, http.MethodGet, gateway.URL, "").status }()
	for status := 0; status == 0; {
		select {
		case status = <-got:
			if status != http.StatusOK {
				t.Errorf("%d", status)
			}
		case <-time.After(10 * time.Millisecond):
			testClock.Add(time.Second)
		}
	}
}

// An invalid answer is refused, counts as a failure, and nothing of it reaches
// the client.
func TestInvalidAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"020": "HTTP/1.1 020 OK\r\nContent-Length: 2\r\n\r\nok", "099": "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
		"000": "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", "+99": "HTTP/1.1 +99 OK\r\nContent-Length: 2\r\n\r\nok",
		"-20": "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok", "20": "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
		"1000": "HTTP/1.1 1000 OK\r\nContent-Length: 2\r\n\r\nok", "2e2": "HTTP/1.1 2e2 OK\r\nContent-Length: 2\r\n\r\nok",
		"tab":      "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok",
		"101":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nok",
		"101-bare": "HTTP/1.1 101 Switching Protocols\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			addr := testkit.RawBackend(t, text[:5]+"|"+text[5:], nil)
			gateway := servertest.New(t, `
:80 {
	reverse_proxy `+addr+` {
		transport tentagate {
			breaker invalid-`+name+` {
				consecutive 2
			}
		}
	}
}`)
			for range 2 {
				if got := send(t, http.MethodGet, gateway.URL, ""); got.status != http.StatusBadGateway || got.body == "ok" {
					t.Errorf("%+v", got)
				}
			}
			expectState(t, "invalid-"+name, addr, "open")
		})
	}
}

// frames sends one request over HTTP/2 with the fields as they are given, and
// returns the status of the answer, or 0 if the stream is refused.
func frames(t *testing.T, gateway *httptest.Server, fields [][2]string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", gateway.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // a test
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "connection error"
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return "reset"
		}
	}
}

// Over HTTP/2 a method or a target may have spaces in it. No such request is
// written to an upstream.
func TestInvalidRequestLines(t *testing.T) {
	var lines atomic.Value
	lines.Store("")
	addr := testkit.Serve(t, func(conn net.Conn) {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		lines.Store(lines.Load().(string) + string(buf[:n]))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	gateway := servertest.NewTLS(t, `
:80 {
	reverse_proxy `+addr+` {
		lb_retries 2
		transport tentagate {
			breaker tokens {
				consecutive 1
			}
		}
	}
}`)
	for _, tc := range []struct {
		method, path, authority string
		refused                 bool
	}{
		{"GET", "/", "x", false},
		{"GET", "/x?a=b", "x", false},
		{"GET", "/a%20b?c%20d", "x", false},
		{"GET", "/x?a HTTP/1.0", "x", true},
		{"GET", "/?a b", "x", true},
		{"GET", "/?a\tb", "x", true},
		{"GET", "/?a#b", "x", true},
		{"G ET", "/", "x", true},
		{"GET /smuggled HTTP/1.1", "/", "x", true},
		{"G\"ET", "/", "x", true},
		{"GET", "/", "x y", true},
	} {
		lines.Store("")
		got := frames(t, gateway, [][2]string{{":method", tc.method}, {":path", tc.path}, {":authority", tc.authority}, {":scheme", "https"}})
		sent := lines.Load().(string)
		if tc.refused && (got == "200" || sent != "") {
			t.Errorf("%q %q %q: %s, and sent was %q", tc.method, tc.path, tc.authority, got, sent)
		}
		if !tc.refused && got != "200" {
			t.Errorf("%q %q: %s", tc.method, tc.path, got)
		}
	}
	expectState(t, "tokens", addr, "closed")
}
