package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// answering starts an upstream that gives the same bytes to every request, each
// in a piece of its own where they have a |.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					for piece := range strings.SplitSeq(answer, "|") {
						if _, err = io.WriteString(c, piece); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A status line with more than one blank before its code is refused (RFC 9112
// §4), in the first answer of a connection and in a later one, behind
// informational answers too. What is inside an answer is no status line.
func TestBlanksInStatusLines(t *testing.T) {
	const fields = "\r\nContent-Length: 2\r\n\r\nok"
	inside := "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n|HTTP/1.1  200 OK\r\n\r\n"
	for name, tc := range map[string]struct {
		answer string
		status int
	}{
		"one":                 {"HTTP/1.1 200 OK" + fields, 200},
		"no reason":           {"HTTP/1.1 200" + fields, 200},
		"in pieces":           {"HTTP/1|.1 |200 OK" + fields, 200},
		"two":                 {"HTTP/1.1  200 OK" + fields, 502},
		"three":               {"HTTP/1.1   200 OK" + fields, 502},
		"two, in pieces":      {"HTTP/1.1 | 200 OK" + fields, 502},
		"two, HTTP/1.0":       {"HTTP/1.0  200 OK" + fields, 502},
		"behind hints":        {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1  200 OK" + fields, 502},
		"behind 100":          {"HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 102 P\r\n\r\nHTTP/1.1  200 OK" + fields, 502},
		"one behind hints":    {"HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK" + fields, 200},
		"hints with two":      {"HTTP/1.1  103 Early Hints\r\n\r\nHTTP/1.1 200 OK" + fields, 502},
		"inside the body":     {inside, 200},
		"two behind the code": {"HTTP/1.1 200  OK" + fields, 200},
	} {
		for version, options := range map[string]string{"": "", "with timeouts": "read_timeout 1m"} {
			t.Run(name+" "+version, func(t *testing.T) {
				gateway := servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate {\n\t\t\t%s\n\t\t}\n\t}\n}", answering(t, tc.answer), options))
				for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodGet} {
					if got := send(t, method, gateway.URL, strings.TrimPrefix("x"+method, "xGET")); got.status != tc.status {
						t.Errorf("%s: got %d, want %d", method, got.status, tc.status)
					}
				}
			})
		}
	}
}
