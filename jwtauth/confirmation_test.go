package jwtauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// client holds a key that tokens can be bound to.
type client struct {
	key        *ecdsa.PrivateKey
	thumbprint string
}

func newClient(t testing.TB) *client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := keyset.Thumbprint(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &client{key, thumbprint}
}

// token is bound to the client's key.
func (c *client) token(t testing.TB, more ...string) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "ann", "cnf": map[string]any{"jkt": c.thumbprint}}
	for i := 0; i < len(more); i += 2 {
		claims[more[i]] = more[i+1]
	}
	return mint(t, secret, claims)
}

// proof is for one request with the token.
func (c *client) proof(t testing.TB, method, address, access string, more ...string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(access))
	claims := jwt.MapClaims{"jti": rand.Text(), "htm": method, "htu": address, "iat": time.Now().Unix(), "ath": b64(sum[:])}
	for i := 0; i < len(more); i += 2 {
		claims[more[i]] = more[i+1]
	}
	point, err := c.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	tok.Header["typ"] = "dpop+jwt"
	tok.Header["jwk"] = map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	text, err := tok.SignedString(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// through sends a request through one handler, and then another, if it is given.
func through(t testing.TB, set func(r *http.Request), handlers ...*Handler) (*httptest.ResponseRecorder, *http.Request) {
	t.Helper()
	r, w := httptest.NewRequest(http.MethodGet, "http://example.com/a?b=1", nil), httptest.NewRecorder()
	set(r)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	if r.Header.Get("X-Trusted") != "" {
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	}
	var seen *http.Request
	next := caddyhttp.Handler(caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error { seen = r; return nil }))
	for _, handler := range slices.Backward(handlers) {
		h, inner := handler, next
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return h.ServeHTTP(w, r, inner) })
	}
	_ = next.ServeHTTP(w, r)
	return w, seen
}

func withProof(access string, proofs ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", "DPoP "+access)
		for _, proof := range proofs {
			r.Header.Add("DPoP", proof)
		}
	}
}

const here = "http://example.com/a"

