package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The cache drops what a client sent and could change the answer for others, and
// nothing that handlers set; what differs by such a field is not shared.
func TestFieldsThatReachTheService(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("X-Heard", r.Header.Get("X-Forwarded-Prefix")+"|"+r.Header.Get("X-Http-Method-Override"))
	}))
	defer service.Close()
	g := start(t, strings.ReplaceAll(`{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	handle /plain* {
		http_cache 60s
		reverse_proxy SERVICE
	}
	handle /prefix* {
		request_header X-Forwarded-Prefix /shop
		http_cache 60s
		reverse_proxy SERVICE
	}
	handle /tenant* {
		request_header X-Forwarded-Prefix {query.tenant}
		http_cache 60s {
			key {
				query allow page
			}
		}
		reverse_proxy SERVICE
	}
	handle /added* {
		request_header +X-HTTP-Method-Override PATCH
		http_cache 60s
		reverse_proxy SERVICE
	}
	handle /kept* {
		guard {
			keep_overrides
		}
		http_cache 60s
		reverse_proxy SERVICE
	}
}
`, "SERVICE", strings.TrimPrefix(service.URL, "http://")))
	const prefix, override = "X-Forwarded-Prefix", "X-HTTP-Method-Override"
	for _, tc := range []struct {
		method, path string
		fields       []string
		heard        string
		hit          bool
	}{
		{"GET", "/plain", []string{prefix, "/evil", override, "DELETE"}, "|", false},
		{"GET", "/plain", nil, "|", true},
		{"GET", "/plain?2", nil, "|", false},
		{"GET", "/plain?2", []string{prefix, "/evil", override, "DELETE"}, "|", true},
		{"POST", "/plain?3", []string{override, "PUT"}, "|PUT", false},
		{"GET", "/prefix", nil, "/shop|", false},
		{"GET", "/prefix", []string{prefix, "/evil"}, "/shop|", true},
		{"HEAD", "/prefix?2", nil, "/shop|", false},
		{"POST", "/prefix", nil, "/shop|", false},
		{"PUT", "/prefix", nil, "/shop|", false},
		{"GET", "/tenant?tenant=a", nil, "a|", false},
		{"GET", "/tenant?tenant=b", nil, "b|", false},
		{"GET", "/tenant?tenant=a", nil, "a|", true},
		{"GET", "/added", nil, "|PATCH", false},
		{"GET", "/added", nil, "|PATCH", true},
		{"POST", "/added", nil, "|PATCH", false},
		{"POST", "/kept", []string{override, "PUT"}, "|PUT", false},
		{"GET", "/kept", []string{override, "DELETE"}, "|", false},
		{"GET", "/kept", nil, "|", true},
	} {
		a := g.send(tc.method, tc.path, "", tc.fields...)
		hit := strings.Contains(a.header.Get("Cache-Status"), "; hit")
		if a.status != 200 || a.header.Get("X-Heard") != tc.heard || hit != tc.hit {
			t.Errorf("%s %s %v: %d, heard %q, hit %v; want %q, %v", tc.method, tc.path, tc.fields, a.status, a.header.Get("X-Heard"), hit, tc.heard, tc.hit)
		}
	}
}

// What jwt_auth forwards is the gateway's, whatever it is called: it reaches the
// service, also with a QUERY, and what a client sends of it does not.
func TestForwardedFieldsReachTheService(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Heard", r.Header.Get("X-Forwarded-Prefix")+"|"+r.Header.Get("X-Original-Url")+"|"+r.Header.Get("X-Forwarded-Port")+"|"+string(body))
	}))
	defer service.Close()
	g := start(t, strings.ReplaceAll(`{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	jwt_auth `+secret+` {
		optional
		forward sub X-Forwarded-Prefix
		forward sub X-Original-URL
	}
	http_cache 60s {
		key {
			body
		}
	}
	reverse_proxy SERVICE
}
`, "SERVICE", strings.TrimPrefix(service.URL, "http://")))
	ann, bob := []string{"Authorization", "Bearer " + token(t, "ann")}, []string{"Authorization", "Bearer " + token(t, "bob")}
	evil := []string{"X-Forwarded-Prefix", "evil", "x_forwarded_prefix", "evil", "X-Original-URL", "/evil", "X-Forwarded-Port", "1"}
	for i, tc := range []struct {
		method, body string
		fields       []string
		heard        string
		hit          bool
	}{
		{"GET", "", ann, "ann|ann||", false},
		{"GET", "", append(evil, ann...), "ann|ann||", true},
		{"GET", "", bob, "bob|bob||", false},
		{"GET", "", evil, "|||", false},
		{"GET", "", nil, "|||", true},
		{"QUERY", "a", ann, "ann|ann||a", false},
		{"QUERY", "a", append(evil, ann...), "ann|ann||a", true},
		{"QUERY", "b", ann, "ann|ann||b", false},
		{"QUERY", "a", bob, "bob|bob||a", false},
		{"QUERY", "a", evil, "|||a", false},
		{"POST", "a", ann, "ann|ann||a", false},
	} {
		a := g.send(tc.method, "/", tc.body, tc.fields...)
		hit := strings.Contains(a.header.Get("Cache-Status"), "; hit")
		if a.status != 200 || a.header.Get("X-Heard") != tc.heard || hit != tc.hit {
			t.Errorf("%d: %s %q: %d, heard %q, hit %v; want %q, %v", i, tc.method, tc.body, a.status, a.header.Get("X-Heard"), hit, tc.heard, tc.hit)
		}
	}
}
