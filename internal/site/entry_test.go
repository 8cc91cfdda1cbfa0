package site

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The function of a site is called with what enters that site, and no place has
// another name for it.
func TestOnEntry(t *testing.T) {
	for config, want := range map[string]map[string]string{
		":80 {\n probe p\n respond hi\n}":                                                                           {"http://a/": "p"},
		":80 {\n probe /x p\n probe q\n respond hi\n}":                                                              {"http://a/": "p q", "http://a/x": "p q"},
		"http://a {\n probe p\n respond hi\n}\nhttp://b, http://c {\n probe q\n respond hi\n}":                      {"http://a/": "p", "http://b/x": "q", "http://c/": "q", "http://d/": ""},
		"http://a {\n probe p\n respond hi\n handle_errors {\n probe e\n}\n}\nhttp://b {\n probe q\n respond hi\n}": {"http://a/": "p e", "http://b/": "q"},
		":80 {\n probe p\n respond hi\n handle_errors {\n probe e\n}\n}":                                            {"http://a/": "p e"},
		":80 {\n handle /x {\n probe p\n}\n handle {\n probe q\n}\n}":                                               {"http://a/": "p q", "http://a/x": "p q"},
	} {
		for _, path := range []string{"", "late"} {
			app := load(t, config).app
			for _, server := range app.Servers {
				before := newIndex([]*caddyhttp.Server{server})
				var texts []string
				for _, n := range before.order {
					texts = append(texts, before.nodes[n][0].text()+before.nodes[n][0].textBefore())
				}
				compiled := slices.Clone(server.Routes) // as what is compiled has them
				ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
				defer cancel()
				var entered string
				for range 2 {
					OnEntry(ctx.WithValue(caddyhttp.ServerCtxKey, server), func(handlers []caddyhttp.MiddlewareHandler) func(*http.Request) {
						text := ""
						for _, h := range handlers {
							if p, ok := h.(*probe); ok {
								text = (text + " " + p.Label)
							}
						}
						return func(*http.Request) { entered = text }
					})
				}
				for i, n := range before.order {
					if now := before.nodes[n][0].text() + before.nodes[n][0].textBefore(); now != texts[i] {
						t.Errorf("%s: the place of handler %d has another name", config, i)
					}
				}
				routes := server.Routes
				if path == "late" {
					routes = compiled
					if len(routes[0].MatcherSets) == 0 {
						continue
					}
				}
				for url, site := range want {
					entered = ""
					r := httptest.NewRequest(http.MethodGet, url, nil)
					r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), server)
					for i := range routes {
						if ok, err := routes[i].MatcherSets.AnyMatchWithError(r); ok && err == nil && routes[i].Terminal {
							break
						}
					}
					if site != "" {
						site = " " + site
					}
					if entered != site {
						t.Errorf("%s: %s enters %q", config, url, entered)
					}
				}
			}
		}
	}
}
