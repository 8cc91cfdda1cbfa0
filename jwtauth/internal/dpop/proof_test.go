package dpop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

const (
	access = "access-token"
	target = "https://api.example.com/orders"
)

var now = time.Unix(1_800_000_000, 0)

// holder has a key, and makes proofs with it.
type holder struct {
	alg        string
	key        crypto.PrivateKey
	jwk        map[string]any
	thumbprint string
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func newHolder(t testing.TB, alg string) *holder {
	t.Helper()
	h := &holder{alg: alg}
	var public any
	switch alg[:2] {
	case "ES":
		k, err := ecdsa.GenerateKey(map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg], rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, _ := k.PublicKey.Bytes()
		half := (len(point) - 1) / 2
		h.key, public = k, &k.PublicKey
		h.jwk = map[string]any{"kty": "EC", "crv": k.Params().Name, "x": encode(point[1 : 1+half]), "y": encode(point[1+half:])}
	case "RS", "PS":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		h.key, public = k, &k.PublicKey
		h.jwk = map[string]any{"kty": "RSA", "n": encode(k.N.Bytes()), "e": "AQAB"}
	case "Ed":
		x, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		h.key, public = k, x
		h.jwk = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(x)}
	}
	var err error
	if h.thumbprint, err = keyset.Thumbprint(public); err != nil {
		t.Fatal(err)
	}
	return h
}

