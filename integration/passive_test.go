package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// Behind guard nothing that clients send counts in the passive health checks of
// a proxy with Caddy's own transport, wherever in the site the proxy is: a good
// request is answered at once.
func TestClientsMarkNoUpstream(t *testing.T) {
	upstream := func() string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				_, _ = io.WriteString(w, "ok")
			}
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	large := strings.Repeat("x", 3000)
	attacks := []struct {
		name, text string
		statuses   []int
	}{
		{"a size that is none", "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n", []int{400}},
		{"a negative size, GET", "GET / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n", []int{400}},
		{"too large", "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3000\r\n\r\n" + large, []int{413}},
		{"too large, chunked", "PUT / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n" + large + "\r\n0\r\n\r\n", []int{413}},
		{"a line feed", "GET /?q=a%0Ab HTTP/1.1\r\nHost: HOST\r\n\r\n", []int{400}},
		{"a NUL", "POST /?q=%00 HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello", []int{400}},
		{"a line feed in the host", "GET /?h=a%0Ab HTTP/1.1\r\nHost: HOST\r\n\r\n", []int{200, 400}},
		{"late", "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 50\r\n\r\nonly this", []int{408}},
		{"late, chunked", "PUT / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nonly this", []int{408}},
	}
	send := func(t *testing.T, addr, text string) int {
		t.Helper()
		resp, _ := testkit.Exchange(t, addr, text)
		return resp.StatusCode
	}
	for name, site := range map[string]string{
		"site":    "http://$ADDR {\n\tguard\n\tPROXY\n}",
		"port":    ":$PORT {\n\tguard\n\tPROXY\n}",
		"handle":  "http://$ADDR {\n\tguard\n\thandle_path /none/* {\n\t\trespond 404\n\t}\n\thandle {\n\t\troute {\n\t\t\tPROXY\n\t\t}\n\t}\n}",
		"inside":  "http://$ADDR {\n\thandle {\n\t\tguard\n\t\tPROXY\n\t}\n}",
		"sites":   "http://other.test:$PORT {\n\tguard\n\trespond 404\n}\nhttp://$ADDR {\n\tguard\n\tPROXY\n}",
		"named":   "&(proxied) {\n\troute {\n\t\tPROXY\n\t}\n}\nhttp://$ADDR {\n\tguard\n\tinvoke proxied\n}",
		"active":  "http://$ADDR {\n\tguard\n\tACTIVE\n}",
		"options": "http://$ADDR {\n\tguard\n\tOPTIONS\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := func(more string) string {
				return "request_body {\nmax_size 2000\n}\nreverse_proxy " + upstream() + " " + upstream() +
					" {\nfail_duration 1h\nlb_retries 2\nheader_up X-Q {query.q}\nheader_up Host {query.h}\n" + more + "\n}"
			}
			site = strings.NewReplacer("PROXY", proxy(""), "ACTIVE", proxy("health_uri /\nhealth_interval 10ms"),
				"OPTIONS", proxy("transport http {\nversions 1.1\nkeepalive 1m\n}\nlb_retry_match method GET POST PUT")).Replace(site)
			g := start(t, "{\n\tadmin $ADMIN\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body 500ms\n\t\t}\n\t}\n}\n"+site)
			for _, a := range attacks {
				for range 3 {
					if got := send(t, g.addr, a.text); !slices.Contains(a.statuses, got) {
						t.Errorf("%s: %d, want %d", a.name, got, a.statuses)
					}
				}
				for range 2 {
					if got := send(t, g.addr, "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"); got != 200 {
						t.Fatalf("after %s: %d", a.name, got)
					}
				}
			}
		})
	}
}
