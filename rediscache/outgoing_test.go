package rediscache

import (
	"strings"
	"testing"
)

// What the client is told of caching is true: where handlers in front forbid it,
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
			r.load(site(""))
			r.get(1, "/late", "Host", "a.test")
			r.load(site(tc.front))
			if got := r.get(1, "/late", "Host", "a.test"); !strings.HasPrefix(got, want) && !strings.Contains(name, "if 404") {
				t.Errorf("after a reload: got a %s, want a %s", got, want)
			}
		})
	}
}