// sign writes header and claims as they are given.
func (h *holder) sign(t testing.TB, header, claims any) string {
	t.Helper()
	part := func(v any) string {
		if text, ok := v.(string); ok {
			return encode([]byte(text))
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return encode(data)
	}
	text := part(header) + "." + part(claims)
	method := jwt.GetSigningMethod(strings.Replace(h.alg, "Ed25519", "EdDSA", 1))
	signature, err := method.Sign(text, h.key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

func (h *holder) header(changes ...any) map[string]any {
	return with(map[string]any{"typ": "dpop+jwt", "alg": h.alg, "jwk": h.jwk}, changes...)
}

var count int

func claims(changes ...any) map[string]any {
	count++
	sum := sha256.Sum256([]byte(access))
	return with(map[string]any{"jti": fmt.Sprint("id ", count), "htm": "POST", "htu": target, "iat": now.Unix(), "ath": encode(sum[:])}, changes...)
}

// with changes members; a nil removes one.
func with(m map[string]any, changes ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if changes[i+1] == nil {
			delete(m, name)
		} else {
			m[name] = changes[i+1]
		}
	}
	return m
}

func rules() *Rules {
	r := &Rules{MaxAge: time.Minute, Leeway: 5 * time.Second}
	r.Replays = NewMemory(r.Life(), 1000)
	return r
}

func (h *holder) request() *Request {
	return &Request{Method: "POST", Targets: []string{target}, Token: access, Thumbprint: h.thumbprint}
}

// The examples of RFC 9449 §6.1 and §7.1.
func TestRFCExample(t *testing.T) {
	const proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	at := time.Unix(1562262618, 0)
	req := &Request{
		Method: "GET", Targets: []string{"https://resource.example.org/protectedresource"},
		Token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", Thumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
	}
	r := rules()
	if err := r.Check(t.Context(), proof, req, at); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context(), proof, req, at); !errors.Is(err, ErrProof) {
		t.Errorf("a second time: %v", err)
	}
}

func TestAlgorithms(t *testing.T) {
	for _, alg := range Algorithms {
		h := newHolder(t, alg)
		r := rules()
		if err := r.Check(t.Context(), h.sign(t, h.header(), claims()), h.request(), now); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		r.Algorithms = []string{"ES256"}
		err := r.Check(t.Context(), h.sign(t, h.header(), claims()), h.request(), now)
		if (err == nil) != (alg == "ES256") {
			t.Errorf("%s where only ES256 is accepted: %v", alg, err)
		}
	}
}

func TestProofs(t *testing.T) {
	h, other := newHolder(t, "ES256"), newHolder(t, "ES256")
	private := with(h.jwk, "d", encode(make([]byte, 32)))
	hmacKey := map[string]any{"kty": "oct", "k": encode([]byte("0123456789abcdef0123456789abcdef"))}
	hmac := func() string {
		text := encode([]byte(`{"typ":"dpop+jwt","alg":"HS256","jwk":{"kty":"oct","k":"`+hmacKey["k"].(string)+`"}}`)) + "." + encode([]byte(`{}`))
		s, _ := jwt.SigningMethodHS256.Sign(text, []byte("0123456789abcdef0123456789abcdef"))
		return text + "." + encode(s)
	}
	good := h.sign(t, h.header(), claims())
	parts := strings.Split(good, ".")
	for name, tc := range map[string]struct {
		proof string
		want  error
	}{
		"good":                        {h.sign(t, h.header(), claims()), nil},
		"typ with application/":       {h.sign(t, h.header("typ", "application/dpop+jwt"), claims()), nil},
		"other members":               {h.sign(t, h.header("kid", "x"), claims("more", []any{1})), nil},
		"address in another spelling": {h.sign(t, h.header(), claims("htu", "HTTPS://API.example.com:443/a/../%6frders?q#f")), nil},
		"as old as may be":            {h.sign(t, h.header(), claims("iat", now.Unix()-64)), nil},
		"a clock ahead":               {h.sign(t, h.header(), claims("iat", now.Unix()+4)), nil},
		"exp to come":                 {h.sign(t, h.header(), claims("exp", now.Unix()+1)), nil},
		"too old":                     {h.sign(t, h.header(), claims("iat", now.Unix()-66)), ErrProof},
		"from the future":             {h.sign(t, h.header(), claims("iat", now.Unix()+6)), ErrProof},
		"expired":                     {h.sign(t, h.header(), claims("exp", now.Unix()-6)), ErrProof},
		"not yet":                     {h.sign(t, h.header(), claims("nbf", now.Unix()+6)), ErrProof},
		"iat is a text":               {h.sign(t, h.header(), claims("iat", fmt.Sprint(now.Unix()))), ErrProof},
		"no iat":                      {h.sign(t, h.header(), claims("iat", nil)), ErrProof},
		"no jti":                      {h.sign(t, h.header(), claims("jti", nil)), ErrProof},
		"empty jti":                   {h.sign(t, h.header(), claims("jti", "")), ErrProof},
		"jti is a number":             {h.sign(t, h.header(), claims("jti", 1)), ErrProof},
		"no htm":                      {h.sign(t, h.header(), claims("htm", nil)), ErrProof},
		"another method":              {h.sign(t, h.header(), claims("htm", "GET")), ErrProof},
		"method in another case":      {h.sign(t, h.header(), claims("htm", "post")), ErrProof},
		"no htu":                      {h.sign(t, h.header(), claims("htu", nil)), ErrProof},
		"another path":                {h.sign(t, h.header(), claims("htu", target+"/1")), ErrProof},
		"a slash more":                {h.sign(t, h.header(), claims("htu", target+"/")), ErrProof},
		"another host":                {h.sign(t, h.header(), claims("htu", "https://api.example.org/orders")), ErrProof},
		"another port":                {h.sign(t, h.header(), claims("htu", "https://api.example.com:444/orders")), ErrProof},
		"another scheme":              {h.sign(t, h.header(), claims("htu", "http://api.example.com/orders")), ErrProof},
		"host as user":                {h.sign(t, h.header(), claims("htu", "https://api.example.com@api.example.com/orders")), ErrProof},
		"only a path":                 {h.sign(t, h.header(), claims("htu", "/orders")), ErrProof},
		"htu is an array":             {h.sign(t, h.header(), claims("htu", []any{target})), ErrProof},
		"no ath":                      {h.sign(t, h.header(), claims("ath", nil)), ErrProof},
		"ath of another token":        {h.sign(t, h.header(), claims("ath", encode(make([]byte, 32)))), ErrProof},
		"ath with padding":            {h.sign(t, h.header(), claims("ath", claims()["ath"].(string)+"=")), ErrProof},
		"another key":                 {other.sign(t, other.header(), claims()), ErrKey},
		"another key, the right jwk":  {other.sign(t, h.header(), claims()), ErrProof},
		"the private key too":         {h.sign(t, h.header("jwk", private), claims()), ErrProof},
		"no jwk":                      {h.sign(t, h.header("jwk", nil), claims()), ErrProof},
		"jwk is a text":               {h.sign(t, h.header("jwk", "x"), claims()), ErrProof},
		"jwk is empty":                {h.sign(t, h.header("jwk", map[string]any{}), claims()), ErrProof},
		"jwk for encryption":          {h.sign(t, h.header("jwk", with(h.jwk, "use", "enc")), claims()), ErrProof},
		"jwk of another algorithm":    {h.sign(t, h.header("jwk", with(h.jwk, "alg", "ES384")), claims()), ErrProof},
		"no typ":                      {h.sign(t, h.header("typ", nil), claims()), ErrProof},
		"typ of a token":              {h.sign(t, h.header("typ", "JWT"), claims()), ErrProof},
		"another alg than the key's":  {h.sign(t, h.header("alg", "ES384"), claims()), ErrProof},
		"no alg":                      {h.sign(t, h.header("alg", nil), claims()), ErrProof},
		"alg none":                    {encode([]byte(`{"typ":"dpop+jwt","alg":"none","jwk":{}}`)) + "." + parts[1] + ".AA", ErrProof},
		"no signature":                {parts[0] + "." + parts[1] + ".", ErrProof},
		"HMAC":                        {hmac(), ErrProof},
		"crit":                        {h.sign(t, h.header("crit", []any{"exp"}), claims()), ErrProof},
		"b64":                         {h.sign(t, h.header("b64", false), claims()), ErrProof},
		"two parts":                   {parts[0] + "." + parts[1], ErrProof},
		"two proofs":                  {good + "," + good, ErrProof},
		"a space":                     {good + " ", ErrProof},
		"empty":                       {"", ErrProof},
		"too long":                    {h.sign(t, h.header(), claims("more", strings.Repeat("x", MaxLength))), ErrProof},
		"a claim twice":               {h.sign(t, h.header(), `{"jti":"a","jti":"b"}`), ErrProof},
		"jwk twice":                   {h.sign(t, `{"typ":"dpop+jwt","alg":"ES256","jwk":{},"jwk":{}}`, claims()), ErrProof},
		"claims are an array":         {h.sign(t, h.header(), `[]`), ErrProof},
		"a changed claim":             {parts[0] + "." + encode([]byte(`{"jti":"x"}`)) + "." + parts[2], ErrProof},
	} {
		err := rules().Check(t.Context(), tc.proof, h.request(), now)
		if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "example") {
			t.Errorf("%s: the error contains the proof: %v", name, err)
		}
	}
}

