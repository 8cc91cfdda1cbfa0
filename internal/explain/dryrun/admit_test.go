package dryrun_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/pythopus/tentagate/internal/explain/dryrun"
	"github.com/pythopus/tentagate/internal/servertest"
)

// run explains a request at the servers of an application.
func run(t *testing.T, servers map[string]*caddyhttp.Server, q *dryrun.Request) (*dryrun.Answer, error) {
	t.Helper()
	u, err := url.Parse(q.URL)
	if err != nil {
		t.Fatal(err)
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	q.Client = "203.0.113.7"
	return dryrun.Run(t.Context(), &caddyhttp.App{Servers: servers}, q, u)
}

// What Caddy's server does in front of its routes is done in a dry run, too.
func TestAdmit(t *testing.T) {
	names := []string{
		"User_id", "User-Id", "User.id", "Webhook_a", "Webhook-A", "Webhook_a.b", "Webhook.event", "Webhook-Event", "Webhook_both.c",
		"X_other", "X.other", "X_other.d", "Plain",
	}
	var routes []string
	for _, name := range names {
		routes = append(routes, fmt.Sprintf(`{"match":[{"header":{%q:["*"]}}],"handle":[{"handler":"static_response","status_code":201}],"terminal":true}`, name))
	}
	handler, err := servertest.LoadJSON(t, []byte(`{"admin":{"disabled":true},"apps":{"http":{"servers":{"srv0":{"listen":[":80"],
		"expected_underscore_headers":["user_id","webhook_*","webhook_both.c"],"expected_dot_headers":["webhook.event"],
		"routes":[`+strings.Join(routes, ",")+`,{"handle":[{"handler":"static_response","status_code":202}]}]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	server := handler.(*caddyhttp.Server)
	compare := func(what, method, host string, fields http.Header) {
		t.Helper()
		r, w := httptest.NewRequest(http.MethodGet, "http://api.example.com/", nil), httptest.NewRecorder()
		r.Method, r.Host, r.Header = method, host, fields.Clone()
		server.ServeHTTP(w, r)
		sent := map[string][]string(fields.Clone())
		sent["Host"] = []string{host}
		answer, err := run(t, map[string]*caddyhttp.Server{"srv0": server}, &dryrun.Request{URL: "http://api.example.com/", Method: method, Headers: sent})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != w.Code {
			t.Errorf("%s: %d, of a real request %d: %+v", what, answer.Status, w.Code, answer.Steps)
		}
		if named := len(answer.Steps) == 2 && strings.Contains(answer.Steps[0].Reason, what); named != (w.Code == 202) {
			t.Errorf("%s: %d %+v", what, w.Code, answer.Steps)
		}
	}
	for _, name := range names {
		compare(name, "GET", "api.example.com", http.Header{name: {"1"}})
		compare(name, "GET", "api.example.com", http.Header{name: {"1", "2"}})
	}
	for _, host := range []string{"", "...", "a b", "a/b"} {
		compare("host "+host, "GET", host, http.Header{})
	}
	compare("a long method", strings.Repeat("A", 33), "api.example.com", http.Header{})
}

func TestStrictSNIHost(t *testing.T) {
	strict := true
	servers := map[string]*caddyhttp.Server{"srv0": {
		Listen: []string{":443"}, StrictSNIHost: &strict, TLSConnPolicies: caddytls.ConnectionPolicies{{}},
	}}
	for target, want := range map[string]int{"https://api.example.com/": 200, "https://127.0.0.1/": 421} {
		answer, err := run(t, servers, &dryrun.Request{URL: target})
		if err != nil || answer.Status != want {
			t.Errorf("%s: %+v, want %d (%v)", target, answer, want, err)
		}
	}
	answer, err := run(t, servers, &dryrun.Request{URL: "https://127.0.0.1/", Headers: map[string][]string{"Host": {"api.example.com"}}})
	if err != nil || answer.Status != 200 {
		t.Errorf("with a host: %+v (%v)", answer, err)
	}
}

// The address says which of several servers on one port is asked, and by which of its
// addresses the request comes.
func TestServers(t *testing.T) {
	servers := map[string]*caddyhttp.Server{"first": {Listen: []string{"127.0.0.1:8000"}}, "second": {Listen: []string{"127.0.0.2:8000", ":8001"}}}
	for target, want := range map[string]string{
		"http://127.0.0.1:8000/": "first", "http://127.0.0.2:8000/": "second", "http://api.example.com:8001/": "second", "http://127.0.0.1:8001/": "second",
	} {
		if answer, err := run(t, servers, &dryrun.Request{URL: target}); err != nil || !strings.HasPrefix(answer.Server, want) {
			t.Errorf("%s: %+v (%v)", target, answer, err)
		}
	}
	for target, want := range map[string]string{
		"http://api.example.com:8000/": "first (127.0.0.1:8000), second", "http://127.0.0.9:8000/": "no server", "http://api.example.com/": "no server",
	} {
		if answer, err := run(t, servers, &dryrun.Request{URL: target}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v (%v), want %q", target, answer, err, want)
		}
	}
}

// sendTo sends a real request to an address of a server.
func sendTo(server http.Handler, address, target string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(http.MethodGet, target, nil), httptest.NewRecorder()
	ctx := context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(address), Port: 8080})
	server.ServeHTTP(w, r.WithContext(ctx))
	return w
}

// What is stored for a listener is found by a dry run at its address.
func TestStoredByListener(t *testing.T) {
	server := servertest.Handler(t, `http://a.test:8080 {
	bind 127.0.0.1 127.0.0.2
	http_cache 1h
	header Cache-Control max-age=600
	respond good
}
`).(*caddyhttp.Server)
	ask := func(target string) *dryrun.Answer {
		answer, err := run(t, map[string]*caddyhttp.Server{"srv0": server}, &dryrun.Request{URL: target, Headers: map[string][]string{"Host": {"a.test:8080"}}})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	sendTo(server, "127.0.0.2", "http://a.test:8080/x")
	if answer := ask("http://127.0.0.2:8080/x"); answer.Steps[0].Facts["cache"] != "hit" {
		t.Errorf("where it was stored: %+v", answer.Steps)
	}
	if answer := ask("http://127.0.0.1:8080/x"); answer.Steps[0].Facts["cache"] != "miss" {
		t.Errorf("elsewhere: %+v", answer.Steps)
	}
}
