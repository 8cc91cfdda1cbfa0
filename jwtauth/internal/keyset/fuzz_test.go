package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// sound fails if a set has a key that must not be used, or that cannot be found
// by what it is.
func sound(t *testing.T, set *Set) {
	t.Helper()
	if set.Len() == 0 {
		t.Fatal("an empty set")
	}
	for _, k := range set.keys {
		if k.isSecret() {
			t.Fatal("a secret where none is accepted")
		}
		can, err := algorithmsOf(k.Value)
		if err != nil {
			t.Fatalf("a key that is refused elsewhere: %v", err)
		}
		if len(k.Algorithms) == 0 {
			t.Fatal("a key without an algorithm")
		}
		for _, a := range k.Algorithms {
			if !slices.Contains(can, a) || token.Method(a) == nil {
				t.Fatalf("%T verifies %s", k.Value, a)
			}
			if set.named && k.ID != "" {
				found, known := set.Find(k.ID, a)
				if !known || len(found) == 0 || len(found) > maxTried ||
					len(found) < maxTried && !slices.ContainsFunc(found, func(other Key) bool { return other.Print == k.Print }) {
					t.Fatalf("%q is not found", k.ID)
				}
			}
		}
		if _, known := set.Find("none", "none"); known && set.named && !set.Has(k.Print) {
			t.Fatal("a key of the set is not in it")
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add(jwks(edJWK("a", "")))
	f.Add(jwks(rsaJWK(f, "r", 2048, "")))
	f.Add(jwks(edJWK("a", `,"use":"sig","alg":"EdDSA","key_ops":["verify"]`), edJWK("a", ""), rsaJWK(f, "r", 2048, `,"alg":"PS256"`)))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AQ"}],"KEYS":[]}`))
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		f.Add(jwks(`{"kty":"EC","kid":"e","crv":"` + curve.Params().Name + `","x":"` + b64(x) + `","y":"` + b64(y) + `"}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, _, err := ParseJWKS(data, nil, false)
		if err == nil {
			sound(t, set)
		}
		// Secrets, where they are accepted, stand alone.
		if set, _, err = ParseJWKS(data, nil, true); err == nil {
			for i := range set.keys {
				if set.keys[i].isSecret() != set.keys[0].isSecret() {
					t.Fatal("a secret beside a public key")
				}
			}
		}
	})
}

func FuzzPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			f.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		f.Add(text)
		return text
	}
	block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&r.PublicKey), nil)
	var all []byte
	for _, k := range []any{&r.PublicKey, &e.PublicKey, edPublic} {
		der, err := x509.MarshalPKIXPublicKey(k)
		all = append(all, block("PUBLIC KEY", der, err)...)
	}
	f.Add(all)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, edPublic, ed)
	block("CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(ed)
	block("PRIVATE KEY", der, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		if set, err := PEM(data, nil); err == nil {
			sound(t, set)
		}
	})
}
