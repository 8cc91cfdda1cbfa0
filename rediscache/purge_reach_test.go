package rediscache

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// ask is a request of TestPurgeReaches.
type ask struct {
	method, path string
	fields       []string
}

// A purge reaches every copy of what it names, and nothing that it does not.
func TestPurgeReaches(t *testing.T) {
	get := func(path string, fields ...string) ask { return ask{http.MethodGet, path, fields} }
	for _, tc := range []struct {
		name   string
		block  string
		answer []string
		asks   []ask
		purge  object.Scope // with paths in place of URLs
		gone   bool
	}{
		{"url", "", nil, []ask{get("/a?b=c")}, object.Scope{URL: "/a?b=c"}, true},
		{"url, other spelling", "", nil, []ask{get("/%7ea")}, object.Scope{URL: "/~a"}, true},
		{"another query", "", nil, []ask{get("/a?b=c")}, object.Scope{URL: "/a?b=d"}, false},
		{"no query", "", nil, []ask{get("/a?b=c")}, object.Scope{URL: "/a"}, false},
		{
			"variants", "",
			[]string{"Vary", "Accept, Accept-Language"},
			[]ask{get("/a", "Accept", "text/html"), get("/a", "Accept", "text/plain"), get("/a", "Accept-Language", "de")},
			object.Scope{URL: "/a"},
			true,
		},
		{
			"users", "key {\n per_user\n}", nil,
			[]ask{get("/a", "user", "alice"), get("/a", "user", "bob"), get("/a")},
			object.Scope{URL: "/a"},
			true,
		},
		{
			"users' private", "key {\n per_user\n}",
			[]string{"Cache-Control", "private, max-age=600"},
			[]ask{get("/a", "user", "alice"), get("/a", "user", "bob")},
			object.Scope{URL: "/a"},
			true,
		},
		{
			"No-Vary-Search", "",
			[]string{"No-Vary-Search", `params=("utm")`},
			[]ask{get("/a?utm=1&id=7"), get("/a?id=7")},
			object.Scope{URL: "/a?id=7&utm=unheard-of"},
			true,
		},
		{
			"No-Vary-Search, no query", "",
			[]string{"No-Vary-Search", "params"},
			[]ask{get("/a?x=1")},
			object.Scope{URL: "/a"},
			true,
		},
		{
			"No-Vary-Search, another path", "",
			[]string{"No-Vary-Search", "params"},
			[]ask{get("/a?x=1")},
			object.Scope{URL: "/b?x=1"},
			false,
		},
		{
			"parameters out of the key", "key {\n query allow page\n}", nil,
			[]ask{get("/a?page=1&utm=1")},
			object.Scope{URL: "/a?page=1&utm=2"},
			true,
		},
		{
			"no parameter in the key", "key {\n query deny utm_*\n}", nil,
			[]ask{get("/a?utm_x=1")},
			object.Scope{URL: "/a"},
			true,
		},
		{
			"no parameter in the key, asked for without", "key {\n query deny utm_*\n}", nil,
			[]ask{get("/a")},
			object.Scope{URL: "/a?utm_x=1"},
			true,
		},
		{
			"sorted parameters", "key {\n query sort\n}", nil,
			[]ask{get("/a?b=1&a=2")},
			object.Scope{URL: "/a?a=2&b=1"},
			true,
		},
		{
			"parts", "",
			[]string{"Etag", `"one"`},
			[]ask{get("/part", "Range", "bytes=0-3"), get("/part", "Range", "bytes=6-7")},
			object.Scope{URL: "/part"},
			true,
		},
		{
			"parts, by tag", "",
			[]string{"Etag", `"one"`, "Surrogate-Key", "x y"},
			[]ask{get("/part", "Range", "bytes=0-3")},
			object.Scope{Tag: "y"},
			true,
		},
		{"prefix", "", nil, []ask{get("/shop/a"), get("/shop/b?c")}, object.Scope{Prefix: "/shop/"}, true},
		{"prefix of a query", "", nil, []ask{get("/shop?id=12")}, object.Scope{Prefix: "/shop?id=1"}, true},
		{"another prefix", "", nil, []ask{get("/shopping")}, object.Scope{Prefix: "/shop/"}, false},
		{"host", "", nil, []ask{get("/a"), get("/b")}, object.Scope{Host: "/"}, true},
		{"Surrogate-Key", "", []string{"Surrogate-Key", "one two"}, []ask{get("/a")}, object.Scope{Tag: "two"}, true},
		{"Cache-Tag", "", []string{"Cache-Tag", "one, two"}, []ask{get("/a")}, object.Scope{Tag: "two"}, true},
		{"xkey", "", []string{"xkey", "one two"}, []ask{get("/a")}, object.Scope{Tag: "one"}, true},
		{"another tag", "", []string{"Surrogate-Key", "one two"}, []ask{get("/a")}, object.Scope{Tag: "tw"}, false},
		{"group", "", []string{"Cache-Groups", `"g"`}, []ask{get("/a")}, object.Scope{Group: "g", Origin: "/"}, true},
		{"all", "", nil, []ask{get("/a")}, object.Scope{All: true}, true},
	} {
		for _, soft := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, soft %v", tc.name, soft), func(t *testing.T) {
				var version atomic.Int64
				g := newGateway(t, "http_cache {\n"+tc.block+"\n}", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "public, max-age=600")
					for i := 0; i < len(tc.answer); i += 2 {
						w.Header().Set(tc.answer[i], tc.answer[i+1])
					}
					body := fmt.Sprintf("version%d", version.Load())
					if span := r.Header.Get("Range"); span != "" {
						var from, to int
						_, _ = fmt.Sscanf(span, "bytes=%d-%d", &from, &to)
						w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(body)))
						w.WriteHeader(http.StatusPartialContent)
						body = body[from : to+1]
					}
					_, _ = fmt.Fprint(w, body)
				})
				send := func(a ask) *httptest.ResponseRecorder { return g.send(a.method, a.path, a.fields...) }
				for _, a := range tc.asks {
					send(a)
					if w := send(a); !strings.Contains(w.Header().Get("Cache-Status"), "hit") {
						t.Fatalf("%+v is not stored: %v", a, w.Header())
					}
				}
				s := tc.purge
				s.Soft = soft
				site := "https://" + g.host
				for _, place := range []*string{&s.URL, &s.Prefix, &s.Origin} {
					if *place != "" {
						*place = site + *place
					}
				}
				if s.Host != "" {
					s.Host = g.host
				}
				stored := g.asked.Load()
				if _, err := g.h.storage.epochs.Purge(context.Background(), s); err != nil {
					t.Fatal(err)
				}
				version.Add(1)
				for _, a := range tc.asks {
					got := send(a)
					if asked := got.Header().Get("X-Asked"); (asked > fmt.Sprint(stored)) != tc.gone {
						t.Errorf("%+v: %q after the purge, request %s to the service of %d before", a, got.Body, asked, stored)
					}
					if again := send(a); tc.gone && !strings.Contains(again.Header().Get("Cache-Status"), "hit") {
						t.Errorf("%+v: what was fetched after the purge is not used: %v", a, again.Header())
					}
				}
			})
		}
	}
}