func TestDPoP(t *testing.T) {
	c, thief := newClient(t), newClient(t)
	bound, plain := c.token(t), mint(t, secret, jwt.MapClaims{"sub": "ann"})
	proof := func(address string) string { return c.proof(t, "GET", address, bound) }
	const algs = `algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519"`
	for _, tc := range []struct {
		name, options string
		set           func(*http.Request)
		status        int
		challenges    []string // parts of the fields, in order
	}{
		{"bound", "dpop", withProof(bound, proof(here)), 200, nil},
		{"scheme in another case", "dpop", func(r *http.Request) { withProof(bound, proof(here))(r); r.Header.Set("Authorization", "dpop "+bound) }, 200, nil},
		{"with the query", "dpop", withProof(bound, proof(here+"?b=1")), 200, nil},
		{"a bearer token", "dpop", bearer(plain), 200, nil},
		{"a bearer token and a proof", "dpop", func(r *http.Request) { bearer(plain)(r); r.Header.Set("DPoP", "x") }, 200, nil},
		{"nothing", "dpop", func(*http.Request) {}, 401, []string{`Bearer realm="api"`, `DPoP realm="api", ` + algs}},
		{"nothing, required", "dpop {\n required\n}", func(*http.Request) {}, 401, []string{`DPoP realm="api", ` + algs}},
		{"bound, as a bearer token", "dpop", bearer(bound), 401, []string{`Bearer realm="api", error="invalid_token"`, `DPoP realm="api", algs=`}},
		{"bound, as a bearer token with a proof", "dpop", func(r *http.Request) { bearer(bound)(r); r.Header.Set("DPoP", proof(here)) }, 401, []string{`Bearer realm="api", error="invalid_token"`, `DPoP`}},
		{"bound, as a bearer token in the query", "dpop\n sources header query:t", func(r *http.Request) { r.URL.RawQuery = "t=" + bound; r.Header.Set("DPoP", proof(here)) }, 401, []string{`Bearer`, `DPoP`}},
		{"not bound", "dpop", withProof(plain, c.proof(t, "GET", here, plain)), 401, []string{`Bearer realm="api"`, `DPoP realm="api", error="invalid_token"`}},
		{"a bearer token, required", "dpop {\n required\n}", bearer(plain), 401, []string{`DPoP realm="api", error="invalid_token"`}},
		{"no proof", "dpop", withProof(bound), 401, []string{`Bearer`, `DPoP realm="api", error="invalid_dpop_proof"`}},
		{"two proofs", "dpop", withProof(bound, proof(here), proof(here)), 401, []string{`Bearer`, `error="invalid_dpop_proof"`}},
		{"two tokens", "dpop", func(r *http.Request) {
			withProof(bound, proof(here))(r)
			r.Header.Add("Authorization", "Bearer "+plain)
		}, 400, []string{`Bearer`, `DPoP realm="api", error="invalid_request"`}},
		{"another's key", "dpop", withProof(bound, thief.proof(t, "GET", here, bound)), 401, []string{`Bearer`, `error="invalid_token"`}},
		{"another address", "dpop", withProof(bound, proof(here+"/b")), 401, []string{`Bearer`, `error="invalid_dpop_proof"`}},
		{"another method", "dpop", withProof(bound, c.proof(t, "POST", here, bound)), 401, []string{`Bearer`, `error="invalid_dpop_proof"`}},
		{"another token", "dpop", withProof(bound, c.proof(t, "GET", here, plain)), 401, []string{`Bearer`, `error="invalid_dpop_proof"`}},
		{"an algorithm that is not accepted", "dpop {\n algorithms EdDSA\n}", withProof(bound, proof(here)), 401, []string{`Bearer`, `error="invalid_dpop_proof", error_description="the DPoP proof is not accepted: its alg is none of EdDSA", algs="EdDSA"`}},
		{"older than max_age", "dpop {\n max_age 1s\n}\n leeway 0s", withProof(bound, c.proof(t, "GET", here, bound, "exp", "x")), 401, []string{`Bearer`, `error="invalid_dpop_proof"`}},
		{"a bad token", "dpop", withProof("x", proof(here)), 401, []string{`Bearer`, `DPoP realm="api", error="invalid_token"`}},
		{"by TLS", "dpop", func(r *http.Request) {
			withProof(bound, proof("https://example.com/a"))(r)
			r.TLS = &tls.ConnectionState{}
		}, 200, nil},
		{"by TLS, a proof for http", "dpop", func(r *http.Request) { withProof(bound, proof(here))(r); r.TLS = &tls.ConnectionState{} }, 401, []string{``, ``}},
		{"a proxy", "dpop", func(r *http.Request) {
			withProof(bound, proof("https://api.test/a"))(r)
			r.Header.Set("X-Trusted", "1")
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-Host", "api.test, inner")
		}, 200, nil},
		{"who claims to be a proxy", "dpop", func(r *http.Request) {
			withProof(bound, proof("https://api.test/a"))(r)
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-Host", "api.test")
		}, 401, []string{``, ``}},
		{"origins", "dpop {\n origins https://one.test https://API.test:443/\n}", withProof(bound, proof("https://api.test/a")), 200, nil},
		{"none of the origins", "dpop {\n origins https://api.test\n}", withProof(bound, proof(here)), 401, []string{``, ``}},
		{"a host that is none", "dpop", func(r *http.Request) { withProof(bound, proof(here))(r); r.Host = "" }, 401, []string{``, `error="invalid_dpop_proof"`}},
		{"a scope is missing", "dpop\n scopes any admin", withProof(bound, proof(here)), 403, []string{`Bearer realm="api"`, `DPoP realm="api", error="insufficient_scope", scope="admin"`}},
		{"not accepted here", "", bearer(bound), 401, []string{`Bearer realm="api", error="invalid_token", error_description="cnf is not accepted`}},
		{"the scheme is not accepted here", "", withProof(bound, proof(here)), 401, []string{`Bearer realm="api"`}},
		{"left to the service", "ignore_confirmation", bearer(bound), 200, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := must(t, "jwt_auth "+secret+" {\n"+tc.options+"\n}")
			w, seen := through(t, tc.set, h)
			challenges := w.Header()["Www-Authenticate"]
			if w.Code != tc.status || (seen != nil) != (tc.status == 200) || len(challenges) != len(tc.challenges) {
				t.Fatalf("%d %q", w.Code, challenges)
			}
			for i, want := range tc.challenges {
				if !strings.Contains(challenges[i], want) {
					t.Errorf("%q, not %q", challenges[i], want)
				}
			}
			if tc.status != 200 && w.Header().Get("Cache-Control") != "no-store" {
				t.Error(w.Header())
			}
		})
	}
}

