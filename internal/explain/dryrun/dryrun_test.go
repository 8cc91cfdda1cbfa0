package dryrun_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/pythopus/tentagate" // all handlers
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/explain/dryrun"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/servertest"
)

// backend counts the connections that are made to it.
func backend(t *testing.T) (address string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	connections = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	return l.Addr().String(), connections
}

// ask explains a GET for the path at the one server of a Caddyfile.
func ask(t *testing.T, server http.Handler, path string) *dryrun.Answer {
	t.Helper()
	app := &caddyhttp.App{Servers: map[string]*caddyhttp.Server{"srv0": server.(*caddyhttp.Server)}}
	u, err := url.Parse("http://api.example.com" + path)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := dryrun.Run(t.Context(), app, &dryrun.Request{URL: u.String(), Method: http.MethodGet, Client: "203.0.113.7"}, u)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// No handler that could ask somebody runs, whatever its transport.
func TestNoBackend(t *testing.T) {
	address, connections := backend(t)
	for name, tc := range map[string]struct{ site, handler, outcome string }{
		"reverse_proxy":       {"reverse_proxy " + address, "reverse_proxy", "forwarded"},
		"transport tentagate": {"reverse_proxy " + address + " {\n transport tentagate {\n breaker dry\n }\n }", "reverse_proxy", "forwarded"},
		"behind all of ours": {
			"guard\n ratelimit 9/1m\n http_cache\n circuit_breaker dry2\n reverse_proxy " + address,
			"reverse_proxy", "forwarded",
		},
		"forward_auth":  {"forward_auth " + address + " {\n uri /auth\n }\n respond ok", "reverse_proxy", "unknown"},
		"php_fastcgi":   {"root * /\n php_fastcgi " + address + " {\n try_files /x\n }", "reverse_proxy", "forwarded"},
		"file_server":   {"file_server", "file_server", "unknown"},
		"named route":   {"invoke proxy", "reverse_proxy", "forwarded"},
		"handle_errors": {"error 404\n handle_errors {\n reverse_proxy " + address + "\n }", "reverse_proxy", "forwarded"},
		"intercept":     {"intercept {\n handle_response {\n reverse_proxy " + address + "\n }\n }\n respond ok", "static_response", "answered"},
		"templates":     {"templates\n respond `{{httpInclude \"/x\"}}`", "static_response", "answered"},
		"open circuit's": {
			"circuit_breaker dry3 {\n open {\n reverse_proxy " + address + "\n }\n }\n reverse_proxy " + address,
			"reverse_proxy", "forwarded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := ask(t, servertest.Handler(t, "&(proxy) {\n reverse_proxy "+address+"\n}\n:80 {\n route {\n "+strings.Replace(tc.site, "\n handle_errors", "\n }\n handle_errors", 1)+
				map[bool]string{true: "", false: "\n }"}[strings.Contains(tc.site, "handle_errors")]+"\n}\n"), "/a.php")
			if last := e.Steps[len(e.Steps)-1]; last.Handler != tc.handler || string(e.Outcome) != tc.outcome {
				t.Errorf("%s: %+v", e.Outcome, e.Steps)
			}
		})
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// Caddy's own handlers are led through as Caddy does it.
func TestRoutes(t *testing.T) {
	server := servertest.Handler(t, `:80 {
	@old path /old/*
	rewrite @old /new{path}
	respond /new/* "new" 201
	error /gone 410
	respond /bye 403 {
		close
	}
	abort /abort
	handle /group/* {
		respond 202
	}
	handle {
		respond /rest 203
	}
	error /fails 404
	handle_errors 410 {
		respond 451
	}
	handle_errors 404 {
		error 418
	}
}
`)
	for path, want := range map[string]struct {
		status int
		steps  string
	}{
		"/old/x":   {201, "rewrite passes, static_response answers"},
		"/gone":    {451, "error refuses, static_response answers"},
		"/bye":     {403, "static_response answers"},
		"/abort":   {0, "static_response answers"},
		"/group/x": {202, "static_response answers"},
		"/rest":    {203, "static_response answers"},
		"/nothing": {200, "caddy answers"},
		"/fails":   {404, "error refuses, error refuses"}, // the status of the first
	} {
		e := ask(t, server, path)
		var steps []string
		for _, s := range e.Steps {
			steps = append(steps, s.Handler+" "+string(s.Result))
		}
		if got := strings.Join(steps, ", "); e.Status != want.status || got != want.steps {
			t.Errorf("%s: %d %s, want %d %s", path, e.Status, got, want.status, want.steps)
		}
	}
}

// The error routes of a subroute leave the status of an error that they do not answer.
func TestSubrouteErrors(t *testing.T) {
	server, err := servertest.LoadJSON(t, []byte(`{"admin":{"disabled":true},"apps":{"http":{"servers":{"srv0":{"listen":[":80"],"routes":[{"handle":[
		{"handler":"subroute","routes":[{"handle":[{"handler":"error","status_code":404}]}],
		"errors":{"routes":[{"handle":[{"handler":"vars","a":"b"}],"terminal":true}]}}]}]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://api.example.com/", nil))
	if answer := ask(t, server, "/"); answer.Status != w.Code || w.Code != 404 {
		t.Errorf("%d, of a real request %d: %+v", answer.Status, w.Code, answer.Steps)
	}
}

// Every handler of TentaGate explains itself: the dry run ends in front of one that does
// not.
func TestAllHandlers(t *testing.T) {
	n := 0
	for _, m := range caddy.GetModules("http.handlers") {
		h := m.New()
		if !strings.HasPrefix(reflect.Indirect(reflect.ValueOf(h)).Type().PkgPath(), "github.com/pythopus/tentagate") {
			continue
		}
		n++
		if _, ok := h.(*problem.Fallback); ok {
			continue
		}
		if _, ok := h.(explain.Handler); !ok {
			t.Errorf("%s has no Explain", m.ID)
		}
	}
	if n < 12 {
		t.Errorf("only %d handlers", n)
	}
}
