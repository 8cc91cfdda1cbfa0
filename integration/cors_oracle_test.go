package integration

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jub "github.com/jub0bs/cors"
	rs "github.com/rs/cors"

	"github.com/pythopus/tentagate/internal/servertest"
)

// conclusion is what a browser takes from an answer.
type conclusion struct {
	allowed     bool // the page gets what it asked for
	credentials bool // also for a request with cookies
	cacheable   bool // the answer names what it depends on
}

// concludes follows the CORS check and the CORS-preflight fetch of the Fetch
// standard, for a request without cookies.
func concludes(r *http.Request, w *httptest.ResponseRecorder) conclusion {
	var v conclusion
	from, got := r.Header.Get("Origin"), w.Header()
	acao := got.Values("Access-Control-Allow-Origin")
	// A preflight is never cached by anybody but the browser that sent it.
	v.cacheable = r.Method == http.MethodOptions || len(acao) == 1 && acao[0] == "*" || listed(got.Values("Vary"), "Origin")
	if len(acao) != 1 || acao[0] != "*" && acao[0] != from {
		return v
	}
	v.credentials = acao[0] != "*" && got.Get("Access-Control-Allow-Credentials") == "true"
	if r.Method == http.MethodOptions {
		method := r.Header.Get("Access-Control-Request-Method")
		if !listedExactly(got.Values("Access-Control-Allow-Methods"), method) && method != "GET" && method != "HEAD" && method != "POST" {
			return conclusion{cacheable: v.cacheable}
		}
		for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
			wildcard := listedExactly(got.Values("Access-Control-Allow-Headers"), "*") && !strings.EqualFold(name, "authorization")
			if name != "" && !listed(got.Values("Access-Control-Allow-Headers"), name) && !wildcard {
				return conclusion{cacheable: v.cacheable}
			}
		}
	}
	v.allowed = true
	return v
}

func listed(values []string, name string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), name) {
				return true
			}
		}
	}
	return false
}

func listedExactly(values []string, method string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item == method || item == "*" {
				return true
			}
		}
	}
	return false
}

// intended returns why an oracle's answer to a request is not ours.
func intended(oracle, config, method, fields, from string) string {
	actual := fields == noPreflight
	switch {
	case oracle == "rs" && config == "any" && !actual && (method == "PURGE" || method == "PATCH"):
		return "rs/cors has no wildcard for methods"
	case oracle == "rs" && actual && (config == "exact" && (method == "DELETE" || method == "PATCH" || method == "PURGE") || config == "subdomains" && (method == "PUT" || method == "PATCH" || method == "PURGE") || config == "any port" && method != "GET" || config == "any" && (method == "PURGE" || method == "PATCH")):
		return "rs/cors withholds the fields of an actual request whose method is not allowed: the preflight has decided that"
	case oracle == "rs" && !actual && method == "POST" && config == "any port":
		return "rs/cors refuses a safelisted method that is not listed; browsers do not ask for it"
	case config == "subdomains" && strings.Contains(from, "/."):
		return "both take anything between prefix and suffix for a subdomain; no browser sends it"
	case oracle == "rs" && strings.Contains(from, ":port"):
		return "rs/cors takes anything for a port"
	}
	return ""
}

// noPreflight stands for the request itself in the table of requests.
const noPreflight = "no preflight"

