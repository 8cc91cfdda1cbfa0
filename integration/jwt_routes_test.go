package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/testkit"
)

// jwtRoutes has a route for each way in which jwt_auth can be configured.
const jwtRoutes = `{
	admin $ADMIN
	tentagate {
		jwt_provider main {
			secret {env.JWT_SECRET_KEY}
			issuer https://main.test
		}
		jwt_provider partner {
			secret {env.PARTNER_KEY}
			issuer https://partner.test
			audience shop
		}
	}
}
http://$ADDR {
	metrics /metrics
	handle /both {
		jwt_auth {
			provider main
			provider partner
		}
		respond "{http.auth.user.iss} {http.auth.user.id}"
	}
	handle /read {
		jwt_auth {
			provider main
			scopes any read
		}
		respond read
	}
	handle /a {
		jwt_auth {
			secret {env.JWT_SECRET_KEY}
			audience a
		}
		respond a
	}
	handle /b {
		jwt_auth {
			secret {env.JWT_SECRET_KEY}
			audience b
		}
		respond b
	}
	handle /places {
		jwt_auth {
			provider main
			sources cookie:t query:t header:X-Token
			strip_token
		}
		respond "{http.request.uri} {http.request.header.Cookie} {http.request.header.X-Token}"
	}
	handle /rotated {
		jwt_auth {file.$FILE}
		respond rotated
	}
	handle /api/* {
		jwt_auth {
			provider main
			resource_metadata {
				resource http://$ADDR/api
				authorization_servers https://main.test
			}
		}
		respond api
	}
	handle /.well-known/oauth-protected-resource/api {
		jwt_auth {
			provider main
			resource_metadata {
				resource https://a.test/api
				authorization_servers https://main.test
			}
		}
	}
	handle_errors {
		respond "{err.status_code} {http.auth.error.reason}"
	}
}
`

func TestJWTRoutes(t *testing.T) {
	const partner = "the-secret-of-a-partner-0123456789abcdef"
	file := filepath.Join(scratch, "rotated")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("$FILE", file, "http://$ADDR/api", "https://a.test/api").Replace(jwtRoutes)
	g := start(t, conf, "JWT_SECRET_KEY="+secret, "PARTNER_KEY="+partner)
	sign := func(key string, claims jwt.MapClaims) string {
		t.Helper()
		claims["exp"] = time.Now().Add(time.Hour).Unix()
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ask := func(path, text string, status int, body string) {
		t.Helper()
		var fields []string
		if text != "" {
			fields = []string{"Authorization", "Bearer " + text}
		}
		for range 3 {
			if a := g.get(path, fields...); a.status != status || a.body != body {
				t.Errorf("%s: %d %q, want %d %q", path, a.status, a.body, status, body)
			}
		}
	}
	ours, theirs := sign(secret, jwt.MapClaims{"iss": "https://main.test", "sub": "ann-the-subject", "scope": "read"}), sign(partner, jwt.MapClaims{"iss": "https://partner.test", "sub": "bob", "aud": "shop"})
	ask("/both", ours, 200, "https://main.test ann-the-subject")
	ask("/both", theirs, 200, "https://partner.test bob")
	ask("/both", sign(secret, jwt.MapClaims{"iss": "https://partner.test", "aud": "shop"}), 401, "401 signature")
	ask("/both", sign(partner, jwt.MapClaims{"iss": "https://partner.test"}), 401, "401 audience")
	ask("/both", sign(secret, jwt.MapClaims{"iss": "https://other.test"}), 401, "401 issuer")
	ask("/both", "", 401, "401 missing")
	ask("/read", ours, 200, "read")
	ask("/read", theirs, 401, "401 signature")
	ask("/read", sign(secret, jwt.MapClaims{"iss": "https://main.test", "scope": "reader"}), 403, "403 insufficient_scope")

	// One cache, two audiences.
	a := sign(secret, jwt.MapClaims{"aud": "a"})
	ask("/a", a, 200, "a")
	ask("/b", a, 401, "401 audience")
	ask("/a", a, 200, "a")
	ask("/a", sign(secret, jwt.MapClaims{"aud": []string{"b", "a"}}), 200, "a")

	for _, tc := range []struct {
		path, body string
		fields     []string
		status     int
	}{
		{"/places?x=1&t=" + ours + "&y=%2f", "/places?x=1&y=%2f  ", nil, 200},
		{"/places", "/places a=b; c=d ", []string{"Cookie", "a=b; t=" + ours + "; c=d"}, 200},
		{"/places", "/places  ", []string{"X-Token", ours}, 200},
		{"/places", "401 missing", []string{"Authorization", "Bearer " + ours}, 401},
		{"/places?t=" + ours, "400 several_tokens", []string{"X-Token", ours}, 400},
		{"/places?t=" + ours + "&t=" + ours, "400 several_tokens", nil, 400},
		{"/places", "400 several_tokens", []string{"Cookie", "t=" + ours + "; t=x"}, 400},
	} {
		if a := g.get(tc.path, tc.fields...); a.status != tc.status || a.body != tc.body {
			t.Errorf("%s %v: %d %q", tc.path, tc.fields, a.status, a.body)
		}
	}

	if a := g.get("/api/x"); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `resource_metadata="https://a.test/.well-known/oauth-protected-resource/api"`) {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := g.get("/.well-known/oauth-protected-resource/api"); a.status != 200 || !strings.Contains(a.body, `"authorization_servers":["https://main.test"]`) {
		t.Errorf("%d %s", a.status, a.body)
	}

	// A secret that a file brings is rotated without a reload.
	old, fresh := sign(secret, jwt.MapClaims{}), sign(partner, jwt.MapClaims{})
	ask("/rotated", old, 200, "rotated")
	ask("/rotated", fresh, 401, "401 signature")
	if err := os.WriteFile(file, []byte(partner+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the new secret", func() bool { return g.get("/rotated", "Authorization", "Bearer "+fresh).status == 200 })
	ask("/rotated", old, 401, "401 signature")

	// Series have names of the configuration only, and there is no secret in them.
	metrics := g.get("/metrics").body
	for _, series := range []string{
		`tentagate_jwt_verifications_total{outcome="ok",provider="main"} `, `tentagate_jwt_verifications_total{outcome="ok",provider="partner"} `, `tentagate_jwt_verifications_total{outcome="issuer",provider=""} 3`,
		`tentagate_jwt_verifications_total{outcome="insufficient_scope",provider="main"} 3`, `tentagate_jwt_token_cache_requests_total{result="hit"} `, `tentagate_jwt_token_cache_entries `, `tentagate_jwt_token_cache_evictions_total 0`,
	} {
		if !strings.Contains(metrics, series) {
			t.Errorf("no series %s", series)
		}
	}
	all := fmt.Sprint(metrics, g.log.String(), g.adminGet("/config/"))
	for _, hidden := range []string{secret, partner, ours, "ann-the-subject", strings.Split(ours, ".")[2]} {
		if strings.Contains(all, hidden) {
			t.Errorf("%q is in the metrics", hidden)
		}
	}
}
