package jwtauth

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
)

// payload signs claims that are written as they are.
func payload(t testing.TB, members string) string {
	t.Helper()
	s := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
	return s.sign(t, s.header(), fmt.Sprintf(`{"exp":%d,%s}`, time.Now().Add(time.Hour).Unix(), members))
}

// Digits of a claim are the same everywhere: in a field, a requirement, a
// placeholder and a subject.
func TestDigitsOfClaims(t *testing.T) {
	block := "jwt_auth " + secret + " {\n numeric_sub\n require n 9007199254740993\n forward n X-N\n forward sub X-User\n forward n X-J json\n}"
	for _, tc := range []struct {
		n    string
		want int
	}{{"9007199254740993", 200}, {"9007199254740992", 403}, {"9007199254740994", 403}, {"9007199254740993.0", 200}, {"9007199254740993.5", 403}} {
		w, seen := ask(t, block, bearer(payload(t, `"sub":9007199254740993,"n":`+tc.n)))
		if w.Code != tc.want {
			t.Errorf("%s: %d", tc.n, w.Code)
		}
		if seen == nil {
			continue
		}
		id, _ := identity.From(seen)
		repl := seen.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		got := []string{seen.Header.Get("X-N"), seen.Header.Get("X-J"), repl.ReplaceKnown("{http.auth.user.n}", ""), seen.Header.Get("X-User"), id.Subject, repl.ReplaceKnown("{http.auth.user.id}", "")}
		want := []string{tc.n, tc.n, tc.n, "9007199254740993", "9007199254740993", "9007199254740993"}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q", tc.n, got)
		}
	}
	for sub, want := range map[string]int{`1`: 200, `-1`: 200, `"1"`: 200, `1.0`: 401, `1e3`: 401, `-0`: 401, `null`: 401, `true`: 401, `[1]`: 401} {
		if w, _ := ask(t, "jwt_auth "+secret+" {\n numeric_sub\n}", bearer(payload(t, `"sub":`+sub))); w.Code != want {
			t.Errorf("sub %s with numeric_sub: %d", sub, w.Code)
		}
		if w, _ := ask(t, "jwt_auth "+secret, bearer(payload(t, `"sub":`+sub))); (w.Code == 200) != (sub == `"1"`) {
			t.Errorf("sub %s: %d", sub, w.Code)
		}
	}
}

func TestForwardedLists(t *testing.T) {
	for _, tc := range []struct {
		groups, format string
		want           int
		field          string
	}{
		{`["a","b"]`, "", 200, "a,b"},
		{`["x,admin"]`, "", 401, ""},
		{`["a"," admin"]`, "", 401, ""},
		{`["a","x\nadmin"]`, "", 401, ""},
		{`"x,admin"`, "", 200, "x,admin"},
		{`{"a":1}`, "", 200, ""},
		{`null`, "", 200, ""},
		{`["x,admin","ä"]`, "json", 200, `["x,admin","\u00e4"]`},
		{`{"b":["c"],"a":9007199254740993}`, "json", 200, `{"a":9007199254740993,"b":["c"]}`},
		{`"a"`, "json", 200, `"a"`},
		{`["a\r\nX-Admin: 1"]`, "json", 200, `["a\r\nX-Admin: 1"]`},
		{`null`, "json", 200, ""},
	} {
		w, seen := ask(t, "jwt_auth "+secret+" {\n forward groups X-Groups "+tc.format+"\n}", bearer(payload(t, `"groups":`+tc.groups)))
		if w.Code != tc.want || seen != nil && seen.Header.Get("X-Groups") != tc.field {
			t.Errorf("%s %s: %d %q", tc.groups, tc.format, w.Code, seen.Header["X-Groups"])
		}
	}
}

// What is empty is no token, wherever tokens may stand but in the scheme
// Bearer, and a client without a token gets the accepted sources.
func TestEmptySourcesHaveNoToken(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{"sub": "ann"})
	block := "jwt_auth " + secret + " {\n sources header cookie:session query:access_token header:X-Token\n%s}"
	for name, set := range map[string]func(*http.Request){
		"cookie": func(r *http.Request) { r.Header.Set("Cookie", "session=") },
		"quotes": func(r *http.Request) { r.Header.Set("Cookie", `session=""`) },
		"query":  func(r *http.Request) { r.URL.RawQuery = "access_token=" },
		"name":   func(r *http.Request) { r.URL.RawQuery = "access_token" },
		"blank":  func(r *http.Request) { r.URL.RawQuery = "access_token=%20" },
		"field":  func(r *http.Request) { r.Header["X-Token"] = []string{""} },
		"all": func(r *http.Request) {
			r.Header.Set("Cookie", "session=; session=")
			r.URL.RawQuery = "access_token=&access_token="
		},
	} {
		w, _ := ask(t, fmt.Sprintf(block, ""), set)
		const where = "a token is required in the field Authorization with the scheme Bearer, the cookie session, the query parameter access_token or the field X-Token"
		if w.Code != 401 || strings.Contains(w.Header().Get("WWW-Authenticate"), "error") || !strings.Contains(w.Body.String(), where) {
			t.Errorf("%s: %d %q %s", name, w.Code, w.Header()["Www-Authenticate"], w.Body)
		}
		if w, seen := ask(t, fmt.Sprintf(block, "optional\n"), set); w.Code != 200 || seen == nil {
			t.Errorf("%s: not anonymous: %d", name, w.Code)
		}
		if w, seen := ask(t, fmt.Sprintf(block, ""), func(r *http.Request) { set(r); bearer(good)(r) }); w.Code != 200 || seen == nil {
			t.Errorf("%s, beside a token: %d", name, w.Code)
		}
	}
}

