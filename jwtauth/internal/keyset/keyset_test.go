package keyset

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(t testing.TB, kid string, bits int, more string) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB"%s}`, kid, b64(k.N.Bytes()), more)
}

func edJWK(kid, more string) string {
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q%s}`, kid, b64(public), more)
}

func jwks(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func TestParseJWKS(t *testing.T) {
	good := edJWK("good", "")
	for name, bad := range map[string]string{
		"unknown kty":    `{"kty":"XYZ","kid":"x"}`,
		"no n":           `{"kty":"RSA","kid":"x","e":"AQAB"}`,
		"off the curve":  `{"kty":"EC","crv":"P-256","kid":"x","x":"AQ","y":"AQ"}`,
		"other curve":    `{"kty":"EC","crv":"secp256k1","kid":"x","x":"AQ","y":"AQ"}`,
		"symmetric":      `{"kty":"oct","kid":"x","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		"for encryption": edJWK("x", `,"use":"enc"`),
		"for signing":    edJWK("x", `,"key_ops":["sign"]`),
		"kid a number":   `{"kty":"OKP","kid":1}`,
		"short Ed25519":  `{"kty":"OKP","crv":"Ed25519","kid":"x","x":"AQ"}`,
		"Ed448":          `{"kty":"OKP","crv":"Ed448","kid":"x","x":"AQ"}`,
		"alg of others":  edJWK("x", `,"alg":"RS256"`),
		"exponent 1":     `{"kty":"RSA","kid":"x","n":"` + strings.Repeat("_", 342) + `","e":"AQ"}`,
		"RSA 1024":       `{"kty":"RSA","kid":"x","n":"` + strings.Repeat("_", 170) + `","e":"AQAB"}`,
		"a text":         `"key"`,
	} {
		set, left, err := ParseJWKS(jwks(bad, good), nil, false)
		if err != nil || set.Len() != 1 || len(left) != 1 {
			t.Errorf("%s: %d keys, left out %v, %v", name, set.Len(), left, err)
		}
		if _, _, err := ParseJWKS(jwks(bad), nil, false); err == nil {
			t.Errorf("%s alone: a set without a usable key was accepted", name)
		}
	}
	for _, text := range []string{``, `{}`, `{"keys":[]}`, `{"error":"x"}`, `[]`, `<html>`, `{"keys":{}}`, `{"keys":null}`} {
		if _, _, err := ParseJWKS([]byte(text), nil, false); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if set, left, err := ParseJWKS(jwks(edJWK("a", ""), edJWK("a", ""), good), nil, false); err != nil || set.Len() != 1 || len(left) != 1 {
		t.Errorf("one kid twice: %d keys, %v, %v", set.Len(), left, err)
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = edJWK(fmt.Sprint(i), "")
	}
	if _, _, err := ParseJWKS(jwks(many...), nil, false); err == nil {
		t.Error("101 keys were accepted")
	}
}

func TestFind(t *testing.T) {
	set, _, err := ParseJWKS(jwks(rsaJWK(t, "r", 2048, ""), rsaJWK(t, "p", 2048, `,"alg":"PS256"`), edJWK("e", "")), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kid, alg string
		keys     int
		known    bool
	}{
		{"r", "RS256", 1, true},
		{"r", "PS512", 1, true},
		{"p", "PS256", 1, true},
		{"p", "RS256", 0, true},
		{"e", "EdDSA", 1, true},
		{"e", "Ed25519", 1, true},
		{"r", "HS256", 0, true},
		{"r", "ES256", 0, true},
		{"x", "RS256", 0, false},
		{"", "EdDSA", 1, true},
		{"", "RS256", 1, true},
		{"", "PS256", 2, true}, // either could have made it
	} {
		keys, known := set.Find(tc.kid, tc.alg)
		if len(keys) != tc.keys || known != tc.known {
			t.Errorf("%q %s: %d keys, known %v", tc.kid, tc.alg, len(keys), known)
		}
	}
	var none *Set
	if keys, known := none.Find("a", "RS256"); keys != nil || known {
		t.Error("no set has keys")
	}
}

