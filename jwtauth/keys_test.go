package jwtauth

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// volume is a directory as Kubernetes mounts a Secret: files are links into
// a link to the directory of a version, which is swapped as a whole.
type volume struct {
	t       *testing.T
	dir     string
	version int
}

func (v *volume) write(content string) {
	v.t.Helper()
	v.version++
	name := fmt.Sprint("..", v.version)
	must := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(v.dir, name), 0o700))
	must(os.WriteFile(filepath.Join(v.dir, name, "key"), []byte(content), 0o600))
	must(os.Symlink(name, filepath.Join(v.dir, "..tmp")))
	must(os.Rename(filepath.Join(v.dir, "..tmp"), filepath.Join(v.dir, "..data")))
	if v.version == 1 {
		must(os.Symlink("..data/key", filepath.Join(v.dir, "key")))
	} else {
		must(os.RemoveAll(filepath.Join(v.dir, fmt.Sprint("..", v.version-1))))
	}
}

// Each kind of file is read again after a swap, and a broken one leaves the
// keys as they were.
func TestFilesAreReadAgain(t *testing.T) {
	private := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b := private(), private()
	set := func(k *rsa.PrivateKey) string {
		return fmt.Sprintf(`{"keys":[{"kty":"RSA","n":%q,"e":"AQAB"}]}`, b64(k.N.Bytes()))
	}
	for name, tc := range map[string]struct {
		option        string
		first, second string
		one, two      signer
	}{
		"secret":     {"secret {file.%s}", secret + "\n", other + "\n", signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}, signer{"HS256", jwt.SigningMethodHS256, []byte(other)}},
		"public key": {"public_key %s", publicPEM(t, &a.PublicKey), publicPEM(t, &b.PublicKey), signer{"RS256", jwt.SigningMethodRS256, a}, signer{"RS256", jwt.SigningMethodRS256, b}},
		"key set":    {"jwks %s", set(a), set(b), signer{"RS256", jwt.SigningMethodRS256, a}, signer{"RS256", jwt.SigningMethodRS256, b}},
	} {
		t.Run(name, func(t *testing.T) {
			v := &volume{t: t, dir: t.TempDir()}
			v.write(tc.first)
			h := must(t, "jwt_auth {\n "+fmt.Sprintf(tc.option, filepath.Join(v.dir, "key"))+"\n}")
			due := func() { h.providers[0].source.(*keyset.Reloading).Due() }
			one, two := tc.one.sign(t, tc.one.header(), goodPayload("")), tc.two.sign(t, tc.two.header(), goodPayload(""))
			if x, y := send(t, h, one), send(t, h, two); x != 200 || y != 401 {
				t.Errorf("before: %d %d", x, y)
			}
			v.write(tc.second)
			due()
			if x, y := send(t, h, one), send(t, h, two); x != 401 || y != 200 {
				t.Errorf("after the swap: %d %d", x, y)
			}
			for _, broken := range []string{"", "broken"} {
				v.write(broken)
				due()
				if x, y := send(t, h, one), send(t, h, two); x != 401 || y != 200 {
					t.Errorf("after the file became %q: %d %d", broken, x, y)
				}
			}
		})
	}
}

// A configuration that is only provisioned fetches nothing; handlers with the
// same source share it.
func TestKeySetsFromURLs(t *testing.T) {
	var hits atomic.Int64
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"1","n":%q,"e":"AQAB"},{"kty":"oct","kid":"2","k":%q}]}`, b64(k.N.Bytes()), b64([]byte(secret)))
	}))
	defer issuer.Close()
	block := "jwt_auth {\n jwks " + issuer.URL + "\n}"
	one, two := must(t, block), must(t, block)
	reloaded := must(t, block+"\n")
	if hits.Load() != 0 {
		t.Error("provisioning made a request")
	}
	s := signer{"RS256", jwt.SigningMethodRS256, k}
	text := s.sign(t, `{"alg":"RS256","kid":"1"}`, goodPayload(""))
	for _, h := range []*Handler{one, two, reloaded} {
		if got := send(t, h, text); got != 200 {
			t.Errorf("%d", got)
		}
	}
	symmetric := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
	if got := send(t, one, symmetric.sign(t, `{"alg":"HS256","kid":"2"}`, goodPayload(""))); got != 401 {
		t.Errorf("a secret from a URL: %d", got)
	}
	if n := hits.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// Sources that fail from the start: no token is accepted, and none answered
// with a fault of the gateway.
func TestFailingSources(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"HTML":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"no keys": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"a secret": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"keys":[{"kty":"oct","k":%q}]}`, b64([]byte(secret)))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		},
	} {
		issuer := httptest.NewServer(answer)
		h := must(t, "jwt_auth {\n jwks "+issuer.URL+"\n}")
		for _, text := range []string{mint(t, secret, jwt.MapClaims{}), mint(t, "", jwt.MapClaims{}), "x.y.z", ""} {
			if got := send(t, h, text); got != 401 {
				t.Errorf("%s: %d", name, got)
			}
		}
		issuer.Close()
	}
}
