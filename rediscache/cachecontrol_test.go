package rediscache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// What the client reads about caching is true: where handlers in front forbid it,
// nothing is stored, and nothing stored is used.
func TestOutgoingFields(t *testing.T) {
	for name, tc := range map[string]struct {
		front  string
		stored bool
	}{
		"private, no-store":          {`header Cache-Control "private, no-store"`, false},
		"no-store, set":              {`header >Cache-Control no-store`, false},
		"no-store, deferred":         {"header {\nCache-Control no-store\ndefer\n}", false},
		"private, added":             {`header +Cache-Control private`, false},
		"private, added deferred":    {"header {\n+Cache-Control private\ndefer\n}", false},
		"private, if 200":            {"header {\nmatch status 200\nCache-Control private\n}", false},
		"private, if 404":            {"header {\nmatch status 404\nCache-Control private\n}", true},
		"replaced":                   {"header >Cache-Control public private", false},
		"targeted":                   {"header CDN-Cache-Control no-store", false},
		"in an outer block":          {"header /* >Cache-Control no-store", false},
		"elsewhere":                  {"header /other/* >Cache-Control no-store", true},
		"for browsers":               {`header Cache-Control "no-cache, max-age=5"`, true},
		"removed":                    {"header -Cache-Control", true},
		"another field":              {"header X-Note no-store", true},
		"set and removed afterwards": {"header {\n-Cache-Control\ndefer\n}\nheader Cache-Control no-store", true},
	} {
		t.Run(name, func(t *testing.T) {
			site := func(front string) string {
				return "http://:$1 {\nroute {\n" + front + "\nhttp_cache 60s\nreverse_proxy $PUBLIC {\nheader_down Cache-Control \"public, max-age=60\"\n}\n}\n}"
			}
			r := runCaddyfile(t, site(tc.front))
			r.get(1, "/", "Host", "a.test")
			want := "miss"
			if tc.stored {
				want = "hit"
			}
			if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, want) {
				t.Errorf("got a %s, want a %s", got, want)
			}
			// The same after a reload that adds the handler to what is stored already.
			if strings.Contains(name, "if 404") {
				return
			}
			// The configuration before may still answer for a moment: then it is tried again
			// with another path, as a second look finds what the first has stored.
			got := ""
			for n := 0; n < 20 && !strings.HasPrefix(got, want); n++ {
				late := fmt.Sprint("/late", n)
				r.load(site(""))
				r.get(1, late, "Host", "a.test")
				r.load(site(tc.front))
				got = r.get(1, late, "Host", "a.test")
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("after a reload: got a %s, want a %s", got, want)
			}
		})
	}
}

// The same holds for what is freshened: what handlers in front make of the fields
// depends on the response, which a 304 or the answer to HEAD has changed.
func TestOutgoingFieldsOfFreshened(t *testing.T) {
	const secret = "header {\nmatch header X-Kind secret\nCache-Control %s\n}"
	for name, tc := range map[string]struct {
		front  string
		stored bool
	}{
		"no-store":           {fmt.Sprintf(secret, "no-store"), false},
		"private":            {fmt.Sprintf(secret, "private"), false},
		"no-store, deferred": {fmt.Sprintf("header {\nmatch header X-Kind secret\n>Cache-Control %s\ndefer\n}", "no-store"), false},
		"for others":         {strings.ReplaceAll(fmt.Sprintf(secret, "no-store"), "secret", "other"), true},
		"for browsers":       {fmt.Sprintf(secret, "max-age=5"), true},
	} {
		for _, by := range []string{http.MethodGet, http.MethodHead} {
			t.Run(name+" by "+by, func(t *testing.T) {
				var n atomic.Int64
				origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Etag", `"a"`)
					w.Header().Set("Cache-Control", "public, max-age=60")
					w.Header().Set("X-Kind", "plain")
					switch n.Add(1) {
					case 1:
						w.Header().Set("Age", "60")
					case 2:
						w.Header().Set("X-Kind", "secret")
					}
					if r.Header.Get("If-None-Match") == `"a"` && n.Load() == 2 {
						w.WriteHeader(http.StatusNotModified)
						return
					}
					w.Header().Set("Content-Length", "4")
					_, _ = w.Write([]byte("text"))
				}))
				defer origin.Close()
				r := runCaddyfile(t, "http://:$1 {\nroute {\n"+tc.front+"\nhttp_cache\nreverse_proxy "+origin.URL+"\n}\n}")
				r.get(1, "/", "Host", "a.test")
				req, _ := http.NewRequestWithContext(t.Context(), by, "http://127.0.0.1:"+r.ports[0]+"/", nil)
				req.Host = "a.test"
				resp, err := httpClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				want := "miss text"
				if tc.stored {
					want = "hit text"
				}
				if got := r.get(1, "/", "Host", "a.test"); got != want {
					t.Errorf("got a %s, want a %s", got, want)
				}
			})
		}
	}
}