func TestSecretsAndPEM(t *testing.T) {
	for _, tc := range []struct {
		bytes    int
		accepted []string
		want     string
	}{
		{31, nil, "too short"}, {32, nil, ""}, {32, []string{"HS512"}, "none of the accepted"}, {64, []string{"HS512"}, ""}, {0, nil, "too short"},
	} {
		_, err := Secrets([][]byte{[]byte(strings.Repeat("0123456789abcdef", 4)[:tc.bytes])}, tc.accepted)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d bytes, %v: %v", tc.bytes, tc.accepted, err)
		}
	}
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	weak, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	pub := func(k any) []byte {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	der, _ := x509.MarshalPKCS8PrivateKey(ec)
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"public":  {pub(&ec.PublicKey), ""},
		"two":     {append(pub(&ec.PublicKey), pub(&ec.PublicKey)...), ""},
		"private": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "it is a private key"},
		"P-224":   {pub(&weak.PublicKey), "accepted are P-256"},
		"no PEM":  {[]byte("hello"), "no PEM block"},
		"broken":  {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "public key 1"},
		"type":    {pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: []byte("x")}), `PEM type "X"`},
	} {
		set, err := PEM(tc.text, nil)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || err == nil && set.Len() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(jwks(edJWK("one", "")))
	var failures atomic.Int64
	source, err := File(path, nil, func([]error) {}, func(error) { failures.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	r := source.(*Reloading)
	has := func(kid string) bool {
		r.next.Store(0) // the time has come
		_, known := source.Keys().Find(kid, "EdDSA")
		return known
	}
	if !has("one") || has("two") {
		t.Error("first keys")
	}
	write(jwks(edJWK("two", "")))
	if !has("two") || has("one") {
		t.Error("the changed file was not read")
	}
	write([]byte("<html>"))
	if !has("two") || failures.Load() != 1 {
		t.Error("a broken file replaced good keys, or was not reported")
	}
}

// issuer is a key server whose answers a test can change.
type issuer struct {
	*httptest.Server
	hits atomic.Int64
	mu   sync.Mutex
	h    http.HandlerFunc
}

func newIssuer(t *testing.T, h http.HandlerFunc) *issuer {
	i := &issuer{h: h}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.hits.Add(1)
		i.mu.Lock()
		h := i.h
		i.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answer(h http.HandlerFunc) { i.mu.Lock(); i.h = h; i.mu.Unlock() }

func serveKeys(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
}

// startRemote returns a source and a channel of the results of its fetches.
func startRemote(t *testing.T, address string, discovery bool) (*Remote, chan string) {
	results := make(chan string, 100)
	r := NewRemote(Options{URL: address, Discovery: discovery, Observe: func(result string, _ []error, err error) { results <- fmt.Sprint(result, " ", err) }})
	r.Start()
	t.Cleanup(func() { _ = r.Destruct() })
	return r, results
}

// due makes the next unknown key fetch.
func due(r *Remote) {
	for r.Next() == 0 { // a fetch reports its result before it ends
		runtime.Gosched()
	}
	now := r.now
	r.now = func() time.Time { return now().Add(r.Timing.Cooldown) }
}

func TestRemote(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	good := jwks(edJWK("one", ""))
	i := newIssuer(t, serveKeys(good))
	defer i.Close()
	r, results := startRemote(t, i.URL, false)
	defer r.Destruct()
	if got := <-results; got != "ok <nil>" || r.Keys().Len() != 1 {
		t.Fatalf("first fetch: %s", got)
	}

	// However many keys are unknown, one fetch in the cooldown.
	for n := range 1000 {
		if _, known := r.Refresh(t.Context()).Find(fmt.Sprint("random", n), "EdDSA"); known {
			t.Fatal("unknown key is known")
		}
	}
	if n := i.hits.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	for name, h := range map[string]http.HandlerFunc{
		"500":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"HTML":           serveKeys([]byte("<html>")),
		"empty set":      serveKeys([]byte(`{"keys":[]}`)),
		"error document": serveKeys([]byte(`{"error":"down"}`)),
		"huge":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 2<<20) },
		"other host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		},
		"symmetric": serveKeys(jwks(`{"kty":"oct","kid":"one","k":"AAAA"}`)),
	} {
		i.answer(h)
		due(r)
		r.Refresh(t.Context())
		if got := <-results; !strings.HasPrefix(got, "error") {
			t.Errorf("%s: %s", name, got)
		}
		if _, known := r.Keys().Find("one", "EdDSA"); !known {
			t.Errorf("%s: replaced the good keys", name)
		}
	}
	// Rotation: a removed key is gone at once.
	i.answer(serveKeys(jwks(edJWK("two", ""))))
	due(r)
	set := r.Refresh(t.Context())
	<-results
	if _, known := set.Find("two", "EdDSA"); !known {
		t.Error("the new key is unknown")
	}
	if _, known := r.Keys().Find("one", "EdDSA"); known {
		t.Error("the removed key is known")
	}
	// A source that is unreachable for more than a day.
	r.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if r.Keys() != nil {
		t.Error("keys of yesterday are used")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestETag(t *testing.T) {
	i := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(jwks(edJWK("one", "")))
	})
	r, results := startRemote(t, i.URL, false)
	<-results
	due(r)
	r.Refresh(t.Context())
	if got := <-results; got != "unchanged <nil>" || r.Keys().Len() != 1 {
		t.Errorf("%s, %d keys", got, r.Keys().Len())
	}
}

// A server that hangs holds no request longer than the bound, and requests that
// come together wait for one fetch.
func TestHangingServer(t *testing.T) {
	release := make(chan struct{})
	i := newIssuer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	r, _ := startRemote(t, i.URL, false)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if r.Refresh(t.Context()) != nil {
				t.Error("keys from nowhere")
			}
		})
	}
	wg.Wait()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r.Refresh(gone)
	if n := i.hits.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	close(release)
}

