package rediscache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// An error that the request's own shape can cause is not stored, whatever it says,
// unless the operator names it; one that speaks of the client or of what it has
// never is.
func TestErrorsOfTheRequest(t *testing.T) {
	never := []int{416, 428, 429, 511, 600, 999}
	shape := []int{400, 401, 405, 406, 407, 408, 411, 412, 413, 414, 415, 417, 421, 425, 426, 431, 501, 505, 510}
	stored := []int{203, 204, 300, 301, 302, 307, 308, 402, 403, 404, 409, 410, 422, 451, 500, 502, 503, 504}
	check := func(name, block string, status int, want bool) {
		t.Helper()
		t.Run(fmt.Sprint(name, status), func(t *testing.T) {
			g := newGateway(t, block, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				if r.Header.Get("X-Odd") != "" {
					w.WriteHeader(status)
				}
			})
			g.send("GET", "/", "X-Odd", "1")
			if w := g.send("GET", "/"); (w.Code == status && g.asked.Load() == 1) != want {
				t.Errorf("a plain request got %d, and the service was asked %d times", w.Code, g.asked.Load())
			}
		})
	}
	for _, status := range never {
		check("plain", "http_cache 60s", status, false)
		check("profile", "http_cache {\nprofile rfc9111\n}", status, false)
		err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser(fmt.Sprintf("http_cache {\nttl %d 5s\n}", status)))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("ttl %d: %v", status, err)
		}
	}
	for _, status := range shape {
		check("plain", "http_cache 60s", status, false)
		check("asked", fmt.Sprintf("http_cache 60s {\nttl %d 5s\n}", status), status, true)
		check("profile", "http_cache {\nprofile rfc9111\n}", status, true)
	}
	for _, status := range stored {
		check("plain", "http_cache 60s", status, true)
	}
}

// What no handler answered is an empty 200 to this client, and not stored.
func TestUnansweredIsNotStored(t *testing.T) {
	for name, tc := range map[string]struct {
		answers func(w http.ResponseWriter, r *http.Request)
		status  int
		stored  bool
	}{
		"nothing":          {func(http.ResponseWriter, *http.Request) {}, 200, false},
		"proxied, unsaid":  {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-A", "1"); proxied(r) }, 502, false},
		"fields alone":     {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "1") }, 200, true},
		"a status":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, 200, true},
		"a proxied status": {func(w http.ResponseWriter, r *http.Request) { proxied(r); w.WriteHeader(200) }, 200, true},
	} {
		h, err := loadCache(t, "http_cache 60s")
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		for range 2 {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "http://unanswered.test/"+strings.ReplaceAll(name, " ", "-"), nil)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				asked++
				tc.answers(w, r)
				return nil
			}))
			if err != nil || w.Code != tc.status || tc.status == 200 && w.Body.Len() != 0 {
				t.Errorf("%s: %v %d %q", name, err, w.Code, w.Body)
			}
		}
		if stored := asked == 1; stored != tc.stored {
			t.Errorf("%s: stored %v", name, stored)
		}
	}
}

// proxied does what reverse_proxy does when it has an answer.
func proxied(r *http.Request) {
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.reverse_proxy.status_code", 101)
}

// An invalid status of a service, and an upgrade that was not requested.
func TestInvalidStatuses(t *testing.T) {
	for line, want := range map[string]int{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade": 502,
		"HTTP/1.1 020 OK\r\nContent-Length: 3":                                          502,
		"HTTP/1.1 099 OK\r\nContent-Length: 3":                                          502,
		"HTTP/1.1 000 OK\r\nContent-Length: 3":                                          502,
		"HTTP/1.1 600 OK\r\nContent-Length: 3":                                          600,
		"HTTP/1.1 999 OK\r\nContent-Length: 3":                                          999,
	} {
		s := startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, n int64) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if n > 1 {
				line = "HTTP/1.1 204 No Content"
			}
			_, _ = io.WriteString(conn, line+"\r\nCache-Control: public, max-age=60\r\n\r\nodd")
		})
		path := fmt.Sprintf("/%d", len(line)+want)
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%q: %v %v %q", line, err, resp, body)
		}
		if resp, _, err := s.do("GET", path); err != nil || resp.StatusCode != 204 || s.asked.Load() != 2 {
			t.Errorf("%q, again: %v %v, asked %d times", line, err, resp, s.asked.Load())
		}
	}
}
