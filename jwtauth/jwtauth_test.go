package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
)

const (
	secret = "0123456789abcdef0123456789abcdef"
	other  = "fedcba9876543210fedcba9876543210"
)

func mint(t testing.TB, secret string, claims jwt.MapClaims) string {
	t.Helper()
	if _, given := claims["exp"]; !given {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func load(t testing.TB, block string) (*Handler, error) {
	t.Helper()
	h, err := parsed(t, block)
	if err != nil {
		return nil, err
	}
	return h, provision(t, h)
}

func parsed(t testing.TB, block string) (*Handler, error) {
	t.Helper()
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block))
}

func provision(t testing.TB, h *Handler) error {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(func() { _ = h.Cleanup(); cancel() })
	return h.Provision(ctx)
}

func provisioned(t testing.TB, h *Handler) *Handler {
	t.Helper()
	if err := provision(t, h); err != nil {
		t.Fatal(err)
	}
	return h
}

// ask sends a request; it returns the answer and the request that the next
// handler saw, nil if it was not reached.
func ask(t testing.TB, block string, set func(r *http.Request)) (*httptest.ResponseRecorder, *http.Request) {
	t.Helper()
	h, err := load(t, block)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/?a=1", nil)
	set(r)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	var seen *http.Request
	_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error { seen = r; return nil }))
	return w, seen
}

func bearer(text string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+text) }
}

func TestChallenges(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{"sub": "ann", "scope": "read", "role": "user"})
	for _, tc := range []struct {
		name, block string
		set         func(*http.Request)
		status      int
		challenge   string
	}{
		{"good", "jwt_auth " + secret, bearer(good), 200, ""},
		{"scheme in another case", "jwt_auth " + secret, func(r *http.Request) { r.Header.Set("Authorization", "bearer "+good) }, 200, ""},
		{"none", "jwt_auth " + secret, func(*http.Request) {}, 401, `Bearer realm="api"`},
		{"realm", "jwt_auth " + secret + " {\n realm shop\n}", func(*http.Request) {}, 401, `Bearer realm="shop"`},
		{"another scheme", "jwt_auth " + secret, func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") }, 401, `Bearer realm="api"`},
		{"empty", "jwt_auth " + secret, bearer(""), 401, `error="invalid_token"`},
		{"other secret", "jwt_auth " + secret, bearer(mint(t, other, jwt.MapClaims{})), 401, `error_description="signature does not verify"`},
		{"expired", "jwt_auth " + secret, bearer(mint(t, secret, jwt.MapClaims{"exp": 1})), 401, `error_description="the token has expired"`},
		{"two", "jwt_auth " + secret, func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer " + good, "Bearer " + good} }, 400, `error="invalid_request"`},
		{"two schemes", "jwt_auth " + secret, func(r *http.Request) { r.Header["Authorization"] = []string{"Basic x", "Bearer " + good} }, 400, `error="invalid_request"`},
		{"two places", "jwt_auth " + secret + " {\n sources header query:t\n}", func(r *http.Request) { bearer(good)(r); r.URL.RawQuery = "t=" + good }, 400, `error="invalid_request"`},
		{"query not asked for", "jwt_auth " + secret, func(r *http.Request) { r.URL.RawQuery = "access_token=" + good }, 401, `Bearer realm="api"`},
		{"query", "jwt_auth " + secret + " {\n sources query:t\n}", func(r *http.Request) { r.URL.RawQuery = "t=" + good }, 200, ""},
		{"cookie", "jwt_auth " + secret + " {\n sources cookie:t\n}", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "t", Value: good}) }, 200, ""},
		{"field", "jwt_auth " + secret + " {\n sources header:X-Token\n}", func(r *http.Request) { r.Header.Set("X-Token", good) }, 200, ""},
		{"scope", "jwt_auth " + secret + " {\n scopes any read admin\n}", bearer(good), 200, ""},
		{"scope missing", "jwt_auth " + secret + " {\n scopes all read admin\n}", bearer(good), 403, `error="insufficient_scope", scope="read admin"`},
		{"claim", "jwt_auth " + secret + " {\n require role user admin\n}", bearer(good), 200, ""},
		{"claim missing", "jwt_auth " + secret + " {\n require role admin\n}", bearer(good), 403, `error="insufficient_scope"`},
		{"two rotated secrets", "jwt_auth {\n secret " + other + " " + secret + "\n}", bearer(good), 200, ""},
		{"anonymous", "jwt_auth " + secret + " {\n optional\n}", func(*http.Request) {}, 200, ""},
		{"anonymous, a bad token", "jwt_auth " + secret + " {\n optional\n}", bearer("x"), 401, `error="invalid_token"`},
		{"audience", "jwt_auth {\n secret " + secret + "\n audience api\n}", bearer(good), 401, `another audience`},
		{"algorithm", "jwt_auth {\n secret " + strings.Repeat(secret, 2) + "\n algorithms HS512\n}", bearer(good), 401, `algorithm not accepted`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, seen := ask(t, tc.block, tc.set)
			if w.Code != tc.status || (seen != nil) != (tc.status == 200) || !strings.Contains(w.Header().Get("WWW-Authenticate"), tc.challenge) {
				t.Errorf("%d %q %s", w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
			}
			if tc.status != 200 && (w.Header().Get("Cache-Control") != "no-store" || !strings.Contains(w.Body.String(), `"detail"`)) {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
		})
	}
}

