package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Caddy strips the prefix of a service in any spelling, so all spellings are one
// resource: a write to one of them invalidates what is stored for the others, and
// their responses are shared.
func TestSpellingsOfOneService(t *testing.T) {
	backend, hits := echo(t)
	for form, cache := range map[string]string{"as it is": "", "off": "cache {\n\t\t\tinvalidate_on_write off\n\t\t}"} {
		g := services(t, strings.Replace(fullChain, "1000000/1m", "1000000/1m\n\t\t"+cache, 1), map[string]string{"users": backend.URL})
		bearer := "Bearer " + token(t, "ann")
		asked := func(method, path string) bool {
			before := hits.Load()
			if a := g.send(method, path, "", "Authorization", bearer); a.status != 200 {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
			return hits.Load() > before
		}
		for i, write := range []string{"/api/Users/%d", "/API/USERS/%d", "/api/%%75sers/%d", "/api//users/%d", "/api/users/%d"} {
			path := fmt.Sprintf("/api/users/%d", i)
			if !asked(http.MethodGet, path) || asked(http.MethodGet, path) {
				t.Errorf("%s: it is not stored", path)
			}
			asked(http.MethodPut, fmt.Sprintf(write, i))
			if !asked(http.MethodGet, path) {
				t.Errorf("%s: %s is still stored behind a write", form, path)
			}
			if asked(http.MethodGet, "/api/USERS/"+fmt.Sprint(i)) {
				t.Errorf("%s: another spelling is another resource", form)
			}
		}
	}
}
