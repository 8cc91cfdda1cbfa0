package rediscache

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/identity"
)

func init() { caddy.RegisterModule(namer{}) }

// namer authenticates who says a name in X-User.
type namer struct{}

func (namer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_namer", New: func() caddy.Module { return new(namer) }}
}

func (namer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if name := r.Header.Get("X-User"); name != "" {
		identity.Set(r, &identity.Identity{Provider: "main", Subject: name})
	}
	return next.ServeHTTP(w, r)
}

// site is a Caddy in this process with a cache in front of a service.
type site struct {
	t     *testing.T
	url   string
	asked atomic.Int64
	held  chan struct{} // closed by release
	once  sync.Once
}

// startSite runs a site whose service is given the number of each request.
func startSite(t *testing.T, block string, service func(w http.ResponseWriter, r *http.Request, n int64)) *site {
	t.Helper()
	s := &site{t: t, held: make(chan struct{})}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service(w, r, s.asked.Add(1))
	}))
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		t.Fatal(err)
	}
	addr := freeport.Addr(t)
	config, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "PANIC"}}},
		"apps": map[string]any{"http": map[string]any{"servers": map[string]any{"s": map[string]any{
			"listen": []string{addr}, "automatic_https": map[string]any{"disable": true},
			"routes": []any{map[string]any{"handle": []any{
				map[string]any{"handler": "test_namer"},
				caddyconfig.JSONModuleObject(h, "handler", "http_cache", nil),
				map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": strings.TrimPrefix(origin.URL, "http://")}}},
			}}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + addr
	t.Cleanup(func() {
		s.release()
		origin.CloseClientConnections()
		_ = caddy.Stop()
		origin.Close()
	})
	return s
}

// release lets requests of the service go on that wait for hold.
func (s *site) release() { s.once.Do(func() { close(s.held) }) }

func (s *site) hold() { <-s.held }

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50, DisableCompression: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse
}}

func (s *site) request(method, path string, fields ...string) *http.Request {
	r, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

// do returns the whole response; its error is also that of its body.
func (s *site) do(method, path string, fields ...string) (*http.Response, string, error) {
	resp, err := httpClient.Do(s.request(method, path, fields...))
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func (s *site) get(path string, fields ...string) (*http.Response, string) {
	s.t.Helper()
	resp, body, err := s.do(http.MethodGet, path, fields...)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return resp, body
}

// wantAsked waits until the service was asked n times.
func (s *site) wantAsked(n int64) {
	s.t.Helper()
	within(s.t, "asking the service", func() bool { return s.asked.Load() >= n })
	if got := s.asked.Load(); got != n {
		s.t.Errorf("the service was asked %d times, want %d", got, n)
	}
}

// waiting is how many requests wait for those of others.
func waiting() int {
	_, followers := calls.Stats()
	return followers
}

// all runs f for many clients at once.
func all(n int, f func(i int)) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	return wg.Wait
}

// cut sends text on the connection of a request and breaks it off.
func cut(t *testing.T, w http.ResponseWriter, text string, reset bool) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = rw.WriteString(text)
	_ = rw.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func TestOneFetchForAll(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		s.hold()
		_, _ = io.WriteString(w, strings.Repeat("x", 200_000))
	})
	const clients = 200
	var whole atomic.Int64
	wait := all(clients, func(int) {
		if _, body, err := s.do("GET", "/"); err == nil && body == strings.Repeat("x", 200_000) {
			whole.Add(1)
		} else {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
	within(t, "waiting", func() bool { return waiting() == clients-1 })
	s.release()
	wait()
	if whole.Load() != clients {
		t.Errorf("%d of %d got the answer", whole.Load(), clients)
	}
	s.wantAsked(1)
	if resp, _ := s.get("/"); !strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
		t.Errorf("afterwards: %v", resp.Header)
	}
}

// What is for one client alone is seen by no other, however many ask at once.
func TestNobodySeesAnothersAnswer(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		by          string   // the field that tells clients apart
		says        []string // the fields of the response
		asked       int64    // in two rounds; 0: once for each request
	}{
		{"no-store", "http_cache 60s", "X-Client", []string{"Cache-Control", "no-store"}, 0},
		{"private", "http_cache 60s", "X-Client", []string{"Cache-Control", "private, max-age=60"}, 0},
		{"no-cache", "http_cache 60s", "X-Client", []string{"Cache-Control", "no-cache"}, 0},
		{"nothing said", "http_cache", "X-Client", nil, 0},
		{"Set-Cookie", "http_cache 60s", "X-Client", []string{"Set-Cookie", "session=1", "Cache-Control", "max-age=60"}, 0},
		{"Set-Cookie, even if stored", "http_cache 60s {\n set_cookie store\n}", "Cookie", []string{"Set-Cookie", "session=1", "Vary", "Cookie", "Cache-Control", "max-age=60"}, clients},
		{"Authorization", "http_cache 60s", "Authorization", []string{"Cache-Control", "max-age=60"}, 0},
		{"Authorization, per_user without users", "http_cache 60s {\n key {\n per_user\n}\n}", "Authorization", []string{"Cache-Control", "max-age=60"}, 0},
		{"cookies and a ttl", "http_cache 60s", "Cookie", nil, 0},
		{"Vary", "http_cache 60s", "X-Client", []string{"Vary", "X-Client"}, clients},
		{"Vary, several", "http_cache 60s", "X-Client", []string{"Vary", "Accept", "Vary", "X-Client"}, clients},
		{"Vary *", "http_cache 60s", "X-Client", []string{"Vary", "*"}, 0},
		{"users", "http_cache 60s {\n key {\n per_user\n}\n}", "X-User", nil, clients},
		{"users, private", "http_cache 60s {\n key {\n per_user\n}\n}", "X-User", []string{"Cache-Control", "private, max-age=60"}, clients},
		{"users without partitions", "http_cache 60s", "X-User", []string{"Cache-Control", "max-age=60"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s *site
			s = startSite(t, tc.block, func(w http.ResponseWriter, r *http.Request, _ int64) {
				for i := 0; i+1 < len(tc.says); i += 2 {
					w.Header().Add(tc.says[i], tc.says[i+1])
				}
				if w.Header().Get("Set-Cookie") != "" {
					w.Header().Set("Set-Cookie", r.Header.Get(tc.by))
				}
				s.hold()
				_, _ = io.WriteString(w, "for "+r.Header.Get(tc.by))
			})
			round := func(when string) (wait func()) {
				return all(clients, func(i int) {
					me := "client=" + string(rune('a'+i))
					resp, body, err := s.do("GET", "/", tc.by, me)
					if err != nil || body != "for "+me || resp.Header.Get("Set-Cookie") != "" && resp.Header.Get("Set-Cookie") != me {
						t.Errorf("%s: %s got %q %v %v", when, me, body, resp, err)
					}
				})
			}
			wait := round("at first")
			within(t, "the first", func() bool { return s.asked.Load() > 0 && int(s.asked.Load())+waiting() >= clients })
			s.release()
			wait()
			round("then")()
			want := tc.asked
			if want == 0 {
				want = 2 * clients
			}
			s.wantAsked(want)
		})
	}
}

const clients = 12

// The operator's own time is for clients without cookies: one with a session does
// not get what is fetched for one without, nor the other way round.
func TestCookiesAreApart(t *testing.T) {
	for _, first := range []string{"", "session=1"} {
		var s *site
		s = startSite(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request, _ int64) {
			s.hold()
			_, _ = io.WriteString(w, "for "+r.Header.Get("Cookie"))
		})
		get := func(cookie string) func(int) {
			fields := []string{"Cookie", cookie}
			if cookie == "" {
				fields = nil
			}
			return func(int) {
				if _, body, err := s.do("GET", "/", fields...); err != nil || body != "for "+cookie {
					t.Errorf("%q got %q %v", cookie, body, err)
				}
			}
		}
		leader := all(1, get(first))
		s.wantAsked(1)
		with, without := all(3, get("session=1")), all(3, get(""))
		within(t, "waiting", func() bool { return waiting() == 6 })
		s.release()
		leader()
		with()
		without()
		get("session=1")(0)
		get("")(0)
		_ = caddy.Stop()
	}
}

// What everybody may have is shared by clients with credentials too.
func TestPublicForAuthorized(t *testing.T) {
	s := startSite(t, "http_cache", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.Header().Set("Cache-Control", "public, max-age=60")
	})
	for _, who := range []string{"a", "b", "c"} {
		s.get("/", "Authorization", who)
	}
	s.wantAsked(1)
}

