package rediscache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/identity"
)

// gateway is a cache in front of a service that counts its requests.
type gateway struct {
	t       *testing.T
	h       *Handler
	host    string
	asked   atomic.Int64
	service http.HandlerFunc
}

func newGateway(t *testing.T, block string, service http.HandlerFunc) *gateway {
	t.Helper()
	g := &gateway{t: t, service: service, host: strings.ToLower(strings.NewReplacer("/", "-", " ", "-", ",", "", "_", "-").Replace(t.Name())) + ".test"}
	h, err := loadCache(t, block)
	if err != nil {
		t.Fatal(err)
	}
	g.h = h
	return g
}

func loadCache(t *testing.T, block string) (*Handler, error) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(func() { cancel(); _ = h.Cleanup() })
	return h, h.Provision(ctx)
}

func (g *gateway) send(method, path string, fields ...string) *httptest.ResponseRecorder {
	g.t.Helper()
	w, err := g.exchange(method, path, fields...)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return w
}

// try is send for what may fail. It returns the status of the answer or error.
func (g *gateway) try(method, path string, fields ...string) (int, error) {
	g.t.Helper()
	w, err := g.exchange(method, path, fields...)
	if failed, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return failed.StatusCode, err
	}
	return w.Code, err
}

func (g *gateway) exchange(method, path string, fields ...string) (*httptest.ResponseRecorder, error) {
	g.t.Helper()
	r := httptest.NewRequest(method, "http://"+g.host+path, nil)
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "of this request")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "user" {
			identity.Set(r, &identity.Identity{Provider: "main", Subject: fields[i+1]})
			r.Header.Set("Authorization", "Bearer of-"+fields[i+1])
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	err := g.h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("X-Asked", fmt.Sprint(g.asked.Add(1)))
		g.service(w, r)
		return nil
	}))
	return w, err
}

func says(fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		_, _ = io.WriteString(w, "for "+r.Header.Get("Authorization")+" in "+r.Header.Get("Accept-Language"))
	}
}

func TestWhatIsStored(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		service     http.HandlerFunc
		request     []string
		asked       int // of two equal requests
	}{
		{"max-age", "http_cache", says("Cache-Control", "max-age=60"), nil, 1},
		{"nothing said", "http_cache", says(), nil, 2},
		{"nothing said, ttl", "http_cache 60s", says(), nil, 1},
		{"404, ttl", "http_cache 60s", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, nil, 2},
		{"404, own ttl", "http_cache {\n ttl 404 5s\n}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, nil, 1},
		{"500, ttl", "http_cache 60s", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil, 2},
		{"no-store", "http_cache 60s", says("Cache-Control", "no-store"), nil, 2},
		{"no-cache", "http_cache 60s", says("Cache-Control", "no-cache"), nil, 2},
		{"private", "http_cache 60s", says("Cache-Control", "private, max-age=60"), nil, 2},
		{"max-age 0", "http_cache 60s", says("Cache-Control", "max-age=0"), nil, 2},
		{"bad max-age", "http_cache 60s", says("Cache-Control", "max-age=x"), nil, 2},
		{"old by Age", "http_cache", says("Cache-Control", "max-age=60", "Age", "61"), nil, 2},
		{"expired", "http_cache 60s", says("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"), nil, 2},
		{"bad Expires", "http_cache 60s", says("Expires", "0"), nil, 2},
		{"Set-Cookie", "http_cache 60s", says("Set-Cookie", "a=b"), nil, 2},
		{"Vary *", "http_cache 60s", says("Vary", "Accept, *"), nil, 2},
		{"events", "http_cache 60s", says("Content-Type", "text/event-stream"), nil, 2},
		{"Authorization", "http_cache 60s", says(), []string{"Authorization", "Bearer x"}, 2},
		{"Authorization, public", "http_cache", says("Cache-Control", "public, max-age=60"), []string{"Authorization", "Bearer x"}, 1},
		{"user without per_user", "http_cache 60s", says(), []string{"user", "ann"}, 2},
		{"user", "http_cache 60s {\n key {\n per_user\n}\n}", says(), []string{"user", "ann"}, 1},
		{"user, private", "http_cache {\n key {\n per_user\n}\n}", says("Cache-Control", "private, max-age=9"), []string{"user", "ann"}, 1},
		{"request no-store", "http_cache 60s", says(), []string{"Cache-Control", "no-store"}, 2},
		{"too large", "http_cache 60s {\n max_object_size 4KiB\n}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 4097)) }, nil, 2},
		{"cut off", "http_cache 60s", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		}, nil, 2},
		{"upgrade", "http_cache 60s", says(), []string{"Upgrade", "websocket"}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGateway(t, tc.block, tc.service)
			first := g.send("GET", "/a?b=c", tc.request...)
			second := g.send("GET", "/a?b=c", tc.request...)
			if int(g.asked.Load()) != tc.asked {
				t.Errorf("asked %d times, want %d: %v", g.asked.Load(), tc.asked, second.Header())
			}
			if tc.asked == 1 && (second.Body.String() != first.Body.String() || second.Header().Get("Age") == "" || !strings.HasPrefix(second.Header().Get("Cache-Status"), "tentagate; hit; ttl=")) {
				t.Errorf("hit: %v %q", second.Header(), second.Body)
			}
		})
	}
}

