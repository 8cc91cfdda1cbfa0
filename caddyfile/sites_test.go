package caddyfile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"

	"github.com/pythopus/tentagate/internal/servertest"
)

// Sites with services of the same name share no circuit, no answers and no
// limits, wherever their directives stand.
func TestSites(t *testing.T) {
	environment(t, "BACKEND_SERVICES=")
	backend := func(name string, status int) string {
		var n atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/fail") {
				w.WriteHeader(status)
				return
			}
			_, _ = fmt.Fprint(w, name, n.Add(1))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	site := func(upstream, limit string) string {
		return "tentagate {\n\t\tjwt off\n\t\tservice users " + upstream + "\n\t\tratelimit " + limit + "\n\t}"
	}
	// Each one's breaker opens, and its limit is reached; the next must not know.
	var config strings.Builder
	fmt.Fprintf(&config, "http://a.test:80 {\n\t%s\n}\n", site(backend("a", 500), "8/1m"))
	fmt.Fprintf(&config, "http://b.test:80 {\n\t%s\n}\n", site(backend("b", 500), "8/1m"))
	fmt.Fprintf(&config, "http://localhost:80 {\n\t%s\n}\n", site(backend("c", 500), "8/1m"))
	fmt.Fprintf(&config, "http://127.0.0.1:80 {\n\thandle_path /d/* {\n\t%s\n\t}\n\thandle_path /e/* {\n\t%s\n\t}\n}\n",
		site(backend("d", 500), "8/1m"), site(backend("e", 500), "8/1m"))
	fmt.Fprintf(&config, ":80 {\n\t%s\n}\n", site(backend("f", 500), "8/1m"))
	gateway := servertest.New(t, config.String()).URL
	get := func(host, path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, s := range []struct{ name, host, prefix string }{
		{"a", "a.test", ""}, {"b", "b.test", ""}, {"c", "localhost", ""}, {"d", "127.0.0.1", "/d"}, {"e", "127.0.0.1", "/e"}, {"f", "other.test", ""},
	} {
		if status, body := get(s.host, s.prefix+"/api/users/x"); status != 200 || body != s.name+"1" {
			t.Errorf("%s: the first request: %d %s, want %s1", s.name, status, body, s.name)
		}
		if status, body := get(s.host, s.prefix+"/api/users/x"); status != 200 || body != s.name+"1" {
			t.Errorf("%s: from the cache: %d %s", s.name, status, body)
		}
		for i := range 5 {
			if status, _ := get(s.host, s.prefix+"/api/users/fail"); status != 500 {
				t.Errorf("%s: failure %d: %d", s.name, i+1, status)
			}
		}
		if status, _ := get(s.host, s.prefix+"/api/users/y"); status != 503 {
			t.Errorf("%s: after 5 failures: %d", s.name, status)
		}
		if status, _ := get(s.host, s.prefix+"/api/users/z"); status != 429 {
			t.Errorf("%s: after 8 requests: %d", s.name, status)
		}
	}
}

// twice starts a service at two addresses of one kind.
func twice(t *testing.T, kind string, handler http.Handler) string {
	t.Helper()
	var urls []string
	for range 2 {
		switch kind {
		case "https":
			s := httptest.NewTLSServer(handler)
			t.Cleanup(s.Close)
			urls = append(urls, s.URL)
		case "h2c":
			s := httptest.NewServer(h2c.NewHandler(handler, &http2.Server{}))
			t.Cleanup(s.Close)
			urls = append(urls, "h2c"+strings.TrimPrefix(s.URL, "http"))
		default:
			s := httptest.NewServer(handler)
			t.Cleanup(s.Close)
			urls = append(urls, s.URL)
		}
	}
	return strings.Join(urls, " ")
}

// Whatever one client sends, the next one is served.
func TestClientsTakeNoServiceDown(t *testing.T) {
	environment(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/breaks" {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "half of it")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	for _, kind := range []string{"http", "https", "h2c"} {
		for _, own := range []string{"", "transport http {\n\t\t\t\tdial_timeout 5s\n\t\t\t\t$TLS\n\t\t\t}", "lb_policy first\n\t\t\tlb_retries 3"} {
			own, insecure := strings.Replace(own, "$TLS", "", 1), ""
			if kind == "https" {
				insecure = "tls_insecure_skip_verify"
				if !strings.Contains(own, "transport") {
					own += "\n\t\t\ttransport http {\n\t\t\t\t" + insecure + "\n\t\t\t}"
				} else {
					own = strings.Replace(own, "dial_timeout", insecure+"\n\t\t\t\tdial_timeout", 1)
				}
			}
			t.Run(kind+" "+own, func(t *testing.T) {
				name := unique()
				gateway := servertest.New(t, `:80 {
	request_body {
		max_size 1KB
	}
	tentagate {
		ratelimit off
		jwt off
		service `+name+` `+twice(t, kind, handler)+` {
			`+own+`
		}
	}
}`)
				base := "/api/" + name
				for range 6 {
					raw(t, gateway, "POST "+base+"/login HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n")
					raw(t, gateway, "POST "+base+"/login HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nfewer")
					raw(t, gateway, "GET "+base+"/breaks HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
					if kind != "h2c" {
						answer := raw(t, gateway, "POST "+base+"/login HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"+strings.Repeat("x", 5000))
						if !strings.HasPrefix(answer, "HTTP/1.1 413") {
							t.Errorf("an upload that is too large: %q", answer)
						}
					}
					if status, _, body := ask(t, gateway.URL, "GET", base+"/works"); status != 200 {
						t.Fatalf("the next client: %d %s", status, body)
					}
				}
			})
		}
	}
}

// raw sends bytes, ends its side of the connection and returns the answer's
// first line.
func raw(t *testing.T, gateway *httptest.Server, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", gateway.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return ""
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	r := bufio.NewReader(conn)
	line, _ := r.ReadString('\n')
	_, _ = io.Copy(io.Discard, r)
	return line
}

// An address that cannot be reached is left out, and the service goes on.
func TestDeadAddress(t *testing.T) {
	environment(t)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	name := unique()
	gateway := servertest.New(t, ":80 {\n\ttentagate {\n\t\tratelimit off\n\t\tcache off\n\t\tjwt off\n\t\tservice "+name+" http://"+dead+" "+s.URL+"\n\t}\n}").URL
	for i := range 20 {
		if status, _, body := ask(t, gateway, "POST", "/api/"+name+"/x"); status != 200 {
			t.Errorf("request %d: %d %s", i+1, status, body)
		}
	}
	if asked.Load() != 20 {
		t.Errorf("the one that works was asked %d times", asked.Load())
	}
}

// A service that hangs is given up, and the breaker opens.
func TestHangingService(t *testing.T) {
	environment(t)
	for _, kind := range []string{"http", "https", "h2c"} {
		for _, block := range []string{"", "transport http {\n\t\t\t\ttls_insecure_skip_verify\n\t\t\t}"} {
			if (kind == "https") != (block != "") {
				continue
			}
			hang := make(chan struct{})
			upstream := strings.Fields(twice(t, kind, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang })))[0]
			t.Cleanup(func() { close(hang) })
			name := unique()
			gateway := servertest.New(t, ":80 {\n\ttentagate {\n\t\tratelimit off\n\t\tjwt off\n\t\tresponse_header_timeout 50ms\n\t\tservice "+name+" "+upstream+" {\n\t\t\t"+block+"\n\t\t}\n\t}\n}").URL
			for i := range 5 {
				if status, _, body := ask(t, gateway, "GET", fmt.Sprintf("/api/%s/%d", name, i)); status != 504 {
					t.Errorf("%s: request %d: %d %s", kind, i+1, status, body)
				}
			}
			if status, header, _ := ask(t, gateway, "GET", "/api/"+name+"/x"); status != 503 || header.Get("Retry-After") == "" {
				t.Errorf("%s: after 5 that hung: %d", kind, status)
			}
		}
	}
}