func TestIssuersSelect(t *testing.T) {
	block := "jwt_auth {\n provider a {\n secret " + secret + "\n issuer https://a.test\n audience x\n}\n provider b {\n secret " + other + "\n issuer https://b.test\n}\n}"
	for name, tc := range map[string]struct {
		secret string
		claims jwt.MapClaims
		status int
	}{
		"a":                   {secret, jwt.MapClaims{"iss": "https://a.test", "aud": "x", "sub": "s"}, 200},
		"b":                   {other, jwt.MapClaims{"iss": "https://b.test", "sub": "s"}, 200},
		"b signed as a":       {other, jwt.MapClaims{"iss": "https://a.test", "aud": "x"}, 401},
		"a without audience":  {secret, jwt.MapClaims{"iss": "https://a.test"}, 401},
		"nobody":              {secret, jwt.MapClaims{"iss": "https://c.test"}, 401},
		"no issuer":           {secret, jwt.MapClaims{}, 401},
		"issuer is not exact": {secret, jwt.MapClaims{"iss": "https://a.test/", "aud": "x"}, 401},
	} {
		w, seen := ask(t, block, bearer(mint(t, tc.secret, tc.claims)))
		if w.Code != tc.status {
			t.Errorf("%s: %d", name, w.Code)
		}
		if seen != nil {
			if id, ok := identity.From(seen); !ok || id.Provider != name || id.Subject != "s" {
				t.Errorf("%s: identity %+v", name, id)
			}
		}
	}
}

func TestForward(t *testing.T) {
	block := "jwt_auth " + secret + " {\n optional\n forward sub X-User\n forward roles X-Roles\n forward org.id X-Org\n}"
	hostile := func(r *http.Request) {
		r.Header.Set("X-User", "mallory")
		r.Header["X_user"] = []string{"mallory"}
		r.Header["x-USER"] = []string{"mallory"}
		r.Header.Set("X-Org", "mallory")
		r.Header.Set("Connection", "close, X-User, x_roles")
	}
	_, seen := ask(t, block, func(r *http.Request) {
		hostile(r)
		bearer(mint(t, secret, jwt.MapClaims{"sub": "ann", "roles": []string{"a", "b"}}))(r)
	})
	if seen.Header.Get("X-User") != "ann" || seen.Header.Get("X-Roles") != "a,b" || seen.Header.Get("X-Org") != "" || seen.Header.Get("Connection") != "close" {
		t.Errorf("%v", seen.Header)
	}
	_, anonymous := ask(t, block, hostile)
	for _, r := range []*http.Request{seen, anonymous} {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, ""), "mallory") {
				t.Errorf("%s: %v", name, values)
			}
		}
	}
	for _, sub := range []string{"a\r\nX-Admin: 1", "a\x00", "a\x7f"} {
		if w, seen := ask(t, block, bearer(mint(t, secret, jwt.MapClaims{"sub": sub}))); w.Code != 401 || seen != nil {
			t.Errorf("%q: %d", sub, w.Code)
		}
	}
}

