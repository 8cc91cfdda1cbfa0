package caddyfile_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// named is a handler that adds its name to the field Passed.
func named(name string) string {
	return fmt.Sprintf(`{"handler": "headers", "response": {"add": {"Passed": [%q]}}}`, name)
}

const answers = `{"handler": "static_response", "status_code": 204}`

func serverOf(t *testing.T, routes, logs string) http.Handler {
	t.Helper()
	handler, err := servertest.LoadJSON(t, fmt.Appendf(nil,
		`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"writer": {"output": "discard"}}}}, "apps": {"http": {"servers": {"a": {"listen": [":80"], "automatic_https": {"disable": true}, %s "routes": %s}}}}}`, logs, routes))
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func get(handler http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// The routes of path_routes and services do what those of a subroute do.
func TestCompiledRoutes(t *testing.T) {
	routes := fmt.Sprintf(`[{"match": [{"method": ["POST"]}], "handle": [%s, %s]}, {"handle": [%s]},
		{"match": [{"path": ["*/end"]}], "handle": [%s]}, {"handle": [%s, %s, %s]}]`,
		named("post"), named("post2"), named("all"), answers, named("rest"), answers, named("never"))
	grouped := strings.ReplaceAll(routes, `"handle"`, `"group": "g", "handle"`)
	terminal := strings.ReplaceAll(routes, `"handle"`, `"terminal": true, "handle"`)
	for _, list := range []string{routes, grouped, terminal} {
		for _, logs := range []string{"", `"logs": {"trace": true},`} {
			want := serverOf(t, fmt.Sprintf(`[{"match": [{"path": ["/x/*"]}], "terminal": true, "handle": [{"handler": "subroute", "routes": %s}]}, {"handle": [%s]}]`, list, named("behind")), logs)
			for name, got := range map[string]http.Handler{
				"path_routes": serverOf(t, fmt.Sprintf(`[{"handle": [{"handler": "path_routes", "path": "/X/", "routes": %s}, %s]}]`, list, named("behind")), logs),
				"services":    serverOf(t, fmt.Sprintf(`[{"match": [{"path": ["/x/*"]}], "handle": [{"handler": "services", "path": "/", "services": {"X": %s}}]}, {"handle": [%s]}]`, list, named("behind")), logs),
			} {
				for _, request := range [][2]string{{"GET", "/x/y"}, {"POST", "/x/y"}, {"GET", "/x/end"}, {"POST", "/X//end"}, {"GET", "/./x/end"}, {"GET", "/y/x"}, {"GET", "/x"}} {
					a, b := get(want, request[0], request[1]), get(got, request[0], request[1])
					if a.Code != b.Code || fmt.Sprint(a.Header()) != fmt.Sprint(b.Header()) {
						t.Errorf("%s %v: %d %v, a subroute has %d %v", name, request, b.Code, b.Header(), a.Code, a.Header())
					}
				}
			}
		}
	}
}

func TestServicesByName(t *testing.T) {
	handler := serverOf(t, fmt.Sprintf(`[{"handle": [{"handler": "services", "path": "/API/", "services": {"Users": [{"handle": [%s, %s]}], "a.b-c_1": [{"handle": [%s]}], "token": [{"handle": [%s]}]}}]}]`, named("users"), answers, answers, answers), "")
	for target, want := range map[string]int{
		"/api/users": 204, "/api/users/": 204, "/api/users/x": 204, "/API/USERS/X": 204, "/api//users": 204, "/api/x/../users": 204, "/api/%75sers": 204, "/api/a.b-c_1/x": 204,
		"/api/to%E2%84%AAen": 404, "/api/u%C5%BFers": 404, "/api/token": 204, "/api/TOKEN": 204,
		"/api/": 404, "/api": 404, "/": 404, "/users": 404, "/api/usersx": 404, "/api/user": 404, "/apis/users": 404, "/api/a.b": 404,
	} {
		if w := get(handler, "GET", target); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

func TestServicesRefused(t *testing.T) {
	for routes, want := range map[string]string{
		`{"handler": "path_routes"}`:                                                     `path ""`,
		`{"handler": "path_routes", "path": "/x"}`:                                       `path "/x"`,
		`{"handler": "services", "path": "x/"}`:                                          `path "x/"`,
		`{"handler": "services", "path": "/", "services": {"a": [], "A": []}}`:           "case",
		`{"handler": "services", "path": "/", "services": {"a/b": []}}`:                  "service name",
		`{"handler": "services", "path": "/", "services": {"a": [{"handle": [{}]}]}}`:    "service a",
		`{"handler": "path_routes", "path": "/x/", "routes": [{"match": [{"no": {}}]}]}`: "http.matchers.no",
	} {
		_, err := servertest.LoadJSON(t, fmt.Appendf(nil, `{"admin": {"disabled": true}, "apps": {"http": {"servers": {"a": {"listen": [":80"], "routes": [{"handle": [%s]}]}}}}}`, routes))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", routes, err)
		}
	}
}

// What bounds bodies is left out where there is none.
func TestHasBody(t *testing.T) {
	handler := serverOf(t, fmt.Sprintf(`[{"match": [{"has_body": {}}], "handle": [%s]}, {"handle": [%s]}]`, named("body"), answers), "")
	for length, want := range map[int64]string{0: "", 1: "body", -1: "body"} {
		r, w := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")), httptest.NewRecorder()
		r.ContentLength = length
		if handler.ServeHTTP(w, r); w.Header().Get("Passed") != want {
			t.Errorf("%d bytes: %q", length, w.Header().Get("Passed"))
		}
	}
}
