package caddyfile_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
)

// The gateway shows the documents of its services as one, to private networks unless
// the option docs says otherwise, and asks a service when somebody reads them.
func TestDocs(t *testing.T) {
	asked := 0
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/spec.json" {
			http.NotFound(w, r)
			return
		}
		asked++
		fmt.Fprint(w, `{"openapi":"3.1.0","info":{"title":"Users","version":"1"},"paths":{"/items/{id}":{"get":{"responses":{"200":{"description":"ok"}}}}}}`)
	}))
	defer service.Close()
	site := func(docs string) http.Handler {
		return servertest.Handler(t, fmt.Sprintf(`:80 {
			tentagate {
				jwt off
				service docs-users %s/v2
				%s
			}
		}`, service.URL, docs))
	}
	get := func(h http.Handler, path, client string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.RemoteAddr = client + ":1234"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const inside, outside = "10.0.0.1", "192.0.2.1"

	private := site("docs {\n title Shop\n service docs-users {\n spec_path /spec.json\n }\n }")
	if asked != 0 {
		t.Error("the service was asked before somebody read the documents")
	}
	if code, text := get(private, "/openapi.json", inside); code != http.StatusOK || !strings.Contains(text, "/api/docs-users/items/{id}") || !strings.Contains(text, `"Shop"`) {
		t.Errorf("from inside: %d %s", code, text)
	}
	for path, want := range map[string]int{"/docs": http.StatusOK, "/openapi.yaml": http.StatusOK, "/docs/nothing": http.StatusNotFound} {
		if code, _ := get(private, path, inside); code != want {
			t.Errorf("%s from inside: %d, want %d", path, code, want)
		}
		if code, _ := get(private, path, outside); code != http.StatusNotFound {
			t.Errorf("%s from outside: %d, want 404", path, code)
		}
	}
	public := site("docs any")
	if code, _ := get(public, "/docs", outside); code != http.StatusOK {
		t.Errorf("docs any from outside: %d", code)
	}
	if _, text := get(public, "/", outside); !strings.Contains(text, `"docs":"/docs"`) {
		t.Errorf("the welcome page has no link: %s", text)
	}
	if _, text := get(site("docs any {\n ui off\n }"), "/", outside); strings.Contains(text, `"docs"`) {
		t.Errorf("the welcome page has a link to a page that is off: %s", text)
	}
	if code, _ := get(site("docs off"), "/docs", inside); code != http.StatusNotFound {
		t.Errorf("docs off: %d", code)
	}
	for docs, want := range map[string]string{
		"docs {\n service other {\n spec_path /x\n }\n }": "docs: service other: the gateway has no such service",
		"docs {\n service docs-users http://a\n }":        "docs: service docs-users: it takes no address",
		"docs nowhere":                   "docs",
		"docs {\n prefix /x/\n }":        "docs: prefix: the services are at /api/",
		"docs {\n ask_token\n }":         "docs: ask_token: jwt is off",
		"docs {\n ui /Metrics\n }":       `docs: ui: "/Metrics" is the path of the metrics`,
		"docs {\n json /livez\n }":       `docs: json: "/livez" is the path of health`,
		"health {\n path /docs\n }":      `docs: ui: "/docs" is the path of health`,
		"docs {\n yaml /api/other/x\n }": `docs: yaml: "/api/other/x" is below /api/`,
	} {
		_, err := servertest.Load(t, fmt.Sprintf(":80 {\n tentagate {\n jwt off\n service docs-users %s\n %s\n }\n }", service.URL, docs))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", docs, err, want)
		}
	}
}

// Documents that need a token, or show more to some clients, are behind jwt_auth.
func TestDocsWithToken(t *testing.T) {
	const secret = "vmoe3ueFiR2dlYmy1vtlgHYkG5uZlDkR"
	site := func(docs string) http.Handler {
		return servertest.Handler(t, fmt.Sprintf(`:80 {
			@staff jwt_claim role staff
			tentagate {
				jwt %s
				service token-users http://127.0.0.1:1
				service token-orders http://127.0.0.1:1
				docs any {
					%s
				}
			}
		}`, secret, docs))
	}
	get := func(h http.Handler, path, token string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	staff, other := token(t, secret, `"role":"staff"`), token(t, secret, `"role":"none"`)
	asking := site("ask_token")
	for path, want := range map[string]int{"/docs": http.StatusOK, "/docs/init.js": http.StatusOK, "/openapi.json": http.StatusUnauthorized, "/openapi.yaml": http.StatusUnauthorized} {
		if code, _ := get(asking, path, ""); code != want {
			t.Errorf("%s without a token: %d, want %d", path, code, want)
		}
		if code, _ := get(asking, path, other); code != http.StatusOK {
			t.Errorf("%s with a token: %d", path, code)
		}
	}
	partly := site("service token-orders {\n visible_to @staff\n }")
	for client, want := range map[string]bool{"": false, other: false, staff: true} {
		code, text := get(partly, "/openapi.json", client)
		if code != http.StatusOK || strings.Contains(text, "token-orders") != want || !strings.Contains(text, "token-users") {
			t.Errorf("visible_to: %d, want the service: %v: %s", code, want, text)
		}
	}
}

// token returns a token with the claims.
func token(t *testing.T, secret, claims string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(fmt.Sprintf(`{"sub":"a","exp":%d,%s}`, time.Now().Add(time.Hour).Unix(), claims)))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}
