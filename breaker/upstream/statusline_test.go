package upstream_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// serverTLS returns the configuration of a server with the certificate of
// net/http/httptest.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	config := s.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	return config
}

// A status line with more than one space before its code is refused (RFC 9112
// §4), in the first answer of a connection and in a later one, behind
// informational answers too. What is inside an answer is no status line.
func TestSpacesInStatusLines(t *testing.T) {
	const fields = "\r\nContent-Length: 2\r\n\r\nok"
	secure := serverTLS(t)
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
		for version, options := range map[string]string{
			"": "", "with timeouts": "read_timeout 1m",
			"TLS": "tls_insecure_skip_verify", "TLS, another name": "tls_insecure_skip_verify\ntls_server_name {http.request.host}",
		} {
			t.Run(name+" "+version, func(t *testing.T) {
				var config *tls.Config
				if strings.HasPrefix(version, "TLS") {
					config = secure
				}
				gateway := servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate {\n\t\t\t%s\n\t\t}\n\t}\n}", testkit.RawBackend(t, tc.answer, config), options))
				for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodGet} {
					if got := send(t, method, gateway.URL, strings.TrimPrefix("x"+method, "xGET")); got.status != tc.status {
						t.Errorf("%s: got %d, want %d", method, got.status, tc.status)
					}
				}
			})
		}
	}
}
