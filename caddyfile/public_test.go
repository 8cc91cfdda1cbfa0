package caddyfile_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// However a path is spelled, what no token is needed for is what the service is
// then asked for: a protected path is never passed as the public one.
func TestSpellingsOfPublicPaths(t *testing.T) {
	backend := service(t)
	environment(t, "BACKEND_SERVICES=users="+backend.URL)
	for options, statuses := range map[string]map[string]int{
		"": {
			"/api/users/login":       200,
			"/api/users/LOGIN":       200,
			"/API/Users/login":       200,
			"/api/users/%6cogin":     200,
			"/api//users/login":      200,
			"/api/users//login":      200,
			"/api/users/login/":      401,
			"/api/users/login/x":     401,
			"/api/users/loginx":      401,
			"/api/users/login;x":     400,
			"/api/users/login%3bx":   400,
			"/api/users/login;/x":    400,
			"/api/users/%256cogin":   400,
			"/api/users/login/../x":  400,
			"/api/users/x/../login":  400,
			"/api/users/login%2f":    400,
			"/api/users/login%00":    400,
			"/api/users/x?/login":    401,
			"/api/users/open/../x":   400,
			"/api/users/open/..;/x":  400,
			"/api/users/open/%2e./x": 400,
		},
		"guard {\nallow_path_parameters\nallow_double_encoding\n}": {
			"/api/users/login;x":    401,
			"/api/users/login;/x":   401,
			"/api/users/%256cogin":  401,
			"/api/users/open/..;/x": 400,
		},
	} {
		gateway := servertest.New(t, ":80 {\ntentagate {\nratelimit off\npublic /api/users/login /api/users/open/*\n"+options+"\n}\n}").URL
		for target, want := range statuses {
			status, _, body := ask(t, gateway, "GET", target)
			if status != want {
				t.Errorf("%s %s: %d, want %d: %s", options, target, status, want, body)
			}
			var got seen
			if status == 200 && (json.Unmarshal([]byte(body), &got) != nil || !strings.EqualFold(strings.Replace(got.Target, "%6c", "l", 1), "/login")) {
				t.Errorf("%s: the service was asked for %s", target, got.Target)
			}
		}
	}
}

// A write shows in what its user reads next, above it too, and leaves what is
// kept for others.
func TestReadAfterWrite(t *testing.T) {
	var n atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n.Add(1))
	}))
	defer backend.Close()
	name := unique()
	environment(t, "BACKEND_SERVICES="+name+"="+backend.URL)
	gateway := servertest.New(t, ":80 {\ntentagate {\nratelimit off\n}\n}").URL
	read := func(user, path string) string {
		status, _, body := ask(t, gateway, "GET", "/api/"+name+path, "Authorization", bearer(t, user))
		if status != 200 {
			t.Errorf("%s %s: %d", user, path, status)
		}
		return body
	}
	for _, write := range []struct{ method, path string }{{"POST", "/orders/5/cancel"}, {"PUT", "/orders/5"}, {"DELETE", "/orders/5"}, {"PATCH", "/orders"}} {
		list, item, other := read("ann", "/orders?page=1"), read("ann", "/orders/5"), read("bob", "/orders?page=1")
		if read("ann", "/orders?page=1") != list || read("bob", "/orders?page=1") != other {
			t.Error("nothing is kept")
		}
		if status, _, _ := ask(t, gateway, write.method, "/api/"+name+write.path, "Authorization", bearer(t, "ann")); status != 200 {
			t.Errorf("%v: %d", write, status)
		}
		if read("ann", "/orders?page=1") == list || read("ann", "/orders/5") == item {
			t.Errorf("%v: ann reads what was before it", write)
		}
		if read("bob", "/orders?page=1") != other {
			t.Errorf("%v: what was kept for bob is gone", write)
		}
	}
}
