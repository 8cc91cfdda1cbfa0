package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// Fields that handlers in front set, and those of the service with the same name,
// reach the client as without the cache: on a miss, a hit, stale, 304 and HEAD.
func TestFieldsOfOuterHandlers(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Set-Cookie": "service=1", "Link": "</s>; rel=preload", "Server-Timing": "db;dur=5", "X-Frame-Options": "SAMEORIGIN",
			"Vary": "Accept-Language", "Etag": `"v1"`, "X-Both": "service", "Content-Type": "text/plain", "Cache-Status": "inner; hit",
		} {
			w.Header().Set(name, value)
		}
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", r.URL.Query().Get("age"))
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "body")
	}))
	defer service.Close()
	for name, lines := range map[string]string{
		"none": "",
		"at once": `
			header +Set-Cookie outer=1
			header Link "</o>; rel=preload"
			header +Server-Timing gw;dur=1
			header X-Frame-Options DENY
			header +Vary Origin
			header X-Alone outer
			header Cache-Status outer`,
		"deferred": `
			header {
				defer
				+Set-Cookie outer=1
				Link "</o>; rel=preload"
				+Server-Timing gw;dur=1
				X-Frame-Options DENY
				+Vary Origin
				X-Alone outer
			}`,
		"removed, defaults and replaced": `
			header {
				-Link
				?X-Frame-Options DENY
				?X-Alone outer
				>X-Both replaced
				Server-Timing service gateway
				-Server
			}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, strings.NewReplacer("LINES", lines, "SERVICE", strings.TrimPrefix(service.URL, "http://")).Replace(`{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	handle_path /cached* {
		LINES
		http_cache 60s {
			set_cookie store
			cache_status off
		}
		reverse_proxy SERVICE
	}
	handle_path /plain* {
		LINES
		reverse_proxy SERVICE
	}
}
`))
			fields := func(method, path string, send ...string) (int, http.Header) {
				a := g.send(method, path, "", send...)
				for _, name := range []string{"Age", "Date", "Via", "Content-Length"} {
					delete(a.header, name)
				}
				return a.status, a.header
			}
			for _, tc := range []struct {
				what, method, query string
				send                []string
			}{
				{"a HEAD that misses", "HEAD", "?1", nil},
				{"a miss", "GET", "?2", nil},
				{"a hit", "GET", "?2", nil},
				{"a HEAD that hits", "HEAD", "?2", nil},
				{"a 304", "GET", "?2", []string{"If-None-Match", `"v1"`}},
				{"a 304 on a miss", "GET", "?3", []string{"If-None-Match", `"v1"`}},
				{"stored stale", "GET", "?age=100", nil},
				{"stale", "GET", "?age=100", nil},
				{"passed", "POST", "?4", nil},
			} {
				wantStatus, want := fields(tc.method, "/plain"+tc.query, tc.send...)
				status, got := fields(tc.method, "/cached"+tc.query, tc.send...)
				if wantStatus == http.StatusNotModified {
					delete(want, "Content-Type") // net/http leaves it out too
					delete(got, "Content-Type")
				}
				if status != wantStatus || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %d\n%v, without the cache %d\n%v", tc.what, status, got, wantStatus, want)
				}
			}
		})
	}
}