func TestFillOutlivesItsClient(t *testing.T) {
	for _, when := range []string{"before the header", "in the middle"} {
		t.Run(when, func(t *testing.T) {
			var s *site
			begun, gone := make(chan struct{}), make(chan struct{})
			s = startSite(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request, _ int64) {
				if when == "in the middle" {
					_, _ = io.WriteString(w, "first ")
					_ = http.NewResponseController(w).Flush()
				}
				close(begun)
				s.hold()
				if r.Context().Err() != nil {
					t.Error("the service was told to stop")
				}
				_, _ = io.WriteString(w, "last")
			})
			leader := s.request("GET", "/")
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			_ = leader.Write(conn)
			<-begun
			var got string
			go func() {
				defer close(gone)
				_, got, _ = s.do("GET", "/")
			}()
			within(t, "following", func() bool { return waiting() == 1 })
			_ = conn.Close()
			s.release()
			<-gone
			if !strings.HasSuffix(got, "last") {
				t.Errorf("the follower got %q", got)
			}
			if _, body := s.get("/"); body != got {
				t.Errorf("stored is %q", body)
			}
			s.wantAsked(1)
		})
	}
}

// A response that breaks off is passed on as one, and never stored.
func TestBrokenOff(t *testing.T) {
	for name, text := range map[string]string{
		"length":        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf",
		"chunked":       "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"in a chunk":    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
		"the trailer":   "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-T: ",
		"no header":     "",
		"in the fields": "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-",
	} {
		for _, reset := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var s *site
				s = startSite(t, "http_cache", func(w http.ResponseWriter, _ *http.Request, n int64) {
					if n > 1 {
						w.Header().Set("Cache-Control", "max-age=60")
						_, _ = io.WriteString(w, "all of it")
						return
					}
					s.hold()
					cut(t, w, text, reset)
				})
				var halves atomic.Int64
				wait := all(3, func(int) {
					resp, body, err := s.do("GET", "/")
					if err == nil && resp.StatusCode == 200 && body != "all of it" {
						t.Errorf("it looks whole: %q %v", body, resp.Header)
					}
					if err != nil || resp.StatusCode == http.StatusBadGateway {
						halves.Add(1)
					}
				})
				within(t, "waiting", func() bool { return waiting() == 2 })
				s.release()
				wait()
				if halves.Load() == 0 {
					t.Error("nobody noticed")
				}
				if resp, body, err := s.do("GET", "/"); err != nil || body != "all of it" {
					t.Errorf("afterwards: %q %v %v", body, resp, err)
				}
			})
		}
	}
}

