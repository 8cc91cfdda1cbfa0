package integration

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// faultyProxy is a site with Caddy's own transport behind each of the handlers.
var faultyProxy = map[string]string{
	"guard":           "guard",
	"cors":            "cors https://app.test",
	"ratelimit":       "ratelimit 1000/1s",
	"circuit_breaker": "circuit_breaker faulty {\n\t\tconsecutive 1\n\t}",
	"all":             "guard\n\tratelimit 1000/1s\n\thttp_cache 60s\n\tcircuit_breaker faulty {\n\t\tconsecutive 1\n\t}",
}

// A body that does not arrive in time is answered with 408 whatever the
// transport, which Go's server and reverse_proxy take for a client that left. It
// opens no circuit.
func TestLateBodies(t *testing.T) {
	backend := testkit.RawBackend(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", nil)
	for name, handlers := range faultyProxy {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, "{\n\tadmin $ADMIN\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body 300ms\n\t\t}\n\t}\n}\nhttp://$ADDR {\n\t"+handlers+"\n\treverse_proxy "+backend+"\n}")
			for _, framing := range []string{"Content-Length: 50\r\n\r\nonly this", "Transfer-Encoding: chunked\r\n\r\n50\r\nonly this"} {
				resp, body := testkit.Exchange(t, g.addr, "POST / HTTP/1.1\r\nHost: HOST\r\n"+framing)
				var problem struct{ Status int }
				if err := json.Unmarshal([]byte(body), &problem); resp.StatusCode != http.StatusRequestTimeout || err != nil || problem.Status != resp.StatusCode || !resp.Close {
					t.Errorf("%s: %d %s", framing, resp.StatusCode, body)
				}
			}
			if resp, body := testkit.Exchange(t, g.addr, "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"); resp.StatusCode != 200 || body != "ok" {
				t.Errorf("afterwards: %d %s", resp.StatusCode, body)
			}
		})
	}
}

// A change of protocols that nobody asked for is 502, not an empty 200, which
// reverse_proxy leaves it at. It is the backend's failure.
func TestUnaskedUpgrades(t *testing.T) {
	backend := testkit.RawBackend(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", nil)
	handlersOf := maps.Clone(faultyProxy)
	handlersOf["http_cache"] = "http_cache 60s"
	for name, handlers := range handlersOf {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, "{\n\tadmin $ADMIN\n}\nhttp://$ADDR {\n\t"+handlers+"\n\treverse_proxy "+backend+"\n}")
			for i, want := range []int{502, 503} {
				if i > 0 && !strings.Contains(handlers, "circuit_breaker") {
					want = 502
				}
				if resp, body := testkit.Exchange(t, g.addr, "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"); resp.StatusCode != want || !strings.Contains(body, `"status":`) {
					t.Errorf("request %d: %d %s, want %d", i+1, resp.StatusCode, body, want)
				}
			}
		})
	}
}
