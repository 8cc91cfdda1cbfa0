package jwtauth

import (
	"net/http"
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	block := func(resource string) string {
		return "jwt_auth {\n secret " + secret + "\n issuer https://a.test\n scopes any read write\n sources header query:access_token cookie:c\n resource_metadata {\n resource " + resource + "\n}\n}"
	}
	for resource, path := range map[string]string{
		"https://r.test": wellKnown, "https://r.test/": wellKnown, "https://r.test/a/b": wellKnown + "/a/b", "https://r.test/a/": wellKnown + "/a/",
	} {
		w, _ := ask(t, block(resource), func(*http.Request) {})
		if want := `Bearer realm="api", resource_metadata="https://r.test` + path + `"`; w.Code != 401 || w.Header().Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d %q", resource, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "OPTIONS": 405} {
			w, seen := ask(t, block(resource), func(r *http.Request) { r.Method, r.URL.Path = method, path })
			want := ""
			if method == "GET" {
				want = `{"resource":"` + resource + `","authorization_servers":["https://a.test"],"scopes_supported":["read","write"],"bearer_methods_supported":["header","query"]}`
			}
			if w.Code != status || seen != nil || status == 200 && (w.Body.String() != want || w.Header().Get("Content-Type") != "application/json") || status == 405 && w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v %s", method, path, w.Code, w.Header(), w.Body)
			}
		}
		if w, _ := ask(t, block(resource), func(r *http.Request) { r.URL.Path = path + "x" }); w.Code != 401 {
			t.Errorf("beside the document: %d", w.Code)
		}
	}
	w, _ := ask(t, "jwt_auth "+secret+" {\n resource_metadata https://m.test/doc?a=1\n}", bearer("x"))
	if !strings.HasSuffix(w.Header().Get("WWW-Authenticate"), `", resource_metadata="https://m.test/doc?a=1"`) {
		t.Error(w.Header())
	}
	for _, bad := range []string{"http://r.test", "r.test", "https://", "https://u:p@r.test", "https://r.test#x", "https://r.test?a", "https://r.test/\\x", "ftp://r.test"} {
		if _, err := load(t, block(bad)); err == nil || !strings.Contains(err.Error(), "resource_metadata") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestUnquotable(t *testing.T) {
	for _, h := range []*Handler{{Realm: `a"b`}, {Realm: "a\x01"}, {Realm: "é"}} {
		if err := provision(t, h); err == nil || !strings.Contains(err.Error(), "realm") {
			t.Errorf("%q: %v", h.Realm, err)
		}
	}
	if _, err := load(t, "jwt_auth "+secret+" {\n scopes any `a\"b`\n}"); err == nil || !strings.Contains(err.Error(), "scopes") {
		t.Error(err)
	}
}