// A signature that does not verify must not use up the jti of one that does.
func TestForgedProofsAreNotRemembered(t *testing.T) {
	h, other := newHolder(t, "ES256"), newHolder(t, "ES256")
	r, c := rules(), claims()
	if err := r.Check(t.Context(), other.sign(t, h.header(), c), h.request(), now); !errors.Is(err, ErrProof) {
		t.Fatal(err)
	}
	if err := r.Check(t.Context(), h.sign(t, h.header(), c), h.request(), now); err != nil {
		t.Error(err)
	}
	// Nor does another client with the same jti.
	req := other.request()
	if err := r.Check(t.Context(), other.sign(t, other.header(), c), req, now); err != nil {
		t.Error(err)
	}
	if err := r.Check(t.Context(), h.sign(t, h.header(), c), h.request(), now); !errors.Is(err, ErrProof) {
		t.Errorf("used twice: %v", err)
	}
	again := h.request()
	again.Again = true
	if err := r.Check(t.Context(), h.sign(t, h.header(), c), again, now); err != nil {
		t.Errorf("again in one request: %v", err)
	}
}

func TestNonces(t *testing.T) {
	h := newHolder(t, "EdDSA")
	r := rules()
	secret, older := []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 32))
	r.Nonces = NewNonces(secret, older)
	nonce := r.Nonces.New(now)
	if nonce == r.Nonces.New(now.Add(time.Millisecond)) {
		t.Error("a nonce stays the same")
	}
	data, _ := base64.RawURLEncoding.DecodeString(nonce)
	data[3] ^= 1
	for name, tc := range map[string]struct {
		nonce any
		want  error
	}{
		"good":              {nonce, nil},
		"an older secret's": {NewNonces(older).New(now), nil},
		"at its end":        {r.Nonces.New(now.Add(-nonceLife)), nil},
		"none":              {nil, ErrNonce},
		"a number":          {1, ErrNonce},
		"old":               {r.Nonces.New(now.Add(-nonceLife - time.Millisecond)), ErrNonce},
		"of another time":   {encode(data), ErrNonce},
		"of another":        {NewNonces().New(now), ErrNonce},
		"too short":         {nonce[:8], ErrNonce},
		"padded":            {nonce + "==", ErrNonce},
	} {
		err := r.Check(t.Context(), h.sign(t, h.header(), claims("nonce", tc.nonce)), h.request(), now)
		if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A client without the key gets no nonce.
	other := newHolder(t, "EdDSA")
	if err := r.Check(t.Context(), other.sign(t, h.header(), claims()), h.request(), now); errors.Is(err, ErrNonce) {
		t.Error("a forged proof gets a nonce")
	}
}

