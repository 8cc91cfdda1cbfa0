package caddyfile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/servertest"
)

// Sites with services of the same name share no circuit, no answers and no
// limits, wherever their directives stand.
func TestSites(t *testing.T) {
	environment(t, "BACKEND_SERVICES=")
	service := unique() // a circuit outlives its test
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
		return "tentagate {\n\t\tjwt off\n\t\tservice " + service + " " + upstream + "\n\t\tratelimit " + limit + "\n\t}"
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
		if status, body := get(s.host, s.prefix+"/api/"+service+"/x"); status != 200 || body != s.name+"1" {
			t.Errorf("%s: the first request: %d %s, want %s1", s.name, status, body, s.name)
		}
		if status, body := get(s.host, s.prefix+"/api/"+service+"/x"); status != 200 || body != s.name+"1" {
			t.Errorf("%s: from the cache: %d %s", s.name, status, body)
		}
		for i := range 5 {
			if status, _ := get(s.host, s.prefix+"/api/"+service+"/fail"); status != 500 {
				t.Errorf("%s: failure %d: %d", s.name, i+1, status)
			}
		}
		if status, _ := get(s.host, s.prefix+"/api/"+service+"/y"); status != 503 {
			t.Errorf("%s: after 5 failures: %d", s.name, status)
		}
		if status, _ := get(s.host, s.prefix+"/api/"+service+"/z"); status != 429 {
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
			s := httptest.NewUnstartedServer(handler)
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
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
			own := strings.Replace(own, "$TLS", "", 1)
			if kind == "https" {
				const insecure = "tls_insecure_skip_verify"
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
	dead := freeport.Addr(t)
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

// What one client may ask for has bounds for every client, and each can be
// switched off.
func TestLimits(t *testing.T) {
	hang, come, broken := make(chan struct{}), make(chan struct{}, 10), make(chan struct{}, 10)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/hang"):
			come <- struct{}{}
			<-hang
		case strings.HasSuffix(r.URL.Path, "/forbidden"):
			w.WriteHeader(http.StatusForbidden)
		default:
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				broken <- struct{}{}
				panic(http.ErrAbortHandler)
			}
		}
	}))
	defer backend.Close()
	load := func(options string) *httptest.Server {
		if options != "ratelimit off" {
			options += "\n\t\tratelimit 1000/1m {\n\t\t\tzone " + unique() + "\n\t\t}"
		}
		return servertest.New(t, ":80 {\n\ttentagate "+unique()+" {\n\t\tservice s "+backend.URL+"\n\t\tcircuit_breaker off\n\t\tcache off\n\t\t"+options+"\n\t}\n}")
	}
	post := func(gateway *httptest.Server, size int) int {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.URL+"/api/s/upload", strings.NewReader(strings.Repeat("x", size)))
		req.Header.Set("Authorization", bearer(t, "ann"))
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	get := func(gateway *httptest.Server, path string, fields ...string) int {
		status, _, _ := ask(t, gateway.URL, "GET", path, fields...)
		return status
	}
	ann := []string{"Authorization", bearer(t, "ann")}

	t.Run("size of a body", func(t *testing.T) {
		environment(t, "MAX_BODY_SIZE=1KB")
		if gateway := load(""); post(gateway, 1000) != 200 || post(gateway, 1001) != 413 {
			t.Error("MAX_BODY_SIZE")
		}
		if gateway := load("limits {\n\t\t\tmax_body_size 2KB\n\t\t}"); post(gateway, 2000) != 200 || post(gateway, 2001) != 413 {
			t.Error("max_body_size")
		}
		if gateway := load("limits {\n\t\t\tmax_body_size off\n\t\t}"); post(gateway, 1<<20) != 200 {
			t.Error("max_body_size off")
		}
		environment(t, "MAX_BODY_SIZE=")
		if gateway := load(""); post(gateway, 20<<20) != 200 {
			t.Error("a big upload")
		}
	})
	t.Run("a body that trickles", func(t *testing.T) {
		environment(t)
		gateway := load("limits {\n\t\t\tbody_timeout 200ms\n\t\t\tbody_rate 10KB\n\t\t}")
		conn, err := net.Dial("tcp", gateway.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST /api/s/upload HTTP/1.1\r\nHost: a.test\r\nAuthorization: "+ann[1]+"\r\nContent-Length: 1000000\r\n\r\n")
		tick, late := time.NewTicker(20*time.Millisecond), time.After(20*time.Second)
		defer tick.Stop()
		for {
			select {
			case <-broken:
				return
			case <-tick.C:
				_, _ = conn.Write([]byte("x")) // it never stalls
			case <-late:
				t.Fatal("the service has to wait for it")
			}
		}
	})
	t.Run("refusals", func(t *testing.T) {
		environment(t, "REFUSAL_LIMIT=3/1h")
		gateway := load("")
		statuses := []int{get(gateway, "/api/s/x"), get(gateway, "/api/s/forbidden", ann...), get(gateway, "/api/s/x", ann...), get(gateway, "/api/s/x", "Authorization", "Bearer x")}
		if want := []int{401, 403, 200, 401}; !slices.Equal(statuses, want) {
			t.Errorf("got %v, want %v", statuses, want)
		}
		if status := get(gateway, "/api/s/x", "Authorization", "Bearer y"); status != 429 {
			t.Errorf("after 3 refusals: %d", status)
		}
		for _, options := range []string{"limits off", "ratelimit off"} {
			if options == "ratelimit off" {
				environment(t, "REFUSAL_LIMIT=")
			}
			gateway := load(options)
			for range 5 {
				if status := get(gateway, "/api/s/x"); status != 401 {
					t.Errorf("%s: %d", options, status)
				}
			}
		}
	})
	t.Run("in flight", func(t *testing.T) {
		environment(t, "MAX_IN_FLIGHT=2")
		gateway := load("")
		var done sync.WaitGroup
		for range 2 {
			done.Go(func() { get(gateway, "/api/s/hang", ann...) })
			<-come
		}
		if status := get(gateway, "/api/s/x", ann...); status != 429 {
			t.Errorf("a third: %d", status)
		}
		close(hang)
		done.Wait()
		if status := get(gateway, "/api/s/x", ann...); status != 200 {
			t.Errorf("after them: %d", status)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, name := range []string{"MAX_BODY_SIZE", "BODY_TIMEOUT", "BODY_RATE", "MAX_IN_FLIGHT", "REFUSAL_LIMIT", "RESPONSE_HEADER_TIMEOUT"} {
			environment(t, "BACKEND_SERVICES=s="+backend.URL)
			t.Setenv(name, "much")
			if _, err := servertest.Load(t, ":80 {\n\ttentagate\n}"); err == nil || !strings.Contains(err.Error(), name+`: `) {
				t.Errorf("%s: got %v", name, err)
			}
			t.Setenv(name, " ")
			if _, err := servertest.Load(t, ":80 {\n\ttentagate\n}"); err == nil || !strings.Contains(err.Error(), name+": it contains only white space") {
				t.Errorf("%s, blank: got %v", name, err)
			}
			t.Setenv(name, "off")
			if _, err := servertest.Load(t, ":80 {\n\ttentagate\n}"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			t.Setenv(name, "")
		}
	})
}

// Metrics name services and addresses, so they are for private networks unless
// the directive says otherwise.
func TestReaders(t *testing.T) {
	environment(t, "BACKEND_SERVICES=s=http://127.0.0.1:1")
	for option, want := range map[string][3]int{
		"":                       {200, 404, 404},
		"metrics any":            {200, 200, 200},
		"metrics off":            {404, 404, 404},
		"metrics 192.0.2.0/24":   {404, 404, 200},
		"metrics private_ranges": {200, 404, 404},
		"metrics {\n\t\t\tdisable_openmetrics\n\t\t}":     {200, 404, 404},
		"metrics any {\n\t\t\tdisable_openmetrics\n\t\t}": {200, 200, 200},
	} {
		handler := servertest.Handler(t, ":80 {\n\ttentagate {\n\t\t"+option+"\n\t}\n}")
		for i, from := range []struct{ peer, forwarded string }{{"10.1.2.3:4", ""}, {"10.1.2.3:4", "192.0.2.1"}, {"192.0.2.1:4", ""}} {
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.RemoteAddr = from.peer
			if from.forwarded != "" {
				r.Header.Set("X-Forwarded-For", from.forwarded)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != want[i] {
				t.Errorf("%s: from %v: %d, want %d", option, from, w.Code, want[i])
			}
			r = httptest.NewRequest(http.MethodGet, "/health?verbose", nil)
			r.RemoteAddr, r.Header = from.peer, http.Header{}
			if from.forwarded != "" {
				r.Header.Set("X-Forwarded-For", from.forwarded)
			}
			w = httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if got := strings.Contains(w.Body.String(), "uptime"); w.Code != 200 || got != (i == 0) {
				t.Errorf("details from %v: %d %s", from, w.Code, w.Body)
			}
		}
	}
}
