package keyset

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func ecJWK(t testing.TB, kid string, curve elliptic.Curve, more string) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":%q,"x":%q,"y":%q%s}`, kid, curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:]), more)
}

// Several keys under one kid are distinguished by kty, curve and alg (RFC 7517
// §4.5), equal ones count once, and only ambiguous ones are skipped.
func TestOneKidOnSeveralKeys(t *testing.T) {
	r1, r2, ed := rsaJWK(t, "k", 2048, ""), rsaJWK(t, "k", 2048, ""), edJWK("k", "")
	with := func(jwk, alg string) string { return strings.TrimSuffix(jwk, "}") + `,"alg":"` + alg + `"}` }
	for name, tc := range map[string]struct {
		keys []string
		left int
		find map[string]int // keys to try for an algorithm
	}{
		"two types":              {[]string{r1, ed}, 0, map[string]int{"RS256": 1, "PS512": 1, "EdDSA": 1, "ES256": 0}},
		"three types":            {[]string{ed, ecJWK(t, "k", elliptic.P256(), ""), r1}, 0, map[string]int{"RS256": 1, "ES256": 1, "EdDSA": 1}},
		"two curves":             {[]string{ecJWK(t, "k", elliptic.P256(), ""), ecJWK(t, "k", elliptic.P384(), "")}, 0, map[string]int{"ES256": 1, "ES384": 1, "ES512": 0}},
		"two algorithms":         {[]string{with(r1, "RS256"), with(r2, "PS256")}, 0, map[string]int{"RS256": 1, "PS256": 1, "RS384": 0}},
		"one key, two algorithm": {[]string{with(r1, "RS256"), with(r1, "RS512")}, 0, map[string]int{"RS256": 1, "RS512": 1}},
		"one says no algorithm":  {[]string{r1, with(r2, "RS256")}, 0, map[string]int{"RS256": 2, "PS256": 1}},
		"the same twice":         {[]string{r1, r1}, 0, map[string]int{"RS256": 1}},
		"the same thrice, more":  {[]string{ed, with(ed, "EdDSA"), ed, r1}, 0, map[string]int{"EdDSA": 2, "RS256": 1}},
		"ambiguous":              {[]string{r1, r2, ed}, 1, map[string]int{"RS256": 0, "EdDSA": 1}},
		"nor with an algorithm":  {[]string{with(r1, "RS256"), with(r2, "RS256"), with(r1, "PS256")}, 1, map[string]int{"RS256": 0, "PS256": 1}},
		"nor three":              {[]string{edJWK("k", ""), edJWK("k", ""), edJWK("k", ""), r1}, 2, map[string]int{"EdDSA": 0, "RS256": 1}},
	} {
		set, left, err := ParseJWKS(jwks(tc.keys...), nil, false)
		if err != nil || len(left) != tc.left {
			t.Errorf("%s: left out %v, %v", name, left, err)
			continue
		}
		for algorithm, want := range tc.find {
			if found, known := set.Find("k", algorithm); len(found) != want || !known {
				t.Errorf("%s: %d keys for %s, known %v, want %d", name, len(found), algorithm, known, want)
			}
		}
	}
	// The key that names the algorithm is tried first.
	set, _, err := ParseJWKS(jwks(r1, with(r2, "RS256")), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := set.Find("k", "RS256"); len(found) != 2 || found[0].kind.alg != "RS256" {
		t.Errorf("%v", found)
	}
}

// A token without a kid is tried with a bounded number of keys.
func TestKeysWithoutAKid(t *testing.T) {
	keys := []string{rsaJWK(t, "r", 2048, "")}
	for i := range 9 {
		keys = append(keys, edJWK(fmt.Sprint(i), ""))
		set, _, err := ParseJWKS(jwks(keys...), nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if found, known := set.Find("", "EdDSA"); len(found) != min(i+1, 4) || !known {
			t.Errorf("%d keys: %d are tried", i+1, len(found))
		}
		if found, _ := set.Find("8", "EdDSA"); (len(found) == 1) != (i == 8) {
			t.Error("a key is not found by its name")
		}
	}
}

// Members that are null are as absent, wherever they stand.
func TestNullMembers(t *testing.T) {
	nulls := ""
	for _, name := range []string{"alg", "use", "key_ops", "d", "p", "q", "k", "oth", "x5c", "x5t", "x5u", "crv2"} {
		nulls += `,"` + name + `":null`
	}
	for name, key := range map[string]string{
		"RSA":      rsaJWK(t, "a", 2048, nulls+`,"crv":null,"x":null,"y":null`),
		"EC":       ecJWK(t, "a", elliptic.P256(), nulls+`,"n":null,"e":null`),
		"Ed25519":  edJWK("a", nulls+`,"y":null`),
		"kid null": strings.Replace(edJWK("a", nulls), `"kid":"a"`, `"kid":null`, 1),
	} {
		set, left, err := ParseJWKS(jwks(key), nil, false)
		if err != nil || set.Len() != 1 {
			t.Errorf("%s: %v, %v", name, left, err)
		}
	}
	for name, key := range map[string]string{
		"n":   `{"kty":"RSA","kid":"x","n":null,"e":"AQAB"}`,
		"kty": `{"kty":null,"kid":"x"}`,
		"x":   `{"kty":"OKP","crv":"Ed25519","x":null}`,
	} {
		if _, _, err := ParseJWKS(jwks(key), nil, false); err == nil {
			t.Errorf("%s is null, and the key was accepted", name)
		}
	}
}

// Keys for encryption are distinguished from invalid ones.
func TestEncryptionKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		key  string
		want bool
	}{
		"use":               {rsaJWK(t, "a", 2048, `,"use":"enc","alg":"RSA-OAEP"`), true},
		"use, other kty":    {`{"kty":"XYZ","use":"enc"}`, true},
		"alg alone":         {rsaJWK(t, "a", 2048, `,"alg":"RSA-OAEP-256"`), true},
		"ECDH":              {ecJWK(t, "a", elliptic.P256(), `,"alg":"ECDH-ES+A128KW"`), true},
		"key_ops":           {rsaJWK(t, "a", 2048, `,"key_ops":["wrapKey","unwrapKey"]`), true},
		"X25519":            {`{"kty":"OKP","crv":"X25519","x":"AA"}`, true},
		"signing operation": {rsaJWK(t, "a", 2048, `,"key_ops":["sign"]`), false},
		"another use":       {rsaJWK(t, "a", 2048, `,"use":"tls"`), false},
		"weak":              {rsaJWK(t, "a", 1024, ``), false},
		"an alg of others":  {edJWK("a", `,"alg":"RS256"`), false},
	} {
		_, left, err := ParseJWKS(jwks(edJWK("good", ""), tc.key), nil, false)
		if err != nil || len(left) != 1 || errors.Is(left[0], ErrEncryption) != tc.want {
			t.Errorf("%s: %v, %v", name, left, err)
		}
	}
}

// The error says why a set has no usable key.
func TestNoUsableKeyHasAReason(t *testing.T) {
	_, _, err := ParseJWKS(jwks(edJWK("x", `,"use":"enc"`)), nil, false)
	if err == nil || !strings.Contains(err.Error(), "no usable key: key 1: by its use it is for encryption") {
		t.Errorf("%v", err)
	}
}
