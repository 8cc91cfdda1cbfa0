package caddyfile

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// What is removed without Caddy is what Caddy removes.
func FuzzStripPrefix(f *testing.F) {
	for _, target := range []string{
		"/api/users", "/api/users/", "/api/users/x", "/api/users/x/", "/api/users/x?a=b", "/api/users/x?", "/api/users?a", "/api/usersx", "/api/usersx/y",
		"/api/users//x", "/api/users/./x", "/api/users/../x", "/api/users/.x", "/api/users/..", "/API/users/x", "/api/%75sers/x", "/api/users/%41",
		"/api/users/a%2Fb", "/api/users/%20", "/api/users/a:b", "/api/users/a;b,c", "/api/users/é", "/", "*", "//api/users/x", "/api/users/x//",
	} {
		f.Add("/api/users", target)
		f.Add("/api/", target)
	}
	f.Fuzz(func(t *testing.T, prefix, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !isClean(prefix) || !isUnreserved(prefix) {
			return
		}
		theirs, ours := *u, *u
		r := &http.Request{Method: http.MethodGet, URL: &ours, RequestURI: target}
		if s := (&stripPrefix{prefix: prefix}); !s.strip(r) {
			if r.RequestURI != target || ours != *u {
				t.Errorf("%s is changed, and left to Caddy", target)
			}
			return
		}
		other := &http.Request{Method: http.MethodGet, URL: &theirs, RequestURI: target}
		rewrite.Rewrite{StripPathPrefix: prefix}.Rewrite(other, caddy.NewReplacer())
		if ours != theirs || r.RequestURI != other.RequestURI {
			t.Errorf("%s without %s: %+v %s, Caddy has %+v %s", target, prefix, ours, r.RequestURI, theirs, other.RequestURI)
		}
	})
}

// The usual paths do not go to Caddy.
func TestStripPrefix(t *testing.T) {
	for target, want := range map[string]string{"/api/users/": "/", "/api/users/x": "/x", "/api/users/X.json?a=b&c": "/X.json?a=b&c", "/api/users/x?": "/x?"} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{URL: u, RequestURI: target}
		if s := (&stripPrefix{prefix: "/api/users"}); !s.strip(r) || r.RequestURI != want || r.URL.RequestURI() != want {
			t.Errorf("%s: %s, %s, want %s", target, r.RequestURI, r.URL, want)
		}
	}
}