// A service that is stuck is asked again by one of those who wait, not by all.
func TestStuck(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache 60s {\n collapse_timeout 100ms\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
		if n == 1 {
			s.hold()
			return
		}
		_, _ = io.WriteString(w, "answer")
	})
	stuck := all(1, func(int) { _, _, _ = s.do("GET", "/") })
	s.wantAsked(1)
	all(30, func(int) {
		if _, body, err := s.do("GET", "/"); err != nil || body != "answer" {
			t.Errorf("%q %v", body, err)
		}
	})()
	s.wantAsked(2)
	s.release()
	stuck()
}

// Requests for what cannot be shared do not wait for each other.
func TestUncacheableAtOnce(t *testing.T) {
	var s *site
	const n = 20
	var here atomic.Int64
	s = startSite(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request, _ int64) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Header.Get("X-Round") == "2" {
			if here.Add(1) == n {
				s.release()
			}
			s.hold() // until all are here
		}
	})
	s.get("/")
	all(n, func(int) { _, _, _ = s.do("GET", "/", "X-Round", "2") })()
	s.wantAsked(1 + n)
}

// The first bytes arrive while the service still sends, at the client that asked
// first, at one that follows, and where nothing is stored.
func TestStreams(t *testing.T) {
	for _, block := range []string{"http_cache 60s", "http_cache 60s {\n max_object_size 1KiB\n}", "http_cache", "http_cache {\n profile rfc9111\n}"} {
		t.Run(block, func(t *testing.T) {
			step := make(chan struct{})
			s := startSite(t, block, func(w http.ResponseWriter, _ *http.Request, _ int64) {
				for range 3 {
					_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
					_ = http.NewResponseController(w).Flush()
					<-step
				}
			})
			var bodies []io.Reader
			n := 1
			if block == "http_cache 60s" {
				n = 2
			}
			for range n {
				resp, err := httpClient.Do(s.request("GET", "/"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				bodies = append(bodies, resp.Body)
			}
			for range 3 {
				for i, body := range bodies {
					if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
						t.Fatalf("client %d: %v", i, err)
					}
				}
				step <- struct{}{}
			}
			for _, body := range bodies {
				if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
					t.Errorf("the rest: %d bytes, %v", len(rest), err)
				}
			}
			s.wantAsked(1)
		})
	}
}