func TestKeysAreApart(t *testing.T) {
	g := newGateway(t, "http_cache 60s {\n key {\n per_user\n}\n}", says("Vary", "Accept-Language"))
	requests := [][]string{
		{"/a"},
		{"/a", "user", "ann"},
		{"/a", "user", "bob"},
		{"/a", "Accept-Language", "de"},
		{"/a", "user", "ann", "Accept-Language", "de"},
		{"/b"},
		{"/a?x"},
		{"/a/"},
		{"/%61"},
		{"/A"},
		{"/a?x&y"},
		{"/a?y&x"},
	}
	first := map[string]string{}
	for i := range 2 {
		for _, r := range requests {
			w := g.send("GET", r[0], r[1:]...)
			key := strings.Join(r, "|")
			if i == 0 {
				first[key] = w.Header().Get("X-Asked")
			} else if got := w.Header().Get("X-Asked"); got != first[key] {
				t.Errorf("%s: answer %s, was %s", key, got, first[key])
			}
		}
	}
	if int(g.asked.Load()) != len(requests) {
		t.Errorf("asked %d times for %d different requests", g.asked.Load(), len(requests))
	}
}

// A path that two servers may read differently is neither answered from the
// cache nor stored.
func TestAmbiguousPaths(t *testing.T) {
	for _, path := range []string{"/a%2F", "/a%2fb", "/a%5Cb", "/a/%2e%2e/b", "/a/../b", "/a/..;x/b", "//a", "/a//b", "/a%3Fb", "/a%23b", "/a%00", "/a%0D%0A", "/a%7F", "/a%252F"} {
		g := newGateway(t, "http_cache 60s", says())
		for range 2 {
			if w := g.send("GET", path); !strings.Contains(w.Header().Get("Cache-Status"), "fwd=bypass; detail=ambiguous-path") {
				t.Errorf("%s: %v", path, w.Header())
			}
		}
		if g.asked.Load() != 2 {
			t.Errorf("%s: asked %d times", path, g.asked.Load())
		}
	}
}

// A whole response to a request for a part is kept as such, and answers both.
func TestRangeThatIsIgnored(t *testing.T) {
	g := newGateway(t, "http_cache 60s", says())
	g.send("GET", "/", "Range", "bytes=0-1")
	if w := g.send("GET", "/", "Range", "bytes=0-1"); w.Code != 206 || w.Body.String() != "fo" {
		t.Errorf("the part: %d %q", w.Code, w.Body)
	}
	if w := g.send("GET", "/"); w.Code != 200 || w.Body.String() != "for  in " {
		t.Errorf("the whole: %d %q", w.Code, w.Body)
	}
	if g.asked.Load() != 1 {
		t.Errorf("asked %d times", g.asked.Load())
	}
}

// What a circuit breaker answers in place of the service is not stored; what the
// service answers is, whatever the state of the circuit.
func TestFallbackIsNotStored(t *testing.T) {
	for _, state := range []string{"open", "half_open", "closed"} {
		for _, refused := range []bool{true, false} {
			g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request) {
				r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.circuit_breaker.state", state)
				if refused {
					circuitstate.Refused(r, "open")
				}
				_, _ = io.WriteString(w, "come back later")
			})
			g.send("GET", "/"+state)
			g.send("GET", "/"+state)
			if stored := g.asked.Load() == 1; stored == refused {
				t.Errorf("%s, refused %v: stored %v", state, refused, stored)
			}
		}
	}
}

// What everybody may have is shared by users too.
func TestSharedBetweenUsers(t *testing.T) {
	g := newGateway(t, "http_cache {\n key {\n per_user\n}\n}", says("Cache-Control", "public, max-age=60"))
	g.send("GET", "/", "user", "ann")
	g.send("GET", "/", "user", "bob")
	g.send("GET", "/")
	if g.asked.Load() != 1 {
		t.Errorf("asked %d times", g.asked.Load())
	}
}

