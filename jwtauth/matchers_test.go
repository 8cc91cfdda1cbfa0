package jwtauth

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

func TestMatchers(t *testing.T) {
	gateway := servertest.New(t, `:80 {
	@early jwt_claim plan gold
	route {
		respond @early early
		jwt_auth `+secret+` {
			optional
		}
		@gold jwt_claim plan gold silver
		@both {
			jwt_claim org.id 7
			jwt_claim plan
		}
		@write jwt_scope write admin
		respond @gold gold
		respond @both both
		respond @write write
		respond "none {http.vars.tentagate.jwt_auth.verified}."
	}
}`)
	for _, tc := range []struct {
		claims jwt.MapClaims
		want   string
	}{
		{jwt.MapClaims{"plan": "gold"}, "gold"},
		{jwt.MapClaims{"plan": "silver"}, "gold"},
		{jwt.MapClaims{"plan": "tin"}, "none ."},
		{jwt.MapClaims{"plan": "tin", "org": map[string]any{"id": 7}}, "both"},
		{jwt.MapClaims{"org": map[string]any{"id": 7}}, "none ."},
		{jwt.MapClaims{"scope": "read write"}, "write"},
		{jwt.MapClaims{"scp": []string{"admin"}}, "write"},
		{jwt.MapClaims{"scope": "writer"}, "none ."},
		{nil, "none ."},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.claims != nil {
			bearer(mint(t, secret, tc.claims))(req)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != tc.want {
			t.Errorf("%v: %d %q, want %q", tc.claims, resp.StatusCode, body, tc.want)
		}
	}
	for _, m := range []interface{ Validate() error }{&MatchClaim{}, &MatchClaim{{}}, &MatchScope{}, &MatchScope{{}}} {
		if m.Validate() == nil {
			t.Errorf("%T %v is accepted", m, m)
		}
	}
}

func TestRolesOfARoute(t *testing.T) {
	for _, tc := range []struct {
		options string
		claims  jwt.MapClaims
		status  int
	}{
		{"roles any admin editor", jwt.MapClaims{"roles": []string{"editor"}}, 200},
		{"roles all admin editor", jwt.MapClaims{"roles": []string{"editor"}}, 403},
		{"roles any admin", jwt.MapClaims{"realm_access": map[string]any{"roles": []string{"admin"}}}, 200},
		{"roles any admin", jwt.MapClaims{"groups": []string{"admin"}}, 403},
		{"roles any admin\n roles_claim groups", jwt.MapClaims{"groups": []string{"admin"}}, 200},
		{"roles any a\n roles any b", jwt.MapClaims{"roles": []string{"a"}}, 403},
	} {
		w, seen := ask(t, "jwt_auth "+secret+" {\n "+tc.options+"\n}", bearer(mint(t, secret, tc.claims)))
		if w.Code != tc.status || (seen != nil) != (tc.status == 200) || tc.status == 403 && w.Header().Get("WWW-Authenticate") != `Bearer realm="api", error="insufficient_scope"` {
			t.Errorf("%s, %v: %d %v", tc.options, tc.claims, w.Code, w.Header())
		}
	}
}

// What is not the token arrives as the client wrote it.
func TestStripLeavesTheRest(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{})
	for given, want := range map[string]string{
		"t=T": "", "a=1&t=T": "a=1", "t=T&a=1": "a=1", "a=%2f+%20&&t=T&b;c=%zz&": "a=%2f+%20&&b;c=%zz&",
		"a;t=T": "a", "t=T;a": "a", "&a;;t=T;": "&a;;",
		"%74=T&a": "a", "T=1&tt=2&t=T": "T=1&tt=2",
	} {
		_, seen := ask(t, "jwt_auth "+secret+" {\n strip_token\n sources query:t\n}", func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(given, "=T", "="+good, 1)
			if strings.HasPrefix(given, "T=1") {
				r.URL.RawQuery = "T=1&tt=2&t=" + good
			}
		})
		if seen == nil || seen.URL.RawQuery != want {
			t.Errorf("query %q: %v, want %q", given, seen, want)
		}
	}
	for given, want := range map[string]string{
		"t=*": "", `a="q r"; t=*; b=x,y`: `a="q r"; b=x,y`, "t=*;a=1;  b": "a=1;  b", "a=1;t=*": "a=1", "bad name=é; t=*; tt=1; a=1; a=2": "bad name=é; tt=1; a=1; a=2",
	} {
		_, seen := ask(t, "jwt_auth "+secret+" {\n strip_token\n sources cookie:t\n}", func(r *http.Request) {
			r.Header["Cookie"] = []string{strings.Replace(given, "*", good, 1), "z = 1"}
		})
		if seen == nil {
			t.Errorf("cookies %q: refused", given)
			continue
		}
		if got := strings.Join(seen.Header["Cookie"], "|"); got != strings.TrimPrefix(want+"|z = 1", "|") {
			t.Errorf("cookies %q: %q, want %q", given, got, want)
		}
	}
}

// Two tokens are refused however the second one is written: a service may use the one
// that was not verified.
func TestSeveralTokens(t *testing.T) {
	good, forged := mint(t, secret, jwt.MapClaims{"sub": "ann"}), "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."
	for _, query := range []string{"t=T&t=F", "t=T;t=F", "t=T&a=1;t=F", "t=T&%74=F", "t=T&t=F%zz", "a=%zz&t=F&t=T", "t=F&t=T", "t=T&b;t=F"} {
		w, seen := ask(t, "jwt_auth "+secret+" {\n sources query:t\n}", func(r *http.Request) {
			r.URL.RawQuery = strings.NewReplacer("T", good, "F", forged).Replace(query)
		})
		if w.Code != http.StatusBadRequest || seen != nil {
			t.Errorf("query %s: %d", query, w.Code)
		}
	}
	for _, cookie := range []string{"t=*; t=F", "t=*; t=\"F", "t=*; t=F\"", "t=*;t=F\\", "t =F; t=*", "t=F\xfc; t=*", "t=*; t={\"a\":\"F\"}"} {
		w, seen := ask(t, "jwt_auth "+secret+" {\n sources cookie:t\n}", func(r *http.Request) {
			r.Header["Cookie"] = []string{strings.NewReplacer("*", good, "F", forged).Replace(cookie)}
		})
		if w.Code != http.StatusBadRequest || seen != nil {
			t.Errorf("cookies %s: %d", cookie, w.Code)
		}
	}
	w, seen := ask(t, "jwt_auth "+secret+" {\n sources cookie:t\n}", func(r *http.Request) { r.Header["Cookie"] = []string{`t="` + good + `"; T=x; tt=y`} })
	if w.Code != http.StatusOK || seen == nil {
		t.Errorf("a token in quotes: %d", w.Code)
	}
}
