package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A token that jwt_auth strips does not let a response for its user pass for one of a
// request without a token, where both invoke one named route.
func TestStrippedTokensAndNamedRoutes(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		fmt.Fprint(w, "plan "+r.Header.Get("X-Plan"))
	}))
	defer service.Close()
	for name, tc := range map[string]struct{ matcher, options, field, value string }{
		"Authorization": {"header Authorization *", "strip_token", "Authorization", "Bearer "},
		"cookie":        {"`{cookie.sid} != \"\"`", "strip_token\nsources cookie:sid", "Cookie", "sid="},
		"own field":     {"header X-Own-Token *", "strip_token\nsources header:X-Own-Token", "X-Own-Token", ""},
		"forwarded":     {"expression `!header({'X-Sub': '*'}) && header({'Authorization': '*'})`", "forward sub X-Sub", "Authorization", "Bearer "},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, strings.NewReplacer("SERVICE", strings.TrimPrefix(service.URL, "http://"), "MATCHER", tc.matcher, "OPTIONS", tc.options).Replace(`{
	admin $ADMIN
	auto_https off
}
&(app) {
	route {
		http_cache 60s
		reverse_proxy SERVICE
	}
}
http://$ADDR {
	@auth MATCHER
	handle @auth {
		jwt_auth `+secret+` {
			OPTIONS
		}
		request_header X-Plan paid
		invoke app
	}
	handle {
		invoke app
	}
}
`))
			if a := g.send("GET", "/", "", tc.field, tc.value+token(t, "ann")); a.body != "plan paid" {
				t.Fatalf("with a token: %d %s", a.status, a.body)
			}
			if a := g.send("GET", "/", ""); a.body != "plan " {
				t.Errorf("without a token: %d %s", a.status, a.body)
			}
		})
	}
}
