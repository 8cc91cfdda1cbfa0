package rediscache

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/testkit"
)

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
	testkit.Eventually(t, "waiting", func() bool { return waiting() == clients-1 })
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
func TestResponsesStayWithTheirClient(t *testing.T) {
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
			testkit.Eventually(t, "the first", func() bool { return s.asked.Load() > 0 && int(s.asked.Load())+waiting() >= clients })
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
		testkit.Eventually(t, "waiting", func() bool { return waiting() == 6 })
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
					t.Error("the request to the service was canceled")
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
			testkit.Eventually(t, "following", func() bool { return waiting() == 1 })
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
				testkit.Eventually(t, "waiting", func() bool { return waiting() == 2 })
				s.release()
				wait()
				if halves.Load() == 0 {
					t.Error("no error")
				}
				if resp, body, err := s.do("GET", "/"); err != nil || body != "all of it" {
					t.Errorf("afterwards: %q %v %v", body, resp, err)
				}
			})
		}
	}
}

// A service that is stuck is asked again by one of those who wait, not by all.
func TestStuckOrigin(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache 60s {\n collapse_timeout 1s\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
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

// A failure may be due to the client that asked: those who wait for it ask themselves,
// one after the other.
func TestFailuresAreNotShared(t *testing.T) {
	const waiters = 20
	reset := func(w http.ResponseWriter) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	}
	answer := func(status int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(status) }
	}
	for name, tc := range map[string]struct {
		block  string
		fields []string // of those who wait, and of the client that fails
		fail   func(http.ResponseWriter)
		status int
		dead   bool // all fail
		asked  int64
	}{
		"reset":                {"http_cache 60s", nil, reset, 502, false, 2},
		"reset, one user":      {"http_cache 60s {\n key {\n per_user\n}\n}", []string{"X-User", "ann"}, reset, 502, false, 2},
		"answered":             {"http_cache 60s", nil, answer(500), 500, false, 2},
		"answered, for a rule": {"http_cache 60s", nil, answer(511), 511, false, 2},
		"dead":                 {"http_cache 60s", nil, reset, 502, true, 1 + waiters},
		"dead, answered":       {"http_cache 60s", nil, answer(503), 503, true, 1 + waiters},
		"a storable error":     {"http_cache 60s {\n ttl 503 5s\n}", nil, answer(503), 503, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var s *site
			var now, most atomic.Int64
			s = startSite(t, tc.block, func(w http.ResponseWriter, r *http.Request, n int64) {
				most.Store(max(most.Load(), now.Add(1)))
				if n == 1 {
					s.hold()
				}
				now.Add(-1) // before the client may see the end
				if tc.dead || r.Header.Get("X-Evil") != "" {
					tc.fail(w)
					return
				}
				_, _ = io.WriteString(w, "answer")
			})
			leader := all(1, func(int) {
				if resp, body, err := s.do("GET", "/", append([]string{"X-Evil", "1"}, tc.fields...)...); err != nil || resp.StatusCode != tc.status {
					t.Errorf("the first: %q %v %v", body, resp, err)
				}
			})
			s.wantAsked(1)
			want := 200
			if tc.dead {
				want = tc.status
			}
			others := all(waiters, func(int) {
				if resp, body, err := s.do("GET", "/", tc.fields...); err != nil || resp.StatusCode != want {
					t.Errorf("%q %v %v", body, resp, err)
				}
			})
			testkit.Eventually(t, "waiting", func() bool { return waiting() == waiters })
			s.release()
			leader()
			others()
			s.wantAsked(tc.asked)
			if most.Load() != 1 {
				t.Errorf("%d at a time", most.Load())
			}
			if n, _ := calls.Stats(); n != 0 {
				t.Errorf("%d calls are left", n)
			}
		})
	}
}

// Who has waited for several attempts asks alone when its time is over.
func TestPatienceEnds(t *testing.T) {
	const waiters = 5
	var s *site
	left := make(chan struct{})
	s = startSite(t, "http_cache 60s {\n collapse_timeout 2s\n}", func(w http.ResponseWriter, _ *http.Request, n int64) {
		switch n {
		case 1:
			s.hold()
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			<-left
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "answer")
	})
	first := all(1, func(int) { _, _, _ = s.do("GET", "/") })
	s.wantAsked(1)
	var answered atomic.Int64
	others := all(waiters, func(int) {
		if _, body, err := s.do("GET", "/"); err != nil || body != "answer" {
			t.Errorf("%q %v", body, err)
		}
		if answered.Add(1) == waiters-1 {
			close(left)
		}
	})
	testkit.Eventually(t, "waiting", func() bool { return waiting() == waiters })
	s.release()
	first()
	others()
	s.wantAsked(1 + waiters)
}
