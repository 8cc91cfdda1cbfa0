package rediscache

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// scene is what a service says to one request, and what the client gets.
type scene struct {
	method, path string   // GET and / by default
	send         []string // the request's fields
	status       int      // of the service, 200 by default
	says         []string // its fields
	body         string   // its body
	stored       bool     // the service is not asked
	want         int      // the status the client gets, 200 by default
	gets         string   // the body it gets, if it is not the service's
	has          []string // fields that it gets
	receives     []string // fields that the service gets; a value of - is none
}

// TestExchanges plays scenes, one after the other, with one gateway.
func TestExchanges(t *testing.T) {
	const fresh = "max-age=600"
	tenBytes := scene{says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Type", "text/plain"}, body: "0123456789"}
	for name, tc := range map[string]struct {
		block  string
		scenes []scene
	}{
		"ranges of a stored response": {scenes: []scene{
			tenBytes,
			{send: []string{"Range", "bytes=0-3"}, stored: true, want: 206, gets: "0123", has: []string{"Content-Range", "bytes 0-3/10", "Content-Length", "4", "Etag", `"v1"`}},
			{send: []string{"Range", "bytes=-3"}, stored: true, want: 206, gets: "789", has: []string{"Content-Range", "bytes 7-9/10"}},
			{send: []string{"Range", "bytes=8-"}, stored: true, want: 206, gets: "89"},
			{send: []string{"Range", "bytes=10-"}, stored: true, want: 416, gets: "", has: []string{"Content-Range", "bytes */10"}},
			{send: []string{"Range", "lines=1-2"}, stored: true, gets: "0123456789"},
			{send: []string{"Range", "bytes=3-1"}, stored: true, gets: "0123456789"},
			{send: []string{"Range", "bytes=0-1", "If-Range", `"v1"`}, stored: true, want: 206, gets: "01"},
			{send: []string{"Range", "bytes=0-1", "If-Range", `"v2"`}, stored: true, gets: "0123456789"},
			{send: []string{"Range", "bytes=0-1", "If-Range", `W/"v1"`}, stored: true, gets: "0123456789"},
			{send: []string{"Range", "bytes=0-1", "If-None-Match", `"v1"`}, stored: true, want: 304, gets: ""},
			{method: "HEAD", send: []string{"Range", "bytes=0-1"}, stored: true, gets: "", has: []string{"Content-Length", "10"}},
		}},
		"conditions against a stored response": {scenes: []scene{
			tenBytes,
			{send: []string{"If-None-Match", `"v1"`}, stored: true, want: 304, gets: "", has: []string{"Etag", `"v1"`, "Content-Length", ""}},
			{send: []string{"If-None-Match", `"v2"`}, stored: true, gets: "0123456789"},
			{send: []string{"If-None-Match", `*`}, stored: true, want: 304, gets: ""},
			{method: "HEAD", send: []string{"If-None-Match", `"v1"`}, stored: true, want: 304, gets: ""},
		}},
		"conditions on a miss": {scenes: []scene{
			{send: []string{"If-None-Match", `"v1"`}, receives: []string{"If-None-Match", "-"}, says: tenBytes.says, body: "0123456789", want: 304, gets: ""},
			{stored: true, gets: "0123456789"},
		}},
		"a precondition is the service's": {scenes: []scene{
			tenBytes,
			{send: []string{"If-Match", `"v9"`}, status: 412, want: 412, receives: []string{"If-Match", `"v9"`}},
		}},
		"parts that make a whole": {scenes: []scene{
			{send: []string{"Range", "bytes=0-3"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 0-3/10"}, body: "0123", want: 206},
			{send: []string{"Range", "bytes=0-3"}, stored: true, want: 206, gets: "0123", has: []string{"Content-Range", "bytes 0-3/10"}},
			{send: []string{"Range", "bytes=1-2"}, stored: true, want: 206, gets: "12", has: []string{"Content-Range", "bytes 1-2/10"}},
			{send: []string{"Range", "bytes=4-9"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 4-9/10"}, body: "456789", want: 206},
			{stored: true, gets: "0123456789"},
		}},
		"a part that the rest is asked for": {scenes: []scene{
			{send: []string{"Range", "bytes=0-3"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 0-3/10"}, body: "0123", want: 206},
			{receives: []string{"Range", "bytes=4-", "If-Range", `"v1"`}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 4-9/10"}, body: "456789", gets: "0123456789"},
			{stored: true, gets: "0123456789"},
		}},
		"a part of another version": {scenes: []scene{
			{send: []string{"Range", "bytes=0-3"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 0-3/10"}, body: "0123", want: 206},
			{send: []string{"Range", "bytes=4-9"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v2"`, "Content-Range", "bytes 4-9/10"}, body: "efghij", want: 206},
			{receives: []string{"Range", "bytes=4-"}, says: []string{"Cache-Control", fresh, "Etag", `"v2"`}, body: "abcdefghij"},
		}},
		"a part is no answer to a request for the whole": {scenes: []scene{
			{send: []string{"Range", "bytes=4-9"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 4-9/10"}, body: "456789", want: 206},
			{receives: []string{"Range", "-"}, says: tenBytes.says, body: "0123456789"},
		}},
		"a part that is not what it says": {scenes: []scene{
			{send: []string{"Range", "bytes=0-3"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 0-3/10"}, body: "01", want: 206},
			{send: []string{"Range", "bytes=0-3"}, status: 206, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Range", "bytes 0-3/10"}, body: "0123", want: 206},
		}},
		"validation": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`, "X-A", "1", "X-B", "1"}, body: "body"},
			{receives: []string{"If-None-Match", `"v1"`}, status: 304, says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "X-A", "2"}, gets: "body", has: []string{"X-A", "2", "X-B", "1"}},
			{stored: true, gets: "body", has: []string{"X-A", "2", "X-B", "1"}},
		}},
		"validation, and another answer": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`}, body: "old"},
			{receives: []string{"If-None-Match", `"v1"`}, says: []string{"Cache-Control", fresh, "Etag", `"v2"`}, body: "new"},
			{stored: true, gets: "new"},
		}},
		"a 304 about something else": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`}, body: "old"},
			{status: 304, says: []string{"Etag", `"v9"`}, gets: "", body: ""}, // and it is asked again: the scene has one answer for both
		}},
		"a tag that a compressor has marked": {scenes: []scene{
			{send: []string{"Accept-Encoding", "gzip"}, says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1-gzip"`, "Content-Encoding", "gzip"}, body: "body"},
			{receives: []string{"If-None-Match", `"v1-gzip"`}, status: 304, says: []string{"Cache-Control", fresh, "Etag", `"v1"`}, gets: "body", has: []string{"Etag", `"v1-gzip"`}},
			{stored: true, gets: "body"},
		}},
		"a cookie of a 304 is for its client": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`}, body: "body"},
			{status: 304, says: []string{"Cache-Control", fresh, "Set-Cookie", "a=b"}, gets: "body", has: []string{"Set-Cookie", "a=b"}},
			{stored: true, gets: "body", has: []string{"Set-Cookie", ""}},
		}},
		"HEAD": {scenes: []scene{
			{method: "HEAD", says: tenBytes.says, gets: ""},
			tenBytes, // an answer to HEAD is none to GET
			{method: "HEAD", stored: true, gets: "", has: []string{"Content-Length", "10"}},
		}},
		"HEAD shows that the stored response is old": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`}, body: "old"},
			{method: "HEAD", says: []string{"Cache-Control", fresh, "Etag", `"v2"`}, gets: ""},
			{receives: []string{"If-None-Match", "-"}, says: []string{"Cache-Control", fresh, "Etag", `"v2"`}, body: "new"},
		}},
		"HEAD freshens": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60", "Age", "61", "Etag", `"v1"`, "Content-Length", "4"}, body: "body"},
			{method: "HEAD", says: []string{"Cache-Control", fresh, "Etag", `"v1"`, "Content-Length", "4", "X-A", "2"}, gets: ""},
			{stored: true, gets: "body", has: []string{"X-A", "2"}},
		}},
		"POST": {scenes: []scene{
			{method: "POST", says: []string{"Cache-Control", fresh, "Content-Location", "/"}, body: "posted"},
			{stored: true, gets: "posted"},
			{method: "POST", says: []string{"Cache-Control", fresh}, body: "again"},
			{says: []string{"Cache-Control", fresh}, body: "got"},
		}},
		"POST about something else": {scenes: []scene{
			{method: "POST", says: []string{"Cache-Control", fresh, "Content-Location", "/other"}, body: "posted"},
			{says: []string{"Cache-Control", fresh}, body: "got"},
		}},
		"POST without a lifetime": {block: "http_cache 60s", scenes: []scene{
			{method: "POST", says: []string{"Content-Location", "/"}, body: "posted"},
			{body: "got"},
		}},
		"unsafe methods": {scenes: []scene{
			tenBytes,
			{path: "/b?x", says: tenBytes.says, body: "b"},
			{path: "/c", says: tenBytes.says, body: "c"},
			{method: "PUT", path: "/", status: 500},
			{stored: true, gets: "0123456789"},
			{method: "PUT", path: "/", status: 204, says: []string{"Location", "/b?x", "Content-Location", "//other.test/c"}, want: 204},
			tenBytes,
			{path: "/b?x", says: tenBytes.says, body: "b"},
			{path: "/c", stored: true, gets: "c"},
			{method: "OPTIONS", status: 204, want: 204},
			{stored: true, gets: "0123456789"},
			{method: "M-SEARCH"},
			tenBytes,
		}},
		"groups": {scenes: []scene{
			{path: "/a", says: []string{"Cache-Control", fresh, "Cache-Groups", `"one", "two"`}, body: "a"},
			{path: "/b", says: []string{"Cache-Control", fresh, "Cache-Groups", `"two"`}, body: "b"},
			{path: "/c", says: []string{"Cache-Control", fresh, "Cache-Groups", `"three"`, "Cache-Group-Invalidation", `"one"`}, body: "c"},
			{path: "/a", stored: true, gets: "a"}, // a GET makes nothing invalid
			{method: "POST", path: "/d", says: []string{"Cache-Group-Invalidation", `"two", "four"`}},
			{path: "/a", says: []string{"Cache-Control", fresh}, body: "a2"},
			{path: "/b", says: []string{"Cache-Control", fresh}, body: "b2"},
			{path: "/c", stored: true, gets: "c"},
		}},
		"targeted fields": {scenes: []scene{
			{says: []string{"Cache-Control", "no-store", "CDN-Cache-Control", "max-age=600"}, body: "1"},
			{stored: true, gets: "1", has: []string{"Cache-Control", "no-store", "Cdn-Cache-Control", "max-age=600"}},
			{path: "/b", says: []string{"Cache-Control", fresh, "CDN-Cache-Control", "no-store"}, body: "1"},
			{path: "/b", says: []string{"Cache-Control", fresh, "TentaGate-Cache-Control", "max-age=600", "CDN-Cache-Control", "no-store"}, body: "2"},
			{path: "/b", stored: true, gets: "2"},
		}},
		"No-Vary-Search": {scenes: []scene{
			{path: "/?a=1&utm=2", says: []string{"Cache-Control", fresh, "No-Vary-Search", `params=("utm"), key-order`}, body: "1"},
			{path: "/?a=1&utm=3", stored: true, gets: "1"},
			{path: "/?a=2", says: []string{"Cache-Control", fresh, "No-Vary-Search", `params=("utm"), key-order`}, body: "2"},
			{path: "/?utm=9&a=2", stored: true, gets: "2"},
		}},
		"Vary": {scenes: []scene{
			{send: []string{"Accept-Language", "de"}, says: []string{"Cache-Control", fresh, "Vary", "Accept-Language"}, body: "de"},
			{send: []string{"Accept-Language", "en"}, says: []string{"Cache-Control", fresh, "Vary", "Accept-Language"}, body: "en"},
			{send: []string{"Accept-Language", "DE;q=1.0"}, stored: true, gets: "de"},
			{says: []string{"Cache-Control", fresh, "Vary", "Accept-Language"}, body: "none"},
			{stored: true, gets: "none"},
		}},
		"the newest Vary decides": {scenes: []scene{
			{says: []string{"Cache-Control", fresh}, body: "plain"},
			{method: "POST", path: "/other"},
			{send: []string{"X", "1", "Cache-Control", "no-cache"}, says: []string{"Cache-Control", fresh, "Vary", "X"}, body: "one"},
			{send: []string{"X", "2"}, says: []string{"Cache-Control", fresh, "Vary", "X"}, body: "two"},
		}, block: "http_cache {\n request_directives honour\n}"},
		"stale-if-error": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60, stale-if-error=600", "Age", "61"}, body: "good"},
			{status: 503, body: "bad", gets: "good"},
			{status: 404, body: "gone", want: 404},
		}},
		"stale-if-error and must-revalidate": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=60, stale-if-error=600, must-revalidate", "Age", "61", "Etag", `"1"`}, body: "good"},
			{status: 503, body: "bad", want: 503},
		}},
		"request directives are ignored": {scenes: []scene{
			tenBytes,
			{send: []string{"Cache-Control", "no-cache"}, stored: true, gets: "0123456789"},
			{send: []string{"Pragma", "no-cache"}, stored: true, gets: "0123456789"},
			{send: []string{"Cache-Control", "max-age=0"}, stored: true, gets: "0123456789"},
			{path: "/n", send: []string{"Cache-Control", "only-if-cached"}, stored: true, want: 504, gets: "*"},
			{path: "/n", send: []string{"Cache-Control", "no-store"}, says: tenBytes.says, body: "n"},
			{path: "/n", says: tenBytes.says, body: "n2"},
		}},
		"request directives are honoured": {block: "http_cache {\n request_directives honour\n}", scenes: []scene{
			tenBytes,
			{send: []string{"Cache-Control", "no-cache"}, receives: []string{"If-None-Match", `"v1"`}, status: 304, gets: "0123456789"},
			{send: []string{"Pragma", "no-cache"}, says: tenBytes.says, body: "another"},
			{send: []string{"Cache-Control", "max-age=0"}, says: tenBytes.says, body: "third"},
			{send: []string{"Cache-Control", "min-fresh=601"}, says: tenBytes.says, body: "fourth"},
			{send: []string{"Cache-Control", "min-fresh=500, max-age=99"}, stored: true, gets: "fourth"},
			{path: "/s", says: []string{"Cache-Control", "max-age=60", "Age", "100", "Etag", `"1"`}, body: "stale"},
			{path: "/s", send: []string{"Cache-Control", "max-stale=99"}, stored: true, gets: "stale"},
			{path: "/s", send: []string{"Cache-Control", "max-stale"}, stored: true, gets: "stale"},
			{path: "/s", send: []string{"Cache-Control", "max-stale=10"}, receives: []string{"If-None-Match", `"1"`}, says: tenBytes.says, body: "new"},
		}},
		"immutable": {block: "http_cache {\n request_directives honour\n}", scenes: []scene{
			{says: []string{"Cache-Control", "max-age=600, immutable"}, body: "1"},
			{send: []string{"Cache-Control", "max-age=0"}, stored: true, gets: "1"},
			{send: []string{"Cache-Control", "no-cache"}, says: []string{"Cache-Control", "max-age=600, immutable"}, body: "2"},
		}},
		"Set-Cookie is stripped": {block: "http_cache {\n set_cookie strip\n}", scenes: []scene{
			{says: []string{"Cache-Control", fresh, "Set-Cookie", "a=b"}, body: "1", has: []string{"Set-Cookie", "a=b"}},
			{stored: true, gets: "1", has: []string{"Set-Cookie", ""}},
		}},
		"Set-Cookie is stored": {block: "http_cache {\n set_cookie store\n}", scenes: []scene{
			{says: []string{"Cache-Control", fresh, "Set-Cookie", "a=b"}, body: "1"},
			{stored: true, gets: "1", has: []string{"Set-Cookie", "a=b"}},
		}},
		"CORS fields": {scenes: []scene{
			{says: []string{"Cache-Control", fresh, "Access-Control-Allow-Origin", "https://a.test"}, body: "1", has: []string{"Access-Control-Allow-Origin", "https://a.test"}},
			{stored: true, gets: "1", has: []string{"Access-Control-Allow-Origin", ""}},
		}},
		"fields that are not stored": {scenes: []scene{
			{says: []string{"Cache-Control", `max-age=600, no-cache="x-a", private="x-b"`, "X-A", "1", "X-B", "2", "X-C", "3"}, body: "1"},
			{stored: true, gets: "1", has: []string{"X-A", "", "X-B", "", "X-C", "3"}},
		}},
		"must-understand": {scenes: []scene{
			{says: []string{"Cache-Control", "max-age=600, no-store, must-understand"}, body: "1"},
			{stored: true, gets: "1"},
			{path: "/b", status: 499, says: []string{"Cache-Control", "max-age=600, no-store, must-understand"}, body: "1", want: 499},
			{path: "/b", status: 499, says: []string{"Cache-Control", "max-age=600, must-understand"}, body: "1", want: 499},
			{path: "/b", status: 499, says: []string{"Cache-Control", "max-age=600"}, body: "1", want: 499},
			{path: "/b", stored: true, gets: "1", want: 499},
		}},
		"times by status": {block: "http_cache {\n ttl 60s\n ttl 404 5s\n ttl 500 5s\n}", scenes: []scene{
			{path: "/a", status: 404, body: "1", want: 404},
			{path: "/a", stored: true, gets: "1", want: 404},
			{path: "/b", status: 410, body: "1", want: 410},
			{path: "/b", status: 410, body: "2", want: 410},
			{path: "/c", status: 301, says: []string{"Location", "/a"}, want: 301},
			{path: "/c", stored: true, want: 301, has: []string{"Location", "/a"}},
			{path: "/d", status: 500, body: "1", want: 500},
			{path: "/d", stored: true, gets: "1", want: 500},
			{path: "/e", status: 204, want: 204},
			{path: "/e", status: 204, want: 204},
		}},
		"overrides do not reach the service": {block: "http_cache 60s", scenes: []scene{
			{
				send:     []string{"X-Original-URL", "/admin", "X-HTTP-Method-Override", "POST", "X-Rewrite-Url", "/x", "X-Forwarded-Prefix", "/evil", "Forwarded", "host=evil.test", "X-Forwarded-Port", "1"},
				receives: []string{"X-Original-Url", "-", "X-Http-Method-Override", "-", "X-Rewrite-Url", "-", "X-Forwarded-Prefix", "-", "Forwarded", "-", "X-Forwarded-Port", "-"}, body: "1",
			},
			{stored: true, gets: "1"},
			{
				path: "/who", send: []string{"X-Forwarded-Uri", "/admin", "X-Forwarded-Anything", "1", "X-Original-Host", "evil.test", "X-Real-IP", "127.0.0.1", "CF-Connecting-IP", "127.0.0.1", "Front-End-Https", "on"},
				receives: []string{"X-Forwarded-Uri", "-", "X-Forwarded-Anything", "-", "X-Original-Host", "-", "X-Real-Ip", "-", "Cf-Connecting-Ip", "-", "Front-End-Https", "-"}, body: "1",
			},
			{path: "/who", stored: true, gets: "1"},
			// A field that names the user is a credential.
			{path: "/user", send: []string{"X-Forwarded-Groups", "admin"}, receives: []string{"X-Forwarded-Groups", "admin"}, body: "1"},
			{path: "/user", body: "2"},
		}},
		"queries": {block: "http_cache 60s {\n key {\n query deny utm_* fbclid\n query sort\n}\n}", scenes: []scene{
			{path: "/?b=2&a=1&utm_x=3", body: "1"},
			{path: "/?a=1&fbclid=9&b=2", stored: true, gets: "1"},
			{path: "/?a=2&b=2", body: "2"},
		}},
		"queries of which nothing is left": {block: "http_cache 60s {\n key {\n query deny utm_*\n}\n}", scenes: []scene{
			{path: "/a?utm_x=1", body: "1"},
			{path: "/a", stored: true, gets: "1"},
			{path: "/a?utm_y=2&utm_z", stored: true, gets: "1"},
			{path: "/b", body: "2"},
			{path: "/b?utm_x=1", stored: true, gets: "2"},
			{path: "/b?", body: "3"},
			{path: "/b?x=1", body: "4"},
		}},
		"query allow": {block: "http_cache 60s {\n key {\n query allow page\n}\n}", scenes: []scene{
			{path: "/?page=1&x=2", body: "1"}, {path: "/?y=3&page=1", stored: true, gets: "1"}, {path: "/?page=2", body: "2"},
		}},
		"key options": {block: "http_cache 60s {\n key {\n header X-Tenant\n cookie lang\n}\n}", scenes: []scene{
			{send: []string{"X-Tenant", "a"}, body: "a"},
			{send: []string{"X-Tenant", "b"}, body: "b"},
			{send: []string{"X-Tenant", "a", "Cookie", "lang=de"}, body: "de"},
			{send: []string{"X-Tenant", "a", "Cookie", "x=1; lang=de"}, stored: true, gets: "de"},
			{send: []string{"X-Tenant", "a"}, stored: true, gets: "a"},
		}},
		"content that disagrees with its path": {block: "http_cache 60s {\n match_type\n}", scenes: []scene{
			{path: "/me/x.css", says: []string{"Content-Type", "text/html"}, body: "1"},
			{path: "/me/x.css", says: []string{"Content-Type", "text/css"}, body: "2"},
			{path: "/me/x.css", stored: true, gets: "2"},
		}},
		"bypass": {block: "http_cache 60s {\n bypass {\n path /live/*\n}\n}", scenes: []scene{
			{path: "/live/a", body: "1", has: []string{"Cache-Status", "tentagate; fwd=bypass; detail=matcher"}},
			{path: "/live/a", body: "2"},
			{path: "/a", body: "1"},
			{path: "/a", stored: true, gets: "1"},
		}},
		"hosts": {block: "http_cache 60s {\n hosts other.test\n}", scenes: []scene{{body: "1"}, {body: "2"}}},
		"the age adds up": {scenes: []scene{
			{says: []string{"Cache-Control", fresh, "Age", "100"}, body: "1"},
			{stored: true, gets: "1", has: []string{"Age", "100"}},
		}},
		"what others said in Cache-Status": {scenes: []scene{
			{says: []string{"Cache-Control", fresh, "Cache-Status", "origin; hit"}, body: "1", has: []string{"Cache-Status", "origin; hit|tentagate; fwd=uri-miss; fwd-status=200; stored"}},
			{stored: true, gets: "1", has: []string{"Cache-Status", "origin; hit|tentagate; hit; ttl=599"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.block == "" {
				tc.block = "http_cache"
			}
			var now scene
			var receives http.Header
			s := startSite(t, tc.block, func(w http.ResponseWriter, r *http.Request, _ int64) {
				receives = r.Header.Clone()
				for i := 0; i+1 < len(now.says); i += 2 {
					w.Header().Add(now.says[i], now.says[i+1])
				}
				w.WriteHeader(or(now.status, 200))
				_, _ = io.WriteString(w, now.body)
			})
			for i, sc := range tc.scenes {
				now, receives = sc, nil
				before := s.asked.Load()
				resp, body, err := s.do(orText(sc.method, "GET"), orText(sc.path, "/"), sc.send...)
				if err != nil {
					t.Fatalf("scene %d: %v", i, err)
				}
				what := fmt.Sprintf("scene %d: %d %q %v", i, resp.StatusCode, body, resp.Header)
				if asked := s.asked.Load() - before; (asked == 0) != sc.stored {
					t.Errorf("%s: the service was asked %d times", what, asked)
				}
				if name == "a 304 about something else" && i == 1 {
					continue
				}
				want := or(sc.want, 200)
				if sc.want == 0 && sc.status >= 400 && sc.gets == "" {
					want = sc.status
				}
				gets := sc.gets
				if gets == "" && !sc.stored && sc.method != "HEAD" && want != 304 {
					gets = sc.body
				}
				if resp.StatusCode != want || gets != "*" && body != gets {
					t.Errorf("%s: want %d %q", what, want, gets)
				}
				for j := 0; j+1 < len(sc.has); j += 2 {
					if got := strings.Join(resp.Header.Values(sc.has[j]), "|"); got != sc.has[j+1] && !(strings.HasPrefix(sc.has[j+1], "origin; hit|tentagate; hit") && strings.HasPrefix(got, "origin; hit|tentagate; hit; ttl=")) {
						t.Errorf("%s: %s is %q, want %q", what, sc.has[j], got, sc.has[j+1])
					}
				}
				for j := 0; j+1 < len(sc.receives); j += 2 {
					want := sc.receives[j+1]
					if want == "-" {
						want = ""
					}
					if got := receives.Get(sc.receives[j]); got != want {
						t.Errorf("%s: the service gets %s %q, want %q", what, sc.receives[j], got, want)
					}
				}
			}
		})
	}
}

func or(a, b int) int {
	if a == 0 {
		return b
	}
	return a
}

func orText(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
