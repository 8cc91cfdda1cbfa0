package rediscache

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/testkit"
)

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
	testkit.Eventually(t, "following", func() bool { return waiting() == 3 })
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
	testkit.Eventually(t, "the refresh", func() bool { _, body := s.get("/"); return body == "new" })
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