func TestEventsAreNotBuffered(t *testing.T) {
	step := make(chan struct{})
	s := startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			<-step
		}
	})
	for _, accept := range []string{"text/event-stream", "*/*"} {
		resp, err := httpClient.Do(s.request("GET", "/", "Accept", accept))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(resp.Body)
		for range 3 {
			if line, err := lines.ReadString('\n'); line != "data: x\n" {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = lines.ReadString('\n')
			step <- struct{}{}
		}
		_ = resp.Body.Close()
	}
}

// A client that takes nothing does not stop those who share its answer.
func TestSlowLeader(t *testing.T) {
	body := strings.Repeat("x", 30<<20) // more than any buffer on the way
	var s *site
	s = startSite(t, "http_cache 60s {\n max_object_size 40MiB\n}", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		s.hold()
		_, _ = io.WriteString(w, body)
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	_ = s.request("GET", "/").Write(conn)
	s.wantAsked(1)
	done := all(3, func(int) {
		if _, got, err := s.do("GET", "/"); err != nil || got != body {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	within(t, "following", func() bool { return waiting() == 3 })
	s.release()
	done()
	s.wantAsked(1)
}

// While a stale response is refreshed it is asked for once.
func TestRefreshOnce(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache", func(w http.ResponseWriter, r *http.Request, n int64) {
		if n > 1 {
			s.hold()
			if r.Method != "GET" || len(r.Header["Range"]) > 0 {
				t.Errorf("the refresh is a %s with %v", r.Method, r.Header)
			}
		}
		w.Header().Set("Cache-Control", "max-age=100, stale-while-revalidate=1000")
		if n == 1 {
			w.Header().Set("Age", "200")
		}
		_, _ = io.WriteString(w, []string{"", "old", "new"}[min(n, 2)])
	})
	s.get("/")
	all(20, func(i int) {
		if resp, body, err := s.do("GET", "/"); err != nil || body != "old" || !strings.Contains(resp.Header.Get("Cache-Status"), "hit; ttl=-") {
			t.Errorf("%q %v %v", body, resp, err)
		}
	})()
	s.release()
	within(t, "the refresh", func() bool { _, body := s.get("/"); return body == "new" })
	s.wantAsked(2)
}

func TestInformational(t *testing.T) {
	s := startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "final")
	})
	for i := range 2 {
		hints := 0
		r := s.request("GET", "/")
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				hints++
			}
			return nil
		}}))
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != "final" || hints != 1-i || resp.Header.Get("Link") != "" {
			t.Errorf("%d: %d hints, %q %v", i, hints, body, resp.Header)
		}
	}
	s.wantAsked(1)
}

func TestTrailers(t *testing.T) {
	s := startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	})
	for range 2 {
		resp, body := s.get("/")
		if body != "body" || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%q %v", body, resp.Trailer)
		}
	}
	s.wantAsked(1)
}

// The gateway's own errors are not stored.
func TestOwnErrorsAreNotStored(t *testing.T) {
	s := startSite(t, "http_cache {\n ttl 502 60s\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
		if n == 1 {
			cut(t, w, "", true)
		}
	})
	if resp, _ := s.get("/"); resp.StatusCode != 502 {
		t.Errorf("the first: %d", resp.StatusCode)
	}
	if resp, _ := s.get("/"); resp.StatusCode != 200 {
		t.Errorf("the second: %d", resp.StatusCode)
	}
}

func TestStaleWhenDisconnected(t *testing.T) {
	for name, want := range map[string]int{"": 200, ", must-revalidate": 502, ", proxy-revalidate": 502, ", s-maxage=10": 502, ", no-cache": 502} {
		s := startSite(t, "http_cache {\n stale_when_disconnected 1h\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
			if n > 1 {
				cut(t, w, "", true)
				return
			}
			w.Header().Set("Cache-Control", "max-age=100"+name)
			w.Header().Set("Age", "200")
			w.Header().Set("Etag", `"1"`)
			_, _ = io.WriteString(w, "old")
		})
		s.get("/")
		if resp, body := s.get("/"); resp.StatusCode != want || want == 200 && body != "old" {
			t.Errorf("%q: %d %q, want %d", name, resp.StatusCode, body, want)
		}
		_ = caddy.Stop()
	}
}
