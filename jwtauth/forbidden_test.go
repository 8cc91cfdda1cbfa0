package jwtauth

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// A refusal of a good token says what it lacks, and nothing of what it has nor
// of the values that the operator keeps for himself.
func TestForbiddenNamesWhatIsMissing(t *testing.T) {
	claims := jwt.MapClaims{"sub": "private-ann", "scope": "private-read", "roles": []string{"private-role"}, "tenant": "private-tenant", "realm_access": map[string]any{"roles": []string{"private-deep"}}}
	for _, tc := range []struct{ options, scope, detail string }{
		{"scopes any write", `, scope="write"`, "it needs the scope write"},
		{"scopes any write admin", `, scope="write admin"`, "it needs one of the scopes write, admin"},
		{"scopes all private-read write", `, scope="private-read write"`, "it needs all of the scopes private-read, write"},
		{"scopes any private-read\n scopes any write", `, scope="write"`, "it needs the scope write"},
		{"roles any admin", "", "it needs the role admin"},
		{"roles any admin editor", "", "it needs one of the roles admin, editor"},
		{"roles all admin editor", "", "it needs all of the roles admin, editor"},
		{"require tenant acme", "", "it needs an accepted value in the claim tenant"},
		{"require org.id", "", "it needs an accepted value in the claim org.id"},
		{"require tenant acme\n realm shop", "", "it needs an accepted value in the claim tenant"},
	} {
		for _, warm := range []string{"", "\n token_cache off"} {
			w, seen := ask(t, "jwt_auth "+secret+" {\n "+tc.options+warm+"\n}", bearer(mint(t, secret, claims)))
			realm := "api"
			if strings.Contains(tc.options, "realm") {
				realm = "shop"
			}
			if want := `Bearer realm="` + realm + `", error="insufficient_scope"` + tc.scope; w.Header().Get("WWW-Authenticate") != want {
				t.Errorf("%s: %q, want %q", tc.options, w.Header().Get("WWW-Authenticate"), want)
			}
			var body struct {
				Status         int
				Title, Detail  string
				Type, Instance string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != http.StatusForbidden || seen != nil ||
				body.Status != 403 || !strings.HasSuffix(body.Detail, tc.detail) || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %v %s", tc.options, w.Code, w.Header(), w.Body)
			}
			all := strings.ReplaceAll(w.Header().Get("WWW-Authenticate")+w.Body.String(), "private-read, write", "")
			all = strings.ReplaceAll(all, "private-read write", "")
			if strings.Contains(all, "private") || strings.Contains(all, "acme") {
				t.Errorf("%s: it discloses too much: %s", tc.options, all)
			}
		}
	}
}
