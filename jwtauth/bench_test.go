package jwtauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// benchClaims are eleven claims, 374 bytes of JSON or so.
func benchClaims() jwt.MapClaims {
	now := time.Now().Unix()
	return jwt.MapClaims{
		"iss": "https://issuer.example.com/tenant", "sub": "user-0123456789abcdef", "aud": "https://api.example.com",
		"exp": now + 3600, "nbf": now - 10, "iat": now - 10, "jti": "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0",
		"scope": "orders:read orders:write profile", "roles": []string{"user", "editor"}, "email": "someone@example.com", "plan": "gold",
	}
}

func benchRSA(b *testing.B) (private *rsa.PrivateKey, publicPEM string) {
	b.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	return private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// BenchmarkHandler is the cost of a request to the handler, on a request that
// is prepared anew each time: `request` is that preparation alone, to be taken
// off the others.
func BenchmarkHandler(b *testing.B) {
	private, public := benchRSA(b)
	rs, err := jwt.NewWithClaims(jwt.SigningMethodRS256, benchClaims()).SignedString(private)
	if err != nil {
		b.Fatal(err)
	}
	hs := mint(b, secret, benchClaims())
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	rsa := func(options string) *Handler {
		h := &Handler{Providers: map[string]*Provider{"main": {PublicKeys: []string{public}}}}
		if options != "" {
			h.TokenCache = &TokenCache{Off: true}
		}
		return provisioned(b, h)
	}
	for _, tc := range []struct {
		name string
		h    *Handler
		text string
	}{
		{"request", nil, rs},
		{"RS256-warm", rsa(""), rs},
		{"RS256-cold", rsa("off"), rs},
		{"HS256-warm", must(b, "jwt_auth "+secret), hs},
		{"HS256-cold", must(b, "jwt_auth "+secret+" {\n token_cache off\n}"), hs},
	} {
		b.Run(tc.name, func(b *testing.B) {
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				r := prepared(tc.text, w)
				if tc.h != nil {
					if err := tc.h.ServeHTTP(w, r, next); err != nil || w.Code != 200 {
						b.Fatal(err, w.Code)
					}
				}
			}
		})
	}
}

// BenchmarkVerify is verification alone, of the same tokens and with the same
// checks of time, beside golang-jwt into MapClaims.
func BenchmarkVerify(b *testing.B) {
	private, public := benchRSA(b)
	rs, err := jwt.NewWithClaims(jwt.SigningMethodRS256, benchClaims()).SignedString(private)
	if err != nil {
		b.Fatal(err)
	}
	hs := mint(b, secret, benchClaims())
	hsHandler := must(b, "jwt_auth "+secret+" {\n token_cache off\n}")
	rsHandler := provisioned(b, &Handler{Providers: map[string]*Provider{"main": {PublicKeys: []string{public}}}, TokenCache: &TokenCache{Off: true}})
	warm := provisioned(b, &Handler{Providers: map[string]*Provider{"main": {PublicKeys: []string{public}}}})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	ours := func(h *Handler, text string) func() error {
		return func() error { _, _, err := h.verify(r, text); return err }
	}
	theirs := func(alg, text string, key any) func() error {
		parser := jwt.NewParser(jwt.WithValidMethods([]string{alg}), jwt.WithExpirationRequired(), jwt.WithLeeway(30*time.Second))
		return func() error {
			_, err := parser.ParseWithClaims(text, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return key, nil })
			return err
		}
	}
	for _, tc := range []struct {
		name string
		f    func() error
	}{
		{"HS256/tentagate", ours(hsHandler, hs)},
		{"HS256/golang-jwt", theirs("HS256", hs, []byte(secret))},
		{"RS256/tentagate", ours(rsHandler, rs)},
		{"RS256/golang-jwt", theirs("RS256", rs, &private.PublicKey)},
		{"RS256/tentagate-warm", ours(warm, rs)},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := tc.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