// Who asks after a purge is not given the answer to a request that was sent
// before it, and that answer is not kept.
func TestPurgeDuringFill(t *testing.T) {
	for _, soft := range []bool{false, true} {
		t.Run(fmt.Sprint("soft ", soft), func(t *testing.T) {
			began, proceed := make(chan struct{}, 1), make(chan struct{})
			var version atomic.Int64
			g := newGateway(t, "http_cache", func(w http.ResponseWriter, _ *http.Request) {
				v := version.Load()
				w.Header().Set("Cache-Control", "max-age=600")
				if v == 0 {
					began <- struct{}{}
					<-proceed
				}
				_, _ = fmt.Fprint(w, "version ", v)
			})
			early := make(chan string)
			go func() { early <- g.send(http.MethodGet, "/a").Body.String() }()
			<-began
			if _, err := g.h.storage.epochs.Purge(context.Background(), object.Scope{URL: "https://" + g.host + "/a", Soft: soft}); err != nil {
				t.Fatal(err)
			}
			version.Store(1)
			late := make(chan string)
			go func() { late <- g.send(http.MethodGet, "/a").Body.String() }()
			close(proceed)
			if got := <-early; got != "version 0" {
				t.Errorf("the first request: %q", got)
			}
			if got := <-late; got != "version 1" {
				t.Errorf("a request after the purge: %q", got)
			}
			if got := g.send(http.MethodGet, "/a").Body.String(); got != "version 1" {
				t.Errorf("afterwards: %q", got)
			}
		})
	}
}
