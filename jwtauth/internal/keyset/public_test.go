package keyset

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

func TestThumbprints(t *testing.T) {
	for name, tc := range map[string]struct{ key, want string }{
		"RFC 7638 §3.1": {
			`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`,
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		},
		"RFC 8037 A.3":  {`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
		"RFC 9449 §6.1": {`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"},
	} {
		members, err := token.DecodeObject(tc.key)
		if err != nil {
			t.Fatal(err)
		}
		k, err := Public(members, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := Thumbprint(k.Value); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := Thumbprint([]byte("secret")); err == nil {
		t.Error("a secret has a thumbprint")
	}
}

// A coordinate that begins with zeros keeps them.
func TestThumbprintOfShortCoordinates(t *testing.T) {
	for range 2000 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 && point[33] != 0 {
			continue
		}
		text := base64.RawURLEncoding.EncodeToString
		read, err := Public(map[string]any{"kty": "EC", "crv": "P-256", "x": text(point[1:33]), "y": text(point[33:])}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, _ := Thumbprint(&k.PublicKey); a == "" {
			t.Error("none")
		} else if b, _ := Thumbprint(read.Value); a != b {
			t.Errorf("%s and %s", a, b)
		}
		return
	}
	t.Error("no such key among 2000")
}

func TestPublicRefuses(t *testing.T) {
	const ec = `"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"`
	for key, want := range map[string]string{
		`{` + ec + `,"d":"AA"}`:                        "private",
		`{` + ec + `,"p":"AA"}`:                        "private",
		`{` + ec + `,"k":"AA"}`:                        "private",
		`{` + ec + `,"use":"enc"}`:                     "use",
		`{` + ec + `,"alg":"ES384"}`:                   "alg",
		`{"kty":"oct"}`:                                "symmetric",
		`{"kty":"EC","x":"AQ","y":"AQ","crv":"P-256"}`: "32 bytes",
		`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","crv":"P-256"}`: "",
		`{"kty":"EC","crv":"secp256k1"}`:      "curve",
		`{"kty":"RSA","n":"AQAB","e":"AQAB"}`: "RSA",
	} {
		members, err := token.DecodeObject(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Public(members, []string{"ES256", "RS256"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", key, err, want)
		}
	}
}