func TestPlaceholdersAndStrip(t *testing.T) {
	_, seen := ask(t, "jwt_auth "+secret+" {\n strip_token\n}", bearer(mint(t, secret, jwt.MapClaims{"sub": "ann", "plan": "gold", "org": map[string]any{"id": 7}})))
	repl := seen.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got := repl.ReplaceAll("{http.auth.user.id} {http.auth.user.plan} {http.auth.user.org.id} {http.auth.user.none}", "-"); got != "ann gold 7 -" {
		t.Errorf("got %q", got)
	}
	if seen.Header.Get("Authorization") != "" {
		t.Error("the token went on")
	}
	_, seen = ask(t, "jwt_auth "+secret+" {\n strip_token\n sources query:t cookie:c\n}", func(r *http.Request) {
		r.URL.RawQuery = "a=1&t=" + mint(t, secret, jwt.MapClaims{}) + "&b=%2F"
		r.AddCookie(&http.Cookie{Name: "x", Value: "y"})
	})
	if seen.URL.RawQuery != "a=1&b=%2F" || seen.Header.Get("Cookie") != "x=y" {
		t.Errorf("%q %v", seen.URL.RawQuery, seen.Header)
	}
	w, _ := ask(t, "jwt_auth "+secret, bearer("x"))
	_ = w
}

func TestConfiguration(t *testing.T) {
	t.Setenv("SHORT", "tooshort-and-secret")
	t.Setenv("EMPTY", "")
	for block, want := range map[string]string{
		"jwt_auth":      "missing provider",
		"jwt_auth a b":  "unexpected argument",
		"jwt_auth none": "leave the directive out",
		"jwt_auth {\n secret " + secret + "\n optional off\n}":          "leave the line out",
		"jwt_auth {\n secret " + secret + "\n deny_list off\n}":         "leave the line out",
		"jwt_auth {\n secret " + secret + "\n dpop off\n}":              "leave the line out",
		"jwt_auth {\n secret " + secret + "\n dpop on\n}":               "the name alone switches it on",
		"jwt_auth {\n secret " + secret + "\n certificate_bound off\n}": "leave the line out",
		"jwt_auth {\n secret " + secret + "\n resource_metadata off\n}": "leave the line out",
		"jwt_auth {env.EMPTY}": "set the environment variable EMPTY",
		"jwt_auth {env.SHORT}": "too short: HS256 takes at least 32",
		"jwt_auth {\n secret " + secret + "\n jwks https://a.test\n}":                                      "exactly one of",
		"jwt_auth {\n secret " + secret + "\n algorithms RS256\n}":                                         "does not fit the keys",
		"jwt_auth {\n secret " + secret + "\n algorithms none\n}":                                          `"none" is not accepted`,
		"jwt_auth {\n secret " + secret + "\n leeway 10m\n}":                                               "at most 5m",
		"jwt_auth {\n secret " + secret + "\n secret " + other + "\n}":                                     "given more than once",
		"jwt_auth {\n secret " + secret + "\n provider b {\n secret x\n}\n}":                               "in its block",
		"jwt_auth {\n jwks http://a.test/keys\n}":                                                          "only fetched over https",
		"jwt_auth {\n jwks /does/not/exist\n}":                                                             "no such file",
		"jwt_auth {\n public_key /does/not/exist\n}":                                                       "neither PEM nor a file",
		"jwt_auth {\n provider nobody\n}":                                                                  "does not define it",
		"jwt_auth {\n provider a {\n secret " + secret + "\n}\n provider b {\n secret " + other + "\n}\n}": "issuer: missing",
		"jwt_auth {\n provider a {\n secret x\n}\n provider a {\n secret x\n}\n}":                          "given more than once",
		"jwt_auth " + secret + " {\n forward sub Connection\n}":                                            "cannot be set",
		"jwt_auth " + secret + " {\n forward sub\n}":                                                       "missing argument",
		"jwt_auth " + secret + " {\n scopes some x\n}":                                                     "write `scopes any",
		"jwt_auth " + secret + " {\n sources body\n}":                                                      "accepted are header",
		"jwt_auth " + secret + " {\n sources header header\n}":                                             "more than once",
		"jwt_auth " + secret + " {\n skip_verification\n}":                                                 `unknown option "skip_verification"`,
		"jwt_auth " + secret + " {\n base64\n}":                                                            "", // the text happens to be base64, 24 bytes: too short
	} {
		_, err := load(t, block)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "tooshort-and-secret") {
			t.Errorf("the error contains the secret: %v", err)
		}
	}
}