func TestUnknownConfirmations(t *testing.T) {
	for name, cnf := range map[string]any{
		"a text": "x", "null": nil, "an array": []string{"x"}, "empty": map[string]any{}, "a key": map[string]any{"jwk": map[string]any{"kty": "EC"}}, "a key's name": map[string]any{"kid": "x"},
		"jkt is a number": map[string]any{"jkt": 1}, "jkt is empty": map[string]any{"jkt": ""}, "another too": map[string]any{"jkt": "x", "kid": "y"}, "other case": map[string]any{"JKT": "x"},
	} {
		for _, options := range []string{"", "dpop", "certificate_bound", "optional"} {
			w, seen := through(t, bearer(mint(t, secret, jwt.MapClaims{"cnf": cnf})), must(t, "jwt_auth "+secret+" {\n"+options+"\n}"))
			if w.Code != 401 || seen != nil {
				t.Errorf("%s, with %q: %d", name, options, w.Code)
			}
		}
	}
}

func TestProofsAreUsedOnce(t *testing.T) {
	c := newClient(t)
	access := c.token(t)
	block := "jwt_auth " + secret + " {\n dpop\n}"
	h := must(t, block)
	proof := c.proof(t, "GET", here, access)
	if w, _ := through(t, withProof(access, proof), h, must(t, block)); w.Code != 200 {
		t.Fatalf("two handlers in one request: %d %s", w.Code, w.Body)
	}
	reloaded := must(t, block)
	for _, h := range []*Handler{h, reloaded} {
		if w, _ := through(t, withProof(access, proof), h); w.Code != 401 || !strings.Contains(w.Body.String(), "used before") {
			t.Errorf("used twice: %d %s", w.Code, w.Body)
		}
	}
	if w, _ := through(t, withProof(access, c.proof(t, "GET", here, access)), h); w.Code != 200 {
		t.Errorf("another proof: %d", w.Code)
	}
}

func TestProofsAreStripped(t *testing.T) {
	c := newClient(t)
	access := c.token(t)
	_, seen := through(t, withProof(access, c.proof(t, "GET", here, access)), must(t, "jwt_auth "+secret+" {\n dpop\n strip_token\n}"))
	if seen == nil || len(seen.Header) != 0 {
		t.Errorf("%v", seen)
	}
}

func TestNonceIsAskedFor(t *testing.T) {
	c := newClient(t)
	access := c.token(t)
	long := "nonces-of-the-tests-0123456789abcdef"
	one := must(t, "jwt_auth "+secret+" {\n dpop {\n nonce "+long+"\n}\n}")
	other := must(t, "jwt_auth "+secret+" {\n dpop {\n nonce "+strings.ToUpper(long)+" "+long+"\n}\n}")
	alone := must(t, "jwt_auth "+secret+" {\n dpop {\n nonce\n}\n}")
	nonce := ""
	for range 2 {
		w, _ := through(t, withProof(access, c.proof(t, "GET", here, access, "nonce", nonce)), one)
		if nonce != "" {
			if w.Code != 200 || w.Header().Get("DPoP-Nonce") != "" {
				t.Errorf("with the nonce: %d %v", w.Code, w.Header())
			}
			break
		}
		if nonce = w.Header().Get("DPoP-Nonce"); w.Code != 401 || nonce == "" || !strings.Contains(w.Header()["Www-Authenticate"][1], `DPoP realm="api", error="use_dpop_nonce"`) {
			t.Fatalf("without: %d %v", w.Code, w.Header())
		}
	}
	for h, want := range map[*Handler]int{other: 200, alone: 401} {
		if w, _ := through(t, withProof(access, c.proof(t, "GET", here, access, "nonce", nonce)), h); w.Code != want {
			t.Errorf("another gateway: %d, not %d", w.Code, want)
		}
	}
}

