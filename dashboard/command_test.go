package dashboard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Only what the page asks for is forwarded, with the secret of the URL, to this server by a
// loopback name, and not for pages of other origins.
func TestForwarder(t *testing.T) {
	to := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI())
	})
	f := &forwarder{to: to, secret: "S3CRET", own: "127.0.0.1:9900", port: "9900"}
	post := map[string]string{actionField: "1", "Origin": "http://127.0.0.1:9900"}
	for name, tc := range map[string]struct {
		method, host, path string
		fields             map[string]string
		status             int
		want               string
	}{
		"the page":             {"GET", "127.0.0.1:9900", "/S3CRET/", nil, 200, "GET /tentagate/"},
		"without a slash":      {"GET", "127.0.0.1:9900", "/S3CRET", nil, 308, `"/S3CRET/"`},
		"posts without one":    {"POST", "127.0.0.1:9900", "/S3CRET", post, 404, ""},
		"no port":              {"GET", "localhost", "/S3CRET/", nil, 403, "host"},
		"by name":              {"GET", "localhost:9900", "/S3CRET/", nil, 200, "GET /tentagate/"},
		"the events":           {"GET", "127.0.0.1:9900", "/S3CRET/dashboard/events", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200, "GET /tentagate/dashboard/events"},
		"a breaker":            {"POST", "127.0.0.1:9900", "/S3CRET/breakers/a%2Fb?scope=1", post, 200, "POST /tentagate/breakers/a%2Fb?scope=1"},
		"another host":         {"GET", "evil.example:9900", "/S3CRET/", nil, 403, "host"},
		"another port":         {"GET", "localhost:80", "/S3CRET/", nil, 403, "host"},
		"no host":              {"GET", "", "/S3CRET/", nil, 403, "host"},
		"no secret":            {"GET", "127.0.0.1:9900", "/", nil, 404, "open the URL"},
		"another secret":       {"GET", "127.0.0.1:9900", "/S3CRE/", nil, 404, "open the URL"},
		"another origin reads": {"GET", "127.0.0.1:9900", "/S3CRET/", map[string]string{"Origin": "http://evil.example"}, 403, "origin"},
		"another origin posts": {"POST", "127.0.0.1:9900", "/S3CRET/breakers/a", map[string]string{actionField: "1", "Sec-Fetch-Site": "cross-site"}, 403, "origin"},
		"a form":               {"POST", "127.0.0.1:9900", "/S3CRET/breakers/a", nil, 404, ""},
		"the configuration":    {"GET", "127.0.0.1:9900", "/S3CRET/../config/", nil, 404, ""},
		"a path that leaves":   {"POST", "127.0.0.1:9900", "/S3CRET/breakers/../../load", post, 404, ""},
		"that leaves, escaped": {"POST", "127.0.0.1:9900", "/S3CRET/breakers/%2e%2e/%2e%2e/load", post, 404, ""},
		"the status":           {"GET", "127.0.0.1:9900", "/S3CRET/status", nil, 404, ""},
		"a method":             {"DELETE", "127.0.0.1:9900", "/S3CRET/", nil, 404, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, "http://x"+tc.path, nil)
		r.Host = tc.host
		for field, value := range tc.fields {
			r.Header.Set(field, value)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, tc.status, tc.want)
		}
	}
}

// Browsers leave out port 80.
func TestForwarderAtDefaultPort(t *testing.T) {
	f := &forwarder{own: "127.0.0.1:80", port: "80"}
	for host, want := range map[string]bool{
		"127.0.0.1": true, "localhost": true, "[::1]": true, "127.0.0.1:80": true, "localhost:80": true,
		"evil.example": false, "evil.example:80": false, "": false, "localhost:81": false,
	} {
		if f.accepts(host) != want {
			t.Errorf("%q: want %v", host, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:0": "127.0.0.1:0", "localhost:9900": "127.0.0.1:9900", "[::1]:9900": "[::1]:9900",
		"0.0.0.0:9900": "", ":9900": "", "10.1.2.3:9900": "", "gateway:9900": "", "9900": "",
	} {
		if got, err := loopback(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v, want %q", address, got, err, want)
		}
	}
}
