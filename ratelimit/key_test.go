package ratelimit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A host makes the same key in every spelling.
func TestHostsInKeys(t *testing.T) {
	for _, tc := range []struct {
		key   string
		same  []string
		other string
	}{
		{"{http.request.host}", []string{"acme.test", "Acme.Test", "acme.test.", "acme.test:80", "acme.test:", "acme.test:8080", "%61cme.test"}, "other.test"},
		{"{http.request.hostport}", []string{"acme.test", "ACME.test", "acme.test.:80", "acme.test:443", "acme.test:"}, "acme.test:8080"},
		{"a-{http.request.host}-b", []string{"acme.test", "Acme.test.", "acme.test:80"}, "other.test"},
		{"{http.request.host}:{http.request.port}", []string{"acme.test", "Acme.test.:80", "acme.test:"}, "acme.test:81"},
		{"{http.request.host.labels.1}", []string{"acme.test", "Acme.test.", "acme.test:80"}, "other.test"},
		{"{http.request.host}", []string{"[::1]", "[0:0::1]:80", "[::1]:443"}, "[::2]"},
	} {
		h := provision(t, &Handler{Key: []string{tc.key}, Limits: []string{"1/1h"}, MissingKey: missingReject})
		key := func(host string) string {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = host
			repl := caddy.NewReplacer()
			r = caddyhttp.PrepareRequest(r, repl, nil, &caddyhttp.Server{})
			key, ok := h.key.render(r, repl, 64)
			if !ok {
				t.Errorf("%s: %q has no key", tc.key, host)
			}
			return key
		}
		want := key(tc.same[0])
		for _, host := range tc.same {
			if got := key(host); got != want {
				t.Errorf("%s: %q makes the key %q, not %q", tc.key, host, got, want)
			}
		}
		if got := key(tc.other); got == want {
			t.Errorf("%s: %q makes the key of %q", tc.key, tc.other, tc.same[0])
		}
	}
}

// A variable that `vars` copies from the host is one too.
func TestHostsInVariables(t *testing.T) {
	var limits []string
	for path, name := range map[string]string{"/direct": "h", "/copied": "g", "/part": "part", "/port": "p", "/two": "two"} {
		limits = append(limits, "ratelimit "+path+" 1/1h {\nkey {vars."+name+"}\n}")
	}
	g := startGateway(t, `
	route {
		vars h {host}
		vars g {vars.h}
		vars /part part {host}
		vars p {hostport}
		vars two {host}
		vars two {path}
		%s
	}`, strings.Join(limits, "\n"))
	for path, want := range map[string][]int{
		"/direct": {200, 429, 429}, "/copied": {200, 429, 429}, "/part": {200, 429, 429}, "/port": {200, 429, 200}, "/two": {200, 429, 429},
	} {
		for i, host := range []string{"Acme.test", "acme.test.:80", "acme.test:8080"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", g.port, path), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want[i] {
				t.Errorf("%s, Host %s: %d, want %d", path, host, resp.StatusCode, want[i])
			}
		}
	}
}