func TestTargets(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.test":                "https://a.test/",
		"https://a.test/":               "https://a.test/",
		"https://a.test?x":              "https://a.test/",
		"HTTP://A.Test:80/B":            "http://a.test/B",
		"http://a.test:443/":            "http://a.test:443/",
		"https://a.test:/b":             "https://a.test/b",
		"https://[::1]:443/b":           "https://[::1]/b",
		"https://[::1]:8443/b":          "https://[::1]:8443/b",
		"https://a.test/%7Eb/%41%2f%e9": "https://a.test/~b/A%2F%E9",
		"https://a.test/b/./c/../d":     "https://a.test/b/d",
		"https://a.test/b/%2E%2e/c":     "https://a.test/c",
		"https://a.test/../../b/..":     "https://a.test/",
		"https://a.test/b/.":            "https://a.test/b/",
		"https://a.test//b//":           "https://a.test//b//",
		"https://a.test/b?c=d#e":        "https://a.test/b",
		"https://a.test/b.json":         "https://a.test/b.json",
		"ftp://a.test/":                 "",
		"//a.test/":                     "",
		"https:///b":                    "",
		"https://:443/b":                "",
		"https:a.test":                  "",
		"https://u:p@a.test/":           "",
		"https://a.test/%zz":            "",
		"https://a test/":               "",
		"":                              "",
	} {
		if got, err := Target(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, not %q", address, got, err, want)
		}
	}
}

// forgetful remembers nothing, so that one proof can be measured again and again.
type forgetful struct{}

func (forgetful) Seen(context.Context, ID, time.Time) bool { return false }

func BenchmarkCheck(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		b.Run(alg, func(b *testing.B) {
			h, r := newHolder(b, alg), rules()
			r.Replays = forgetful{}
			proof, req := h.sign(b, h.header(), claims()), h.request()
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Check(b.Context(), proof, req, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("another's key", func(b *testing.B) {
		h, r := newHolder(b, "ES256"), rules()
		proof, req := h.sign(b, h.header(), claims()), newHolder(b, "ES256").request()
		b.ReportAllocs()
		for b.Loop() {
			if err := r.Check(b.Context(), proof, req, now); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	b.Run("remembering", func(b *testing.B) {
		m := NewMemory(time.Minute, 200_000)
		b.ReportAllocs()
		n := uint64(0)
		for b.Loop() {
			n++
			m.Seen(b.Context(), idOf(n), now)
		}
	})
}
