package rediscache

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
)

// After a write the user who wrote gets nothing that was stored before of what
// the option names, and nobody else loses anything.
func TestInvalidateOnWrite(t *testing.T) {
	const perUser = "\n key {\n per_user\n}\n}"
	paths := []string{"/", "/api", "/api/orders", "/api/orders?page=2", "/api/orders/", "/api/%6frders?x", "/api/orders/5", "/api/orders/5?full", "/api/orders/6", "/api/users", "/api/orders/5/cancel/log"}
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	in := func(list ...string) func(string) bool {
		return func(path string) bool {
			return slices.Contains(list, path)
		}
	}
	above := in(paths[:8]...)
	orders := func(path string) bool { return path != "/" && path != "/api" && path != "/api/users" }
	for name, tc := range map[string]struct {
		option, method string
		status         int
		dropped        func(path string) bool
	}{
		"off":                 {"", "POST", 200, none},
		"off, said":           {"invalidate_on_write off", "POST", 200, none},
		"above":               {"invalidate_on_write above", "POST", 200, above},
		"above, redirect":     {"invalidate_on_write above", "PATCH", 303, above},
		"above, unknown":      {"invalidate_on_write above", "FROB", 204, above},
		"segments":            {"invalidate_on_write segments 2", "DELETE", 204, orders},
		"segments, the first": {"invalidate_on_write segments 1", "PUT", 201, func(path string) bool { return path != "/" }},
		"all":                 {"invalidate_on_write all", "POST", 202, all},
		"an error":            {"invalidate_on_write all", "POST", 409, none},
		"a failure":           {"invalidate_on_write all", "POST", 500, none},
		"a safe method":       {"invalidate_on_write all", "QUERY", 200, none},
		"OPTIONS":             {"invalidate_on_write all", "OPTIONS", 200, none},
	} {
		for _, users := range [][]string{{"ann", "bob"}, {""}} {
			t.Run(fmt.Sprint(name, " ", len(users)), func(t *testing.T) {
				g := newGateway(t, "http_cache 60s {\n"+tc.option+perUser, func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet {
						w.WriteHeader(tc.status)
						return
					}
					_, _ = io.WriteString(w, "list")
				})
				send := func(user, method, path string) bool {
					fields := []string{"user", user}
					if user == "" {
						fields = nil
					}
					before := g.asked.Load()
					g.send(method, path, fields...)
					return g.asked.Load() > before
				}
				for _, user := range users {
					for _, path := range paths {
						send(user, "GET", path)
					}
				}
				send(users[0], tc.method, "/api/orders/5/cancel")
				for i, user := range users {
					for _, path := range paths {
						want := i == 0 && tc.dropped(path)
						if got := send(user, "GET", path); got != want {
							t.Errorf("%q %s: asked again %v, want %v", user, path, got, want)
						}
					}
				}
			})
		}
	}
}

// A user's write leaves what everybody shares: what is explicitly public is fresh
// as long as it says.
func TestUsersWriteLeavesShared(t *testing.T) {
	g := newGateway(t, "http_cache 60s {\n invalidate_on_write all\n key {\n per_user\n}\n}", says("Cache-Control", "public, max-age=60"))
	g.send("GET", "/list")
	g.send("POST", "/list/5", "user", "ann")
	g.send("GET", "/list", "user", "ann")
	if g.asked.Load() != 2 {
		t.Errorf("asked %d times", g.asked.Load())
	}
}