func TestCertificateBound(t *testing.T) {
	mine, other := &x509.Certificate{Raw: []byte("mine")}, &x509.Certificate{Raw: []byte("other")}
	sum := sha256.Sum256(mine.Raw)
	bound := mint(t, secret, jwt.MapClaims{"cnf": map[string]any{"x5t#S256": b64(sum[:])}})
	plain := mint(t, secret, jwt.MapClaims{})
	by := func(text string, state *tls.ConnectionState) func(*http.Request) {
		return func(r *http.Request) { bearer(text)(r); r.TLS = state }
	}
	for _, tc := range []struct {
		name, options string
		set           func(*http.Request)
		status        int
	}{
		{"bound", "certificate_bound", by(bound, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine, other}}), 200},
		{"another certificate", "certificate_bound", by(bound, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{other, mine}}), 401},
		{"no certificate", "certificate_bound", by(bound, &tls.ConnectionState{}), 401},
		{"no TLS", "certificate_bound", by(bound, nil), 401},
		{"a bearer token", "certificate_bound", by(plain, nil), 200},
		{"a bearer token, required", "certificate_bound required", by(plain, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine}}), 401},
		{"bound, required", "certificate_bound required", by(bound, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine}}), 200},
		{"not accepted here", "", by(bound, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine}}), 401},
		{"left to the service", "ignore_confirmation", by(bound, nil), 200},
	} {
		// The second time, the token is remembered.
		h := must(t, "jwt_auth "+secret+" {\n"+tc.options+"\n}")
		for range 2 {
			if w, seen := through(t, tc.set, h); w.Code != tc.status || (seen != nil) != (tc.status == 200) {
				t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
			}
		}
	}
	// A token may be bound twice.
	c := newClient(t)
	twice := mint(t, secret, jwt.MapClaims{"cnf": map[string]any{"x5t#S256": b64(sum[:]), "jkt": c.thumbprint}})
	h := must(t, "jwt_auth "+secret+" {\n dpop\n certificate_bound\n}")
	for certificate, want := range map[*x509.Certificate]int{mine: 200, other: 401} {
		w, _ := through(t, func(r *http.Request) {
			withProof(twice, c.proof(t, "GET", "https://example.com/a", twice))(r)
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
		}, h)
		if w.Code != want {
			t.Errorf("%s: %d %s", certificate.Raw, w.Code, w.Body)
		}
	}
}

// A proof that one gateway has accepted is refused by another.
func TestProofsAreSharedByRedis(t *testing.T) {
	rs := redistest.Start(t)
	proxy := redistest.NewProxy(t, rs.Addr())
	var gateways []http.Handler
	for _, url := range []string{rs.URL(), proxy.URL()} {
		t.Setenv("REDIS_URL", url)
		gateways = append(gateways, servertest.Handler(t, ":80 {\n jwt_auth "+secret+" {\n dpop\n}\n respond ok\n}"))
	}
	c := newClient(t)
	access := c.token(t)
	// On a busy machine Redis may be too slow for one request, which then passes.
	testkit.Eventually(t, "a used proof refused by the other gateway", func() bool {
		proof := c.proof(t, "GET", here, access)
		var got [2]int
		for i := range gateways {
			r, w := httptest.NewRequest(http.MethodGet, here, nil), httptest.NewRecorder()
			withProof(access, proof)(r)
			gateways[i].ServeHTTP(w, r)
			got[i] = w.Code
		}
		if got[0] != 200 {
			t.Fatalf("a new proof: %d", got[0])
		}
		return got[1] == 401
	})
}

func TestConfirmationOptions(t *testing.T) {
	for options, want := range map[string]string{
		"dpop x":                                  "dpop",
		"dpop {\n algorithms HS256\n}":            "algorithms",
		"dpop {\n algorithms none\n}":             "algorithms",
		"dpop {\n max_age 11m\n}":                 "max_age",
		"dpop {\n max_age 0s\n}":                  "max_age",
		"dpop {\n max_proofs 0\n}":                "max_proofs",
		"dpop {\n origins api.test\n}":            "origins",
		"dpop {\n origins https://a.test/b\n}":    "origins",
		"dpop {\n origins https://a.test?b\n}":    "origins",
		"dpop {\n nonce short\n}":                 "at least 32",
		"dpop {\n required\n required\n}":         "required",
		"dpop {\n other\n}":                       "other",
		"dpop\n dpop":                             "dpop",
		"dpop\n sources cookie:t":                 "sources",
		"dpop\n ignore_confirmation":              "ignore_confirmation",
		"certificate_bound x":                     "certificate_bound",
		"certificate_bound required x":            "certificate_bound",
		"certificate_bound\n ignore_confirmation": "ignore_confirmation",
		"ignore_confirmation x":                   "ignore_confirmation",
	} {
		if _, err := load(t, "jwt_auth "+secret+" {\n"+options+"\n}"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "short") {
			t.Errorf("%s: %v", options, err)
		}
	}
	w, _ := through(t, func(r *http.Request) { r.URL.Path = wellKnown }, must(t, "jwt_auth "+secret+" {\n dpop {\n required\n algorithms ES256\n}\n certificate_bound\n resource_metadata {\n resource https://r.test\n}\n}"))
	if body := w.Body.String(); !strings.Contains(body, `"dpop_signing_alg_values_supported":["ES256"],"dpop_bound_access_tokens_required":true,"tls_client_certificate_bound_access_tokens":true`) {
		t.Error(body)
	}
}
