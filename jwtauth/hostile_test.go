package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// signer signs any header and payload.
type signer struct {
	alg    string
	method jwt.SigningMethod
	key    any
}

func (s signer) sign(t testing.TB, header, payload string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	sig, err := s.method.Sign(text, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func (s signer) header() string { return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, s.alg) }

func pss(method *jwt.SigningMethodRSAPSS, salt int) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{SigningMethodRSA: method.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}
}

type keys struct {
	rsa     *rsa.PrivateKey
	ec      map[string]*ecdsa.PrivateKey
	ed      ed25519.PrivateKey
	secret  []byte
	signers []signer
}

func newKeys(t testing.TB) *keys {
	t.Helper()
	k := &keys{ec: map[string]*ecdsa.PrivateKey{}, secret: []byte(strings.Repeat(secret, 2))}
	var err error
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if k.ec[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	k.signers = []signer{
		{"HS256", jwt.SigningMethodHS256, k.secret},
		{"HS384", jwt.SigningMethodHS384, k.secret},
		{"HS512", jwt.SigningMethodHS512, k.secret},
		{"RS256", jwt.SigningMethodRS256, k.rsa},
		{"RS384", jwt.SigningMethodRS384, k.rsa},
		{"RS512", jwt.SigningMethodRS512, k.rsa},
		{"PS256", pss(jwt.SigningMethodPS256, 32), k.rsa},
		{"PS384", pss(jwt.SigningMethodPS384, 48), k.rsa},
		{"PS512", pss(jwt.SigningMethodPS512, 64), k.rsa},
		{"ES256", jwt.SigningMethodES256, k.ec["ES256"]},
		{"ES384", jwt.SigningMethodES384, k.ec["ES384"]},
		{"ES512", jwt.SigningMethodES512, k.ec["ES512"]},
		{"EdDSA", jwt.SigningMethodEdDSA, k.ed},
		{"Ed25519", jwt.SigningMethodEdDSA, k.ed},
	}
	return k
}

func publicPEM(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// provider accepts the signer's tokens, and of its key all it can do.
func (s signer) provider(t testing.TB) *Provider {
	p := &Provider{Audience: []string{"api"}, Issuer: Issuers{"https://issuer.test"}}
	switch k := s.key.(type) {
	case []byte:
		p.Secrets = []string{string(k)}
	case crypto.Signer:
		p.PublicKeys = []string{publicPEM(t, k.Public())}
	}
	return p
}

// goodPayload is accepted; members are put before it.
func goodPayload(members string) string {
	if members != "" {
		members += ","
	}
	return fmt.Sprintf(`{%s"iss":"https://issuer.test","aud":"api","sub":"ann","exp":%d}`, members, time.Now().Unix()+600)
}

// withExp is the good payload with another expiry.
func withExp(exp string) string {
	return fmt.Sprintf(`{"iss":"https://issuer.test","aud":"api","sub":"ann","exp":%s}`, exp)
}

// Each hostile token is refused with 401, by each kind of key, cold and warm, and
// the valid ones are accepted.
func TestHostileCatalogue(t *testing.T) {
	k := newKeys(t)
	for _, s := range k.signers {
		t.Run(s.alg, func(t *testing.T) {
			now := time.Now().Unix()
			h := provisioned(t, &Handler{Providers: map[string]*Provider{"main": s.provider(t)}})
			head := func(members string) string { return fmt.Sprintf(`{"alg":%q,%s}`, s.alg, members) }
			plain := func(payload string) string { return s.sign(t, s.header(), payload) }
			valid := plain(goodPayload(""))
			dot := strings.LastIndexByte(valid, '.')
			input, sig := valid[:dot], valid[dot+1:]
			signature, _ := base64.RawURLEncoding.DecodeString(sig)
			resigned := func(sig []byte) string { return input + "." + b64(sig) }

			good := map[string]string{
				"plain":               valid,
				"no typ":              s.sign(t, fmt.Sprintf(`{"alg":%q}`, s.alg), goodPayload("")),
				"at+jwt":              s.sign(t, head(`"typ":"at+jwt"`), goodPayload("")),
				"application/at+jwt":  s.sign(t, head(`"typ":"application/at+JWT"`), goodPayload("")),
				"a kid":               s.sign(t, head(`"kid":"whatever"`), goodPayload("")),
				"keys in the header":  s.sign(t, head(`"jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.test","x5u":"https://evil.test","x5c":["AA"]`), goodPayload("")),
				"white space":         s.sign(t, " {\r\n \"alg\" : \""+s.alg+"\" }\t", " "+goodPayload("")+"\n"),
				"escapes":             s.sign(t, `{"\u0061lg":"`+s.alg+`"}`, goodPayload(`"n\u0061me":"\ud83d\ude00 \"x\" \\ \/ \n"`)),
				"other cases":         plain(goodPayload(`"SUB":"mallory","EXP":0,"Aud":1,"ſub":"x"`)),
				"aud in a list":       plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":["x","api"],"exp":%d}`, now+600)),
				"a fraction":          plain(withExp(fmt.Sprintf("%d.75", now+600))),
				"an exponent":         plain(withExp("2.5e10")),
				"the end of 9999":     plain(withExp("253402300799")),
				"just expired":        plain(withExp(fmt.Sprint(now - 5))),
				"nbf and iat":         plain(goodPayload(fmt.Sprintf(`"nbf":%d,"iat":%d`, now, now))),
				"every kind of value": plain(goodPayload(`"a":[1,-2.5e3,true,false,null,"x",{"b":[[],{}]}]`)),
				"names in two depths": plain(goodPayload(`"o":{"sub":"x","o":{"sub":"y"}}`)),
			}
			for name, text := range good {
				for range 2 {
					if got := send(t, h, text); got != 200 {
						t.Errorf("%s: refused with %d", name, got)
					}
				}
			}

			bad := map[string]string{
				// Form.
				"empty": "", "dots": "..", "one part": b64([]byte(s.header())), "two parts": input, "four parts": valid + ".x", "five parts, as JWE": valid + ".x.y",
				"many dots": strings.Repeat(".", 10_000), "empty header": valid[strings.IndexByte(valid, '.'):], "no signature": input + ".", "half a signature": valid[:len(valid)-len(sig)/2],
				"padding": valid + "=", "padding twice": valid + "==", "space at the end": valid + " x", "tab": valid[:9] + "\t" + valid[9:],
				"standard alphabet": input + ".+/" + sig[2:], "text behind": valid + "AAAA", "question mark": valid[:dot+3] + "?" + valid[dot+3:],
				"JSON serialization": fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, b64([]byte(goodPayload(""))), b64([]byte(s.header())), sig),
				"non-ASCII":          valid[:dot+3] + "é" + valid[dot+3:],
				"too long":           plain(goodPayload(`"x":"` + strings.Repeat("x", 16<<10) + `"`)),
				// Header.
				"crit": s.sign(t, head(`"crit":["exp"],"exp":1`), goodPayload("")), "crit empty": s.sign(t, head(`"crit":[]`), goodPayload("")), "crit null": s.sign(t, head(`"crit":null`), goodPayload("")),
				"b64 false": s.sign(t, head(`"b64":false`), goodPayload("")), "b64 and crit": s.sign(t, head(`"b64":false,"crit":["b64"]`), goodPayload("")),
				"alg twice": s.sign(t, head(`"alg":"none"`), goodPayload("")), "alg twice by escape": s.sign(t, head(`"\u0061lg":"none"`), goodPayload("")),
				"kid twice": s.sign(t, head(`"kid":"a","kid":"a"`), goodPayload("")), "a name twice, deep": s.sign(t, head(`"x":{"a":{"b":1,"b":1}}`), goodPayload("")),
				"header not UTF-8": s.sign(t, head("\"kid\":\"\xff\""), goodPayload("")), "header half a pair": s.sign(t, head(`"kid":"\ud800"`), goodPayload("")),
				"header an array": s.sign(t, `["`+s.alg+`"]`, goodPayload("")), "header a text": s.sign(t, `"x"`, goodPayload("")), "header null": s.sign(t, `null`, goodPayload("")),
				"text behind the header": s.sign(t, s.header()+"{}", goodPayload("")), "comment": s.sign(t, "{/**/"+s.header()[1:], goodPayload("")), "byte order mark": s.sign(t, "\ufeff"+s.header(), goodPayload("")),
				"alg missing": s.sign(t, `{"typ":"JWT"}`, goodPayload("")), "alg empty": s.sign(t, `{"alg":""}`, goodPayload("")), "alg null": s.sign(t, `{"alg":null}`, goodPayload("")),
				"alg a number": s.sign(t, `{"alg":256}`, goodPayload("")), "alg a list": s.sign(t, `{"alg":["`+s.alg+`"]}`, goodPayload("")), "ALG": s.sign(t, `{"ALG":"`+s.alg+`"}`, goodPayload("")),
				"alg in lower case": s.sign(t, `{"alg":"`+swapCase(s.alg)+`"}`, goodPayload("")), "alg with a space": s.sign(t, `{"alg":"`+s.alg+` "}`, goodPayload("")), "unknown alg": s.sign(t, `{"alg":"XX256"}`, goodPayload("")),
				"alg ES256K": s.sign(t, `{"alg":"ES256K"}`, goodPayload("")), "alg Ed448": s.sign(t, `{"alg":"Ed448"}`, goodPayload("")), "alg dir": s.sign(t, `{"alg":"dir","enc":"A128GCM"}`, goodPayload("")),
				"typ of an event": s.sign(t, head(`"typ":"secevent+jwt"`), goodPayload("")), "typ of a logout": s.sign(t, head(`"typ":"logout+jwt"`), goodPayload("")), "typ of a proof": s.sign(t, head(`"typ":"dpop+jwt"`), goodPayload("")),
				"typ a number": s.sign(t, head(`"typ":1`), goodPayload("")), "typ null": s.sign(t, head(`"typ":null`), goodPayload("")), "kid a number": s.sign(t, head(`"kid":1`), goodPayload("")), "kid an object": s.sign(t, head(`"kid":{}`), goodPayload("")),
				"deep header": s.sign(t, head(`"x":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)), goodPayload("")),
				// Signature.
				"other payload": b64([]byte(s.header())) + "." + b64([]byte(goodPayload(`"admin":true`))) + "." + sig, "signature of zeros": resigned(make([]byte, len(signature))),
				"signature with a zero in front": resigned(append([]byte{0}, signature...)), "signature with a zero behind": resigned(append(slices.Clip(signature), 0)),
				"signature of one byte": input + ".AA", "signature flipped": resigned(append([]byte{signature[0] ^ 1}, signature[1:]...)),
				"huge signature": input + "." + strings.Repeat("A", 8000),
				// Payload.
				"payload null": plain("null"), "payload an array": plain("[]"), "payload a text": plain(`"x"`), "payload a number": plain("1"), "payload empty": plain(""), "payload empty object": plain("{}"),
				"claim twice": plain(goodPayload(`"sub":"bob"`)), "claim twice by escape": plain(goodPayload(`"s\u0075b":"bob"`)), "claim twice, deep": plain(goodPayload(`"r":[{"a":1,"a":2}]`)), "exp twice": plain(goodPayload(`"exp":9999999999`)),
				"payload not UTF-8": plain(goodPayload("\"x\":\"\xc3\x28\"")), "overlong UTF-8": plain(goodPayload("\"x\":\"\xc0\xaf\"")), "half a pair": plain(goodPayload(`"x":"\udc00"`)), "NUL in a text": plain(goodPayload("\"x\":\"\x00\"")),
				"text behind the payload": plain(goodPayload("") + "x"), "two payloads": plain(goodPayload("") + goodPayload("")), "comma at the end": plain(strings.TrimSuffix(goodPayload(""), "}") + ",}"), "no closing brace": plain(strings.TrimSuffix(goodPayload(""), "}")),
				"single quotes": plain(strings.ReplaceAll(goodPayload(""), `"`, "'")), "NaN": plain(goodPayload(`"x":NaN`)), "leading zero": plain(goodPayload(`"x":01`)), "plus": plain(goodPayload(`"x":+1`)), "hexadecimal": plain(goodPayload(`"x":0x10`)), "1e400": plain(goodPayload(`"x":1e400`)),
				"deep payload": plain(goodPayload(`"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100))), "deep objects": plain(goodPayload(`"x":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100))),
				// Times.
				"expired": plain(withExp(fmt.Sprint(now - 60))), "exp 0": plain(withExp("0")), "exp -1": plain(withExp("-1")), "exp a text": plain(withExp(fmt.Sprintf(`"%d"`, now+600))), "exp null": plain(withExp("null")), "exp true": plain(withExp("true")), "exp a list": plain(withExp(fmt.Sprintf("[%d]", now+600))), "exp an object": plain(withExp("{}")),
				"exp 9e18": plain(withExp("9e18")), "exp 1e19": plain(withExp("1e19")), "exp 1e300": plain(withExp("1e300")), "exp 1e400": plain(withExp("1e400")), "exp after 9999": plain(withExp("253402300800")), "exp int64": plain(withExp("9223372036854775807")), "exp uint64": plain(withExp("18446744073709551616")),
				"no exp": plain(`{"iss":"https://issuer.test","aud":"api"}`), "EXP": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":"api","EXP":%d}`, now+600)),
				"nbf later": plain(goodPayload(fmt.Sprintf(`"nbf":%d`, now+300))), "nbf 1e19": plain(goodPayload(`"nbf":1e19`)), "nbf 1e300": plain(goodPayload(`"nbf":1e300`)), "nbf int64": plain(goodPayload(`"nbf":9223372036854775807`)), "nbf a text": plain(goodPayload(`"nbf":"0"`)), "nbf null": plain(goodPayload(`"nbf":null`)), "nbf -1": plain(goodPayload(`"nbf":-1`)),
				"iat later": plain(goodPayload(fmt.Sprintf(`"iat":%d`, now+300))), "iat a text": plain(goodPayload(`"iat":"0"`)), "iat 1e19": plain(goodPayload(`"iat":1e19`)),
				// Other claims.
				"other iss": plain(fmt.Sprintf(`{"iss":"https://issuer.test/","aud":"api","exp":%d}`, now+600)), "iss a list": plain(fmt.Sprintf(`{"iss":["https://issuer.test"],"aud":"api","exp":%d}`, now+600)), "no iss": plain(fmt.Sprintf(`{"aud":"api","exp":%d}`, now+600)), "ISS": plain(fmt.Sprintf(`{"ISS":"https://issuer.test","aud":"api","exp":%d}`, now+600)),
				"other aud": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":"API","exp":%d}`, now+600)), "aud a number": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":1,"exp":%d}`, now+600)), "aud an object": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":{"api":1},"exp":%d}`, now+600)),
				"aud mixed": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":["api",1],"exp":%d}`, now+600)), "aud null": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":null,"exp":%d}`, now+600)), "aud empty": plain(fmt.Sprintf(`{"iss":"https://issuer.test","aud":[],"exp":%d}`, now+600)), "no aud": plain(fmt.Sprintf(`{"iss":"https://issuer.test","exp":%d}`, now+600)),
				"sub a number": plain(strings.Replace(goodPayload(""), `"ann"`, "1", 1)), "sub an object": plain(strings.Replace(goodPayload(""), `"ann"`, "{}", 1)), "sub null": plain(strings.Replace(goodPayload(""), `"ann"`, "null", 1)),
			}
			for _, c := range []string{"none", "None", "NONE", "nOnE", " none"} {
				header := b64([]byte(`{"alg":"` + c + `"}`))
				bad["alg "+c+", no signature"] = header + "." + b64([]byte(goodPayload(""))) + "."
				bad["alg "+c+", its signature"] = header + "." + b64([]byte(goodPayload(""))) + "." + sig
				bad["alg "+c+", any signature"] = header + "." + b64([]byte(goodPayload(""))) + ".AAAA"
			}
			// Tokens of the other keys, under their names and under this one's.
			for _, o := range k.signers {
				if o.alg != s.alg && !sameKey(o, s) {
					bad["of "+o.alg] = o.sign(t, o.header(), goodPayload(""))
					bad["of "+o.alg+" by this name"] = o.sign(t, s.header(), goodPayload(""))
				} else if o.alg != s.alg && o.method != s.method {
					bad["as "+o.alg] = s.sign(t, o.header(), goodPayload(""))
				}
			}
			// A public key taken for a secret, in each form in which it is public.
			if private, ok := s.key.(crypto.Signer); ok {
				der, err := x509.MarshalPKIXPublicKey(private.Public())
				if err != nil {
					t.Fatal(err)
				}
				text := publicPEM(t, private.Public())
				for name, secret := range map[string][]byte{"PEM": []byte(text), "PEM, trimmed": []byte(strings.TrimSpace(text)), "DER": der, "nothing": {}, "a zero": {0}} {
					input := b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(goodPayload("")))
					mac := hmac.New(sha256.New, secret)
					mac.Write([]byte(input))
					bad["HS256 by "+name] = input + "." + b64(mac.Sum(nil))
				}
			}
			// An own key in the header.
			evil, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			own := fmt.Sprintf(`"jwk":{"kty":"RSA","n":%q,"e":"AQAB"}`, b64(evil.N.Bytes()))
			bad["own jwk"] = signer{"RS256", jwt.SigningMethodRS256, evil}.sign(t, `{"alg":"RS256",`+own+`}`, goodPayload(""))
			switch key := s.key.(type) {
			case *ecdsa.PrivateKey:
				size := (key.Params().BitSize + 7) / 8
				n := key.Params().N.FillBytes(make([]byte, size))
				zero := make([]byte, size)
				for name, pair := range map[string][]byte{"r and s 0": append(zero[:size:size], zero...), "r and s n": append(n[:size:size], n...), "s 0": append(signature[:size:size], zero...), "r 0": append(zero[:size:size], signature[size:]...)} {
					bad["ECDSA "+name] = resigned(pair)
				}
				r, sv := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
				sum := append(new(big.Int).Add(r, key.Params().N).Bytes(), sv.FillBytes(make([]byte, size))...)
				bad["ECDSA r + n"] = resigned(sum)
				hash := map[string]crypto.Hash{"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512}[s.alg].New()
				hash.Write([]byte(input))
				der, err := ecdsa.SignASN1(rand.Reader, key, hash.Sum(nil))
				if err != nil {
					t.Fatal(err)
				}
				bad["ECDSA in DER"] = resigned(der)
			case *rsa.PrivateKey:
				if m, ok := s.method.(*jwt.SigningMethodRSAPSS); ok {
					for _, salt := range []int{0 /* the longest */, 1, 20, m.Hash.Size() - 1, m.Hash.Size() + 1} {
						bad[fmt.Sprint("salt of ", salt)] = signer{s.alg, &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}, key}.sign(t, s.header(), goodPayload(""))
					}
				}
			}
			for name, text := range bad {
				for range 2 {
					if got := send(t, h, text); got != 401 {
						t.Errorf("%s: %d", name, got)
					}
				}
			}
			// Bits of the last character that carry nothing.
			for _, text := range nonCanonical(valid) {
				if got := send(t, h, text); got != 401 {
					t.Errorf("non-canonical last bits: %d", got)
				}
			}
			t.Logf("%d good, %d hostile", len(good), len(bad))
		})
	}
}

func sameKey(a, b signer) bool { return fmt.Sprintf("%v", a.key) == fmt.Sprintf("%v", b.key) }

func swapCase(s string) string {
	if l := strings.ToLower(s); l != s {
		return l
	}
	return strings.ToUpper(s)
}

// nonCanonical returns the token with other last characters that decode to the
// same bytes.
func nonCanonical(text string) (list []string) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	sig := text[strings.LastIndexByte(text, '.')+1:]
	want, _ := base64.RawURLEncoding.DecodeString(sig)
	for _, c := range alphabet {
		if other := sig[:len(sig)-1] + string(c); other != sig {
			if got, err := base64.RawURLEncoding.DecodeString(other); err == nil && string(got) == string(want) {
				list = append(list, text[:len(text)-1]+string(c))
			}
		}
	}
	return list
}

// Line ends in a token cannot come through an HTTP field; a query can bring
// them.
func TestLineEndsInAQuery(t *testing.T) {
	h := must(t, "jwt_auth "+secret+" {\n sources query:t\n}")
	text := mint(t, secret, jwt.MapClaims{"sub": "ann"})
	for _, bad := range []string{text[:20] + "\n" + text[20:], text + "\r\n", "\n" + text, text + "\x00", " " + text} {
		if _, _, err := h.verify(prepared("", nil), bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Keys that must not be used are refused when they are read.
func TestWeakKeysAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	mixed, _ := json.Marshal(map[string]any{"keys": []any{
		map[string]string{"kty": "oct", "kid": "a", "k": b64(make([]byte, 32))},
		map[string]string{"kty": "OKP", "kid": "b", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
	}})
	if err := os.WriteFile(path, mixed, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*Provider{
		"RSA of 1024 bits":      {PublicKeys: []string{publicPEM(t, &small.PublicKey)}},
		"P-224":                 {PublicKeys: []string{publicPEM(t, &p224.PublicKey)}},
		"ES384 with P-256":      {PublicKeys: []string{publicPEM(t, &p256.PublicKey)}, Algorithms: []string{"ES384"}},
		"31 bytes":              {Secrets: []string{strings.Repeat("x", 31)}},
		"47 bytes for HS384":    {Secrets: []string{strings.Repeat("x", 47)}, Algorithms: []string{"HS384"}},
		"63 bytes for HS512":    {Secrets: []string{strings.Repeat("x", 63)}, Algorithms: []string{"HS512"}},
		"base64 of 24 bytes":    {Secrets: []string{secret}, Base64: true},
		"HS and RS":             {Secrets: []string{secret}, Algorithms: []string{"HS256", "RS256"}},
		"RS and HS, a key file": {JWKS: path, Algorithms: []string{"RS256", "HS256"}},
		"secrets beside others": {JWKS: path},
		"a secret for RS256":    {Secrets: []string{secret}, Algorithms: []string{"RS256"}},
		"a public key for HS":   {PublicKeys: []string{publicPEM(t, &p256.PublicKey)}, Algorithms: []string{"HS256"}},
	} {
		if err := provision(t, &Handler{Providers: map[string]*Provider{"main": p}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := provision(t, &Handler{Providers: map[string]*Provider{"main": {Secrets: []string{"Zm9v" + b64([]byte(secret))}, Base64: true}}}); err != nil {
		t.Errorf("base64 of 35 bytes: %v", err)
	}
}
