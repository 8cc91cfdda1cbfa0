package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// connections are what a backend sees: where each connection came from and what
// it began with.
type connections struct {
	mu   sync.Mutex
	seen []string
}

func (s *connections) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, text)
}

// Options of Caddy's http transport that are about connections hold for those of
// the direct client, which uses one after the other.
func TestOptionsOfConnections(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		want    []string // of the connections, for three requests
	}{
		"none":           {"", []string{"127.0.0.1 GET"}},
		"PROXY protocol": {"proxy_protocol v1", []string{"127.0.0.1 PROXY TCP4 127.0.0.1 0.0.0.0"}},
		"local address":  {"local_address 127.0.0.3", []string{"127.0.0.3 GET"}},
		"keepalive off":  {"keepalive off", []string{"127.0.0.1 GET", "127.0.0.1 GET", "127.0.0.1 GET"}},
		"no idle ones":   {"keepalive_idle_conns_per_host -1", []string{"127.0.0.1 GET", "127.0.0.1 GET", "127.0.0.1 GET"}},
		"timeouts":       {"read_timeout 1m\n\t\t\twrite_timeout 1m\n\t\t\tlocal_address 127.0.0.3", []string{"127.0.0.3 GET"}},
		"fallback delay": {"dial_fallback_delay 10ms\n\t\t\tdial_timeout 5s", []string{"127.0.0.1 GET"}},
	} {
		for _, how := range []string{"on", "off"} {
			t.Run(name+" "+how, func(t *testing.T) {
				var s connections
				addr := scripted(t, func(c *net.TCPConn, in *bufio.Reader) {
					line, _ := in.Peek(14)
					begins, _, _ := strings.Cut(string(line), " ")
					if begins == "PROXY" {
						text, _ := in.ReadString('\n')
						begins = strings.Join(strings.Fields(text)[:4], " ")
					}
					host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					s.add(host + " " + begins)
					for readRequest(in) {
						_, _ = io.WriteString(c, plain)
					}
				})
				gateway := servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate {\n\t\t\tdirect %s\n\t\t\t%s\n\t\t}\n\t}\n}", addr, how, tc.options))
				for range 3 {
					if got := send(t, http.MethodGet, gateway.URL, ""); got.status != 200 || got.body != "ok" {
						t.Fatalf("%d %q", got.status, got.body)
					}
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if fmt.Sprint(s.seen) != fmt.Sprint(tc.want) {
					t.Errorf("connections %q, want %q", s.seen, tc.want)
				}
			})
		}
	}
}

// A client does not get the fields that Connection names, which are for the gateway alone
// (RFC 9110 §7.6.1), also beside close.
func TestFieldsOfTheConnection(t *testing.T) {
	for _, connection := range []string{"X-Hop", "close, X-Hop", "x-hop, Close"} {
		addr := scripted(t, func(c *net.TCPConn, in *bufio.Reader) {
			for readRequest(in) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: "+connection+"\r\nX-Hop: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		gateway := servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate\n\t}\n}", addr))
		resp, err := http.Get(gateway.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header["X-Hop"] != nil || resp.Header["X-Kept"] == nil || resp.Close {
			t.Errorf("Connection: %s: %d %v", connection, resp.StatusCode, resp.Header)
		}
	}
}