func TestTextsThatAreNotJWTs(t *testing.T) {
	part := base64.RawURLEncoding.EncodeToString
	header := part([]byte(`{"alg":"dir","enc":"A256GCM"}`))
	for text, want := range map[string]string{
		header + ".." + part([]byte("iv")) + "." + part([]byte("text")) + "." + part([]byte("tag")): "the token is encrypted (JWE)",
		header + ".a.b.c.d":        "the token is encrypted (JWE)",
		"4f1c2a9b0d":               "the token is opaque",
		"ya29.a0AfH6SM":            "the token is opaque",
		"v4.public.a.b":            "the token is opaque",
		"a.b.c":                    "malformed token",
		"eyJhbGciOiJIUzI1NiJ9.e30": "malformed token",
		"":                         "the token is empty",
	} {
		w, _ := ask(t, "jwt_auth "+secret, bearer(text))
		if w.Code != 401 || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Header().Get("WWW-Authenticate"), want) {
			t.Errorf("%q: %d %s", text, w.Code, w.Body)
		}
	}
	for aud, want := range map[string]string{`null`: "audience (aud) is null", `1`: "is not a string or an array of strings", `["api",null]`: "is not a string or an array", `"x"`: "for another audience"} {
		w, _ := ask(t, "jwt_auth {\n secret "+secret+"\n audience api\n}", bearer(payload(t, `"aud":`+aud)))
		if w.Code != 401 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("aud %s: %d %s", aud, w.Code, w.Body)
		}
	}
}