func TestValidation(t *testing.T) {
	g := newGateway(t, "http_cache", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=0")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.Header().Set("X-New", "yes")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	g.send("GET", "/")
	w := g.send("GET", "/")
	if w.Code != 200 || w.Body.String() != "body" || w.Header().Get("X-New") != "yes" || g.asked.Load() != 2 {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if w := g.send("GET", "/", "If-None-Match", `"1"`); w.Code != 304 {
		t.Errorf("the client's own validation: %d", w.Code)
	}
}

func TestConditionalAndRangeHits(t *testing.T) {
	g := newGateway(t, "http_cache 60s", says("Etag", `"1"`, "Content-Type", "text/plain"))
	g.send("GET", "/")
	if w := g.send("GET", "/", "If-None-Match", `"1"`); w.Code != 304 || w.Body.Len() > 0 {
		t.Errorf("If-None-Match: %d", w.Code)
	}
	if w := g.send("GET", "/", "Range", "bytes=0-2"); w.Code != 206 || w.Body.String() != "for" {
		t.Errorf("Range: %d %q", w.Code, w.Body)
	}
	if w := g.send("HEAD", "/"); w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if g.asked.Load() != 1 {
		t.Errorf("asked %d times", g.asked.Load())
	}
}

func TestInvalidation(t *testing.T) {
	for _, tc := range []struct {
		method string
		status int
		asked  int
	}{{"POST", 200, 3}, {"DELETE", 204, 3}, {"M-SEARCH", 200, 3}, {"POST", 500, 2}, {"OPTIONS", 200, 2}} {
		t.Run(fmt.Sprint(tc.method, tc.status), func(t *testing.T) {
			g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.WriteHeader(tc.status)
				}
			})
			g.send("GET", "/a")
			g.send(tc.method, "/a")
			g.send("GET", "/a")
			if int(g.asked.Load()) != tc.asked {
				t.Errorf("asked %d times, want %d", g.asked.Load(), tc.asked)
			}
		})
	}
}

func TestStale(t *testing.T) {
	fail := false
	g := newGateway(t, "http_cache", func(w http.ResponseWriter, _ *http.Request) {
		if fail {
			w.WriteHeader(503)
			return
		}
		w.Header().Set("Cache-Control", "max-age=1, stale-if-error=600")
		w.Header().Set("Age", "2")
		_, _ = io.WriteString(w, "good")
	})
	// It is stored stale, so the next request asks again.
	g.send("GET", "/")
	fail = true
	if w := g.send("GET", "/"); w.Code != 200 || w.Body.String() != "good" || !strings.Contains(w.Header().Get("Cache-Status"), "stale-if-error") {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
}

// The fields that handlers in front set for one request are in no stored
// response.
func TestOthersFieldsAreNotStored(t *testing.T) {
	g := newGateway(t, "http_cache 60s", says("Access-Control-Allow-Origin", "*", "Connection", "X-Hop", "X-Hop", "1"))
	g.send("GET", "/")
	r := httptest.NewRequest("GET", "http://"+g.host+"/", nil)
	w := httptest.NewRecorder()
	w.Header().Set("Vary", "Origin")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	_ = g.h.ServeHTTP(w, r, nil)
	for _, name := range []string{"X-Request-Id", "Access-Control-Allow-Origin", "X-Hop", "Connection"} {
		if w.Header()[name] != nil {
			t.Errorf("%s: %v", name, w.Header()[name])
		}
	}
	if w.Header().Get("Vary") != "Origin" {
		t.Errorf("Vary: %v", w.Header()["Vary"])
	}
}

func TestStaleWhileRevalidate(t *testing.T) {
	asked := make(chan struct{}, 10)
	g := newGateway(t, "http_cache", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=1, stale-while-revalidate=600")
		w.Header().Set("Age", "2")
		_, _ = io.WriteString(w, "good")
		asked <- struct{}{}
	})
	g.send("GET", "/")
	<-asked
	if w := g.send("GET", "/"); w.Body.String() != "good" || w.Header().Get("Age") == "" {
		t.Errorf("%v", w.Header())
	}
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Error("it was not refreshed")
	}
}

func TestCacheConfiguration(t *testing.T) {
	for block, want := range map[string]string{
		"http_cache soon":                            `"soon" is not a ttl such as 60s`,
		"http_cache 1s 2s":                           "unexpected argument",
		"http_cache 1s {\n ttl 2s\n}":                "given more than once",
		"http_cache {\n ttl 404 1s\n ttl 404 2s\n}":  "given more than once",
		"http_cache {\n ttl 99 1s\n}":                "is not a status code",
		"http_cache {\n ttl 206 1s\n}":               "can be stored",
		"http_cache {\n memory lots\n}":              "not a size",
		"http_cache {\n store disk\n}":               "accepted are memory, redis and both",
		"http_cache {\n store redis\n}":              "no Redis is configured",
		"http_cache {\n key {\n peruser\n}\n}":       `unknown option "peruser"`,
		"http_cache {\n key {\n header Cookie\n}\n}": "use per_user",
		"http_cache {\n cache\n}":                    `unknown option "cache"`,
		"http_cache {\n purge_method\n}":             "purge_method",
	} {
		if _, err := loadCache(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
}