func TestDiscovery(t *testing.T) {
	var document atomic.Value
	mux := http.NewServeMux()
	mux.HandleFunc("/tenant/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, document.Load().(string))
	})
	mux.Handle("/keys", serveKeys(jwks(edJWK("one", ""))))
	s := httptest.NewServer(mux)
	defer s.Close()
	for text, want := range map[string]string{
		fmt.Sprintf(`{"issuer":"%s/tenant","jwks_uri":"%s/keys"}`, s.URL, s.URL):                              "ok",
		fmt.Sprintf(`{"issuer":"https://evil.test","jwks_uri":"%s/keys"}`, s.URL):                             "the configuration is of another issuer",
		fmt.Sprintf(`{"issuer":"%s/tenant","jwks_uri":"ftp://x/keys"}`, s.URL):                                "jwks_uri",
		fmt.Sprintf(`{"issuer":"%s/tenant"}`, s.URL):                                                          "jwks_uri",
		fmt.Sprintf(`{"ISSUER":"%s/tenant","jwks_uri":"%s/keys"}`, s.URL, s.URL):                              "the configuration is of another issuer",
		fmt.Sprintf(`{"issuer":["%s/tenant"],"jwks_uri":"%s/keys"}`, s.URL, s.URL):                            "the configuration is of another issuer",
		fmt.Sprintf(`{"issuer":"%s/tenant/","jwks_uri":"%s/keys"}`, s.URL, s.URL):                             "the configuration is of another issuer",
		fmt.Sprintf(`{"issuer":"%s/tenant","JWKS_URI":"%s/keys"}`, s.URL, s.URL):                              "jwks_uri",
		fmt.Sprintf(`{"issuer":"%s/tenant","jwks_uri":["%s/keys"]}`, s.URL, s.URL):                            "jwks_uri",
		fmt.Sprintf(`{"issuer":"https://evil.test","issuer":"%s/tenant","jwks_uri":"%s/keys"}`, s.URL, s.URL): "the issuer's configuration is not JSON",
		fmt.Sprintf(`{"issuer":"%s/tenant","jwks_uri":"%s/keys"}{}`, s.URL, s.URL):                            "the issuer's configuration is not JSON",
		`null`:   "the issuer's configuration is not JSON",
		`<html>`: "the issuer's configuration is not JSON",
	} {
		document.Store(text)
		r, results := startRemote(t, s.URL+"/tenant", true)
		if got := <-results; !strings.Contains(got, want) || want != "ok" && !strings.HasPrefix(got, "error "+s.URL+"/tenant/.well-known/openid-configuration: ") {
			t.Errorf("%s: %s", text, got)
		}
		if (r.Keys().Len() == 1) != (want == "ok") {
			t.Errorf("%s: %d keys", text, r.Keys().Len())
		}
		_ = r.Destruct()
	}
}

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]bool{
		"https://a.test/keys": true, "http://127.0.0.1:1/k": true, "http://localhost/k": true, "http://[::1]/k": true,
		"http://a.test/keys": false, "ftp://a.test": false, "": false, "a": false, "https://u:p@a.test": false,
	} {
		if got := CheckURL(text, false) == nil; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if CheckURL("http://a.test/keys", true) != nil {
		t.Error("allow_http")
	}
}