// All placeholders are known, and absent ones empty: a service never gets the
// text of one for a name.
func TestPlaceholdersAreKnown(t *testing.T) {
	const text = "[{http.auth.user.id}{http.auth.user.org.id}{http.auth.user.groups}{http.auth.user.object}{http.auth.error.reason}{http.ratelimit.z.tier}{http.cache.status}{http.circuit_breaker.state}]"
	for name, set := range map[string]func(*http.Request){
		"anonymous": func(*http.Request) {},
		"no claims": bearer(payload(t, `"object":{"a":1},"groups":[],"org":{}`)),
		"null":      bearer(payload(t, `"object":null,"groups":null,"org":{"id":null}`)),
	} {
		_, seen := ask(t, "jwt_auth "+secret+" {\n optional\n}", set)
		repl := seen.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if got := repl.ReplaceKnown(text, ""); got != "[]" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// An answer to a token in the address is its client's alone.
func TestQueryTokensArePrivate(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{"sub": "ann"})
	h := must(t, "jwt_auth "+secret+" {\n sources header query:access_token cookie:t\n}")
	for cacheControl, want := range map[string]string{
		"":                                 "private",
		"public, max-age=60":               "max-age=60, private",
		"Public, S-MaxAge=60, max-age=5":   "max-age=5, private",
		"no-store":                         "no-store, private",
		`private="X-A, X-B", no-cache="Y"`: `no-cache="Y", private`,
		"max-age=60|public":                "max-age=60, private",
		"private":                          "private",
	} {
		for _, status := range []int{200, 304, 404} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/?access_token="+url.QueryEscape(good), nil)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				if !identity.IsPrivate(r) {
					t.Error("later handlers do not know")
				}
				if cacheControl != "" {
					w.Header()["Cache-Control"] = strings.Split(cacheControl, "|")
				}
				w.Header().Set("CDN-Cache-Control", "max-age=600")
				w.Header().Set("Surrogate-Control", "max-age=600")
				w.WriteHeader(status)
				return nil
			}))
			if got := strings.Join(w.Header()["Cache-Control"], "|"); got != want || w.Header().Get("CDN-Cache-Control")+w.Header().Get("Surrogate-Control") != "" {
				t.Errorf("%d %q: %q %v", status, cacheControl, got, w.Header())
			}
		}
	}
	for name, set := range map[string]func(*http.Request){"header": bearer(good), "cookie": func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "t", Value: good}) }} {
		if w, seen := through(t, set, h); w.Header().Get("Cache-Control") != "" || identity.IsPrivate(seen) {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
}

func TestOptionsThatAskForNothing(t *testing.T) {
	t.Setenv("BLANK", " ")
	t.Setenv("COMMAS", " , ")
	t.Setenv("TWO", "read, write")
	for options, want := range map[string]string{
		"require off":                                       "require: off is not a value: leave the line out",
		"scopes off":                                        "scopes: off is not a value",
		"roles off":                                         "roles: off is not a value",
		"forward off":                                       "forward: off is not a value",
		"sources off":                                       "sources: off is not a value",
		`require ""`:                                        "require: an empty value",
		`require role ""`:                                   "require: an empty value",
		`roles any ""`:                                      "roles: an empty value",
		`scopes any " "`:                                    "scopes: an empty value",
		`forward "" X-User`:                                 "forward: an empty value",
		`roles_claim ""`:                                    "roles_claim: an empty value",
		`realm ""`:                                          "realm: an empty value",
		"sources cookie:":                                   "sources: \"cookie:\"",
		"sources header:X-A basic":                          "sources: \"basic\"",
		"forward a X-A xml":                                 `the format "xml" is not known`,
		"scopes any {env.UNSET_VARIABLE}":                   "scopes: {env.UNSET_VARIABLE} is empty",
		"require role {env.BLANK}":                          "require: {env.BLANK} is empty",
		"require role {env.COMMAS}":                         "require: ",
		"roles any a{b}":                                    "roles: {b} is not a placeholder",
		"sources query:{env.UNSET_VARIABLE}":                "sources: {env.UNSET_VARIABLE} is empty",
		"realm {env.UNSET_VARIABLE}":                        "realm: {env.UNSET_VARIABLE} is empty",
		"roles_claim {env.BLANK}":                           "roles_claim: {env.BLANK} is empty",
		"forward {env.BLANK} X-A":                           "forward: {env.BLANK} is empty",
		"forward sub {env.BLANK}":                           "forward: {env.BLANK} is empty",
		"resource_metadata {env.BLANK}":                     "resource_metadata: {env.BLANK} is empty",
		"dpop {\n origins {env.BLANK}\n}":                   "origins: {env.BLANK} is empty",
		"dpop {\n nonce {env.BLANK}\n}":                     "nonce: {env.BLANK} is empty",
		"forward sub Authorization":                         "the field Authorization is removed, but it is read here too",
		"sources header:X-Token\n forward sub x-token":      "the field X-Token is removed",
		"sources header:X-Token\n forward sub XToken":       "the field X-Token is removed",
		"sources header:X-Auth bearer\n forward sub X-Auth": "the field X-Auth is removed",
		"sources cookie:sid\n forward sub Cookie":           "the field Cookie is removed",
		"sources websocket\n forward sub Sec-WebSocket-Protocol": "the field Sec-Websocket-Protocol is removed",
		"dpop\n sources header:Authorization\n forward sub DPoP": "the field Dpop is removed",
	} {
		if _, err := load(t, "jwt_auth "+secret+" {\n "+options+"\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", options, err)
		}
	}
	for _, word := range []string{"on", "On", "true", "off"} {
		if _, err := load(t, "jwt_auth "+word); err == nil || !strings.Contains(err.Error(), "is not a secret") {
			t.Errorf("jwt_auth %s: %v", word, err)
		}
	}
	h := must(t, "jwt_auth "+secret+" {\n scopes any {env.TWO}\n require name \"Doe, John\" \\{x\\}\n}")
	if got := strings.Join(h.Scopes[0].Values, "|") + "|" + strings.Join(h.Require[0].Values, "|"); got != "read|write|Doe, John|{x}" {
		t.Error(got)
	}
	// An error after parsing names the place.
	if _, err := load(t, "jwt_auth "+secret+" {\n scopes any {env.BLANK}\n}"); err == nil || !strings.Contains(err.Error(), "jwt_auth: scopes: ") || !strings.Contains(err.Error(), "at Testfile:1") {
		t.Error(err)
	}
	m := MatchClaim{{Path: "role", Values: []string{"{env.TWO}"}}}
	if err := m.Provision(caddy.Context{}); err != nil || strings.Join(m[0].Values, "|") != "read|write" {
		t.Errorf("%v %v", m, err)
	}
	s := MatchScope{{Values: []string{"{env.BLANK}"}}}
	if err := s.Provision(caddy.Context{}); err == nil {
		t.Error("jwt_scope without a value is accepted")
	}
}
