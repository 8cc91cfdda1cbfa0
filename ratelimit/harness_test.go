package ratelimit

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// provision makes a handler ready, with a zone of the test's own unless it has
// one.
func provision(t testing.TB, h *Handler) *Handler {
	t.Helper()
	if h.Zone == "" {
		h.Zone = zoneName(t)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Cleanup() })
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	return h
}

func zoneName(t testing.TB) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())[:min(40, len(t.Name()))]
}

// client is who sends a request.
type client struct {
	ip     string
	path   string
	header map[string]string
	vars   map[string]string // placeholders
	method string
}

// testServer has routes that run handlers one after the other and then answer
// with the status.
type testServer struct {
	server *caddyhttp.Server
	status func(r *http.Request) int
	block  func()
}

func serverOf(handlers ...*Handler) *testServer {
	s := &testServer{server: &caddyhttp.Server{}, status: func(*http.Request) int { return 200 }}
	for _, h := range handlers {
		s.server.Routes = append(s.server.Routes, caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{h}})
	}
	return s
}

func (s *testServer) send(c client) *httptest.ResponseRecorder {
	if c.path == "" {
		c.path = "/"
	}
	if c.method == "" {
		c.method = http.MethodGet
	}
	r := httptest.NewRequest(c.method, "http://example.com"+c.path, nil)
	r.RemoteAddr = "192.0.2.1:1234"
	if c.ip != "" {
		r.RemoteAddr = c.ip + ":1234"
		if strings.Contains(c.ip, ":") {
			r.RemoteAddr = "[" + c.ip + "]:1234"
		}
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	repl := caddy.NewReplacer()
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, repl, w, s.server)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, strings.TrimSuffix(strings.Trim(strings.TrimSuffix(r.RemoteAddr, ":1234"), "[]"), "]"))
	for k, v := range c.vars {
		repl.Set(k, v)
	}
	var next caddyhttp.Handler = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if s.block != nil {
			s.block()
		}
		if status := s.status(r); status > 0 {
			w.WriteHeader(status)
			return nil
		}
		return caddyhttp.Error(http.StatusBadGateway, fmt.Errorf("no backend"))
	})
	for _, route := range slices.Backward(s.server.Routes) {
		for _, v := range slices.Backward(route.Handlers) {
			h, after := v, next
			next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				if match, _ := route.MatcherSets.AnyMatchWithError(r); !match {
					return after.ServeHTTP(w, r)
				}
				return h.ServeHTTP(w, r, after)
			})
		}
	}
	if err := next.ServeHTTP(w, r); err != nil {
		w.WriteHeader(599)
	}
	return w
}

func (s *testServer) statuses(n int, c client) (codes []int) {
	for range n {
		codes = append(codes, s.send(c).Code)
	}
	return codes
}

func count(codes []int, code int) (n int) {
	for _, c := range codes {
		if c == code {
			n++
		}
	}
	return n
}