// Two libraries are asked the same as the handler. What a browser concludes
// from the answers must be the same, but for the intended differences.
func TestCORSAgainstLibraries(t *testing.T) {
	configs := []struct {
		name, block string
		rs          rs.Options
		jub         jub.Config
	}{
		{
			"exact", "cors https://app.example.com http://localhost:9090 {\n allow_credentials\n allowed_methods GET POST PUT\n allowed_headers Authorization X-Request-Id Content-Type X-A X-B X-C\n}",
			rs.Options{AllowedOrigins: []string{"https://app.example.com", "http://localhost:9090"}, AllowCredentials: true, AllowedMethods: []string{"GET", "POST", "PUT"}, AllowedHeaders: []string{"Authorization", "X-Request-Id", "Content-Type", "X-A", "X-B", "X-C"}},
			jub.Config{
				Origins: []string{"https://app.example.com", "http://localhost:9090"}, Credentialed: true, Methods: []string{"GET", "POST", "PUT"}, RequestHeaders: []string{"Authorization", "X-Request-Id", "Content-Type", "X-A", "X-B", "X-C"},
				DangerouslyTolerateInsecureOrigins: true,
			},
		},
		{
			"subdomains", "cors https://*.example.com {\n allowed_methods GET POST HEAD DELETE\n allowed_headers Authorization\n}",
			rs.Options{AllowedOrigins: []string{"https://*.example.com"}, AllowedMethods: []string{"GET", "POST", "HEAD", "DELETE"}, AllowedHeaders: []string{"Authorization"}},
			jub.Config{Origins: []string{"https://*.example.com"}, Methods: []string{"GET", "POST", "HEAD", "DELETE"}, RequestHeaders: []string{"Authorization"}},
		},
		{
			"any", "cors * {\n allowed_methods *\n allowed_headers X-A\n}",
			rs.Options{AllowedOrigins: []string{"*"}, AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "DELETE"}, AllowedHeaders: []string{"X-A"}},
			jub.Config{Origins: []string{"*"}, Methods: []string{"*"}, RequestHeaders: []string{"X-A"}},
		},
		{
			"any port", "cors http://localhost:* {\n allowed_methods GET\n allowed_headers *\n}",
			rs.Options{AllowedOrigins: []string{"http://localhost:*", "http://localhost"}, AllowedMethods: []string{"GET"}, AllowedHeaders: []string{"*"}},
			jub.Config{Origins: []string{"http://localhost:*"}, Methods: []string{"GET"}, RequestHeaders: []string{"*", "Authorization"}},
		},
	}
	origins := []string{
		"https://app.example.com", "http://localhost:9090", "http://localhost", "https://a.b.example.com", "https://example.com", "https://evil.test", "http://app.example.com",
		"null", "https://app.example.com.evil.test", "https://app.example.com:8443", "https://evilexample.com", "https://evil.test/.example.com", "http://localhost:port",
	}
	methods := []string{"GET", "POST", "PUT", "DELETE", "PATCH", "PURGE"}
	fields := []string{"", "authorization", "x-a", "authorization,content-type,x-request-id", "x-a,x-b,x-c", "x-unknown", noPreflight}

	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	compared, different := 0, map[string]int{}
	for _, cfg := range configs {
		h := servertest.Handler(t, ":80 {\n"+cfg.block+"\nrespond 200\n}")
		middleware, err := jub.NewMiddleware(cfg.jub)
		if err != nil {
			t.Fatal(err)
		}
		oracles := map[string]http.Handler{"rs": rs.New(cfg.rs).Handler(service), "jub0bs": middleware.Wrap(service)}
		for _, from := range origins {
			for _, method := range methods {
				for _, names := range fields {
					request := func() *http.Request {
						r := httptest.NewRequest(method, "/x", nil)
						if names != noPreflight {
							r = httptest.NewRequest(http.MethodOptions, "/x", nil)
							r.Header.Set("Access-Control-Request-Method", method)
							if names != "" {
								r.Header.Set("Access-Control-Request-Headers", names)
							}
						}
						r.Header.Set("Origin", from)
						return r
					}
					r, w := request(), httptest.NewRecorder()
					h.ServeHTTP(w, r)
					got := concludes(r, w)
					for name, oracle := range oracles {
						r, w := request(), httptest.NewRecorder()
						oracle.ServeHTTP(w, r)
						want := concludes(r, w)
						compared++
						reason := intended(name, cfg.name, method, names, from)
						switch {
						case got == want:
						case reason == "":
							t.Errorf("%s, %s from %s, %s: got %+v, %s says %+v %v", cfg.name, method, from, names, got, name, want, w.Header())
						default:
							different[reason]++
						}
					}
				}
			}
		}
	}
	if compared < 200 {
		t.Errorf("only %d answers compared", compared)
	}
	t.Logf("%d answers compared; intended differences: %v", compared, different)
}
