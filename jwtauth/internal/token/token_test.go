package token

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signed is a token of any header and payload, properly signed.
func signed(t testing.TB, header, payload string) string {
	t.Helper()
	text := segment(header) + "." + segment(payload)
	sig, err := jwt.SigningMethodHS256.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

const plain = `{"alg":"HS256","typ":"JWT"}`

var now = time.Unix(1_800_000_000, 0)

// accept does all the work on a token.
func accept(text string, rules *Rules) error {
	tok, err := Parse(text)
	if err != nil {
		return err
	}
	if !tok.IsType([]string{"JWT", "at+jwt"}) {
		return errors.New("type")
	}
	if err := tok.Verify("HS256", key); err != nil {
		return err
	}
	claims, err := tok.Claims()
	if err != nil {
		return err
	}
	return claims.Check(rules, now)
}

// What the library alone accepts, and this package does not.
func TestHostileTokens(t *testing.T) {
	const ok = `{"sub":"a","exp":1800000100}`
	valid := signed(t, plain, ok)
	dot := strings.LastIndexByte(valid, '.')
	for name, text := range map[string]string{
		"crit":                      signed(t, `{"alg":"HS256","crit":["exp"]}`, ok),
		"empty crit":                signed(t, `{"alg":"HS256","crit":[]}`, ok),
		"b64":                       signed(t, `{"alg":"HS256","b64":false}`, ok),
		"duplicate alg":             signed(t, `{"alg":"none","alg":"HS256"}`, ok),
		"duplicate by escape":       signed(t, `{"alg":"HS256","\u0061lg":"HS256"}`, ok),
		"duplicate claim":           signed(t, plain, `{"sub":"a","sub":"b","exp":1800000100}`),
		"duplicate claim, nested":   signed(t, plain, `{"exp":1800000100,"r":{"a":1,"a":2}}`),
		"duplicate claim, in array": signed(t, plain, `{"exp":1800000100,"r":[{"a":1,"a":2}]}`),
		"invalid UTF-8 payload":     signed(t, plain, "{\"exp\":1800000100,\"sub\":\"\xff\"}"),
		"invalid UTF-8 header":      signed(t, "{\"alg\":\"HS256\",\"kid\":\"\xff\"}", ok),
		"typ of a logout token":     signed(t, `{"alg":"HS256","typ":"logout+jwt"}`, ok),
		"typ of an event":           signed(t, `{"alg":"HS256","typ":"secevent+jwt"}`, ok),
		"alg none":                  segment(`{"alg":"none"}`) + "." + segment(ok) + ".",
		"alg None, a signature":     segment(`{"alg":"None"}`) + "." + segment(ok) + ".AA",
		"alg missing":               signed(t, `{"typ":"JWT"}`, ok),
		"alg a number":              signed(t, `{"alg":1}`, ok),
		"kid a number":              signed(t, `{"alg":"HS256","kid":1}`, ok),
		"alg in another case":       signed(t, `{"alg":"hs256"}`, ok),
		"ALG":                       signed(t, `{"ALG":"HS256"}`, ok),
		"header an array":           signed(t, `["HS256"]`, ok),
		"text behind the header":    signed(t, plain+"x", ok),
		"text behind the claims":    signed(t, plain, ok+"{}"),
		"payload null":              signed(t, plain, `null`),
		"payload a text":            signed(t, plain, `"x"`),
		"payload an array":          signed(t, plain, `[]`),
		"deep payload":              signed(t, plain, `{"exp":1800000100,"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`),
		"line end in a segment":     valid[:dot-3] + "\n" + valid[dot-3:],
		"padding":                   valid + "=",
		"standard alphabet":         strings.Replace(valid, ".", "+.", 1),
		"space in front":            " " + valid,
		"four parts":                valid + ".x",
		"two parts":                 valid[:dot],
		"many dots":                 strings.Repeat(".", 10_000),
		"too long":                  signed(t, plain, `{"exp":1800000100,"x":"`+strings.Repeat("a", MaxLength)+`"}`),
		"other signature":           valid[:dot+1] + segment(strings.Repeat("x", 32)),
		"no signature":              valid[:dot+1],
		"non-canonical last bits":   nonCanonical(valid),
		"exp 0":                     signed(t, plain, `{"exp":0}`),
		"exp text":                  signed(t, plain, `{"exp":"1800000100"}`),
		"exp null":                  signed(t, plain, `{"exp":null}`),
		"exp true":                  signed(t, plain, `{"exp":true}`),
		"exp negative":              signed(t, plain, `{"exp":-1}`),
		"exp 9e18":                  signed(t, plain, `{"exp":9e18}`),
		"exp 1e19":                  signed(t, plain, `{"exp":1e19}`),
		"exp 1e400":                 signed(t, plain, `{"exp":1e400}`),
		"no exp":                    signed(t, plain, `{"sub":"a"}`),
		"EXP":                       signed(t, plain, `{"EXP":1800000100}`),
		"expired":                   signed(t, plain, `{"exp":1799999000}`),
		"nbf later":                 signed(t, plain, `{"exp":1800001000,"nbf":1800000100}`),
		"nbf 1e19":                  signed(t, plain, `{"exp":1800000100,"nbf":1e19}`),
		"nbf 1e300":                 signed(t, plain, `{"exp":1800000100,"nbf":1e300}`),
		"nbf int64 max":             signed(t, plain, `{"exp":1800000100,"nbf":9223372036854775807}`),
		"nbf text":                  signed(t, plain, `{"exp":1800000100,"nbf":"0"}`),
		"iat later":                 signed(t, plain, `{"exp":1800001000,"iat":1800000500}`),
		"aud a number":              signed(t, plain, `{"exp":1800000100,"aud":1}`),
		"aud an object":             signed(t, plain, `{"exp":1800000100,"aud":{}}`),
		"aud mixed":                 signed(t, plain, `{"exp":1800000100,"aud":["a",1]}`),
		"iss an array":              signed(t, plain, `{"exp":1800000100,"iss":["a"]}`),
		"sub a number":              signed(t, plain, `{"exp":1800000100,"sub":1}`),
	} {
		if err := accept(text, &Rules{Leeway: 30 * time.Second}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// nonCanonical changes bits of the last character that carry nothing.
func nonCanonical(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + string(alphabet[i^1])
}

func TestGoodTokens(t *testing.T) {
	for name, text := range map[string]string{
		"plain":             signed(t, plain, `{"sub":"a","exp":1800000100}`),
		"no typ":            signed(t, `{"alg":"HS256"}`, `{"exp":1800000100}`),
		"at+jwt":            signed(t, `{"alg":"HS256","typ":"application/AT+jwt"}`, `{"exp":1800000100}`),
		"keys in header":    signed(t, `{"alg":"HS256","jku":"https://evil.test","jwk":{"kty":"oct"},"x5u":"x"}`, `{"exp":1800000100}`),
		"fractions":         signed(t, plain, `{"exp":1800000100.5,"nbf":1.8e9,"iat":1799999999.25}`),
		"within the leeway": signed(t, plain, `{"exp":1799999980}`),
		"aud list":          signed(t, plain, `{"exp":1800000100,"aud":["b","api"],"iss":"me"}`),
		"white space":       signed(t, " {\"alg\" : \"HS256\"}\n", "\t{ \"exp\" : 1800000100 , \"a\" : [ 1 , { } , [ ] ] } "),
		"many claims":       signed(t, plain, manyClaims()),
		"unicode":           signed(t, plain, `{"exp":1800000100,"name":"日本\u8a9e\ud83d\ude00"}`),
	} {
		if err := accept(text, &Rules{Leeway: 30 * time.Second}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyClaims() string {
	m := map[string]any{"exp": 1800000100}
	for i := range 100 {
		m[strings.Repeat("x", i+1)] = i
	}
	data, _ := json.Marshal(m)
	return string(data)
}

func TestCheck(t *testing.T) {
	at := float64(now.Unix())
	for _, tc := range []struct {
		name   string
		claims Claims
		rules  Rules
		want   error
	}{
		{"issuer", Claims{"exp": at + 1, "iss": "a"}, Rules{Issuers: []string{"a"}}, nil},
		{"other issuer", Claims{"exp": at + 1, "iss": "a/"}, Rules{Issuers: []string{"a"}}, ErrIssuer},
		{"no issuer", Claims{"exp": at + 1}, Rules{Issuers: []string{"a"}}, ErrIssuer},
		{"audience", Claims{"exp": at + 1, "aud": "a"}, Rules{Audience: []string{"b", "a"}}, nil},
		{"other audience", Claims{"exp": at + 1, "aud": []any{"c"}}, Rules{Audience: []string{"a"}}, ErrAudience},
		{"empty audience", Claims{"exp": at + 1, "aud": []any{}}, Rules{Audience: []string{"a"}}, ErrAudience},
		{"no audience", Claims{"exp": at + 1}, Rules{Audience: []string{"a"}}, ErrAudience},
		{"exactly expired", Claims{"exp": at}, Rules{}, ErrExpired},
		{"exactly valid", Claims{"exp": at + 1, "nbf": at, "iat": at}, Rules{}, nil},
		{"age", Claims{"exp": at + 1, "iat": at - 60}, Rules{MaxAge: time.Minute}, nil},
		{"too old", Claims{"exp": at + 1, "iat": at - 61}, Rules{MaxAge: time.Minute}, errTooOld},
		{"age unknown", Claims{"exp": at + 1}, Rules{MaxAge: time.Minute}, errTooOld},
		{"life", Claims{"exp": at + 60, "iat": at}, Rules{MaxLifetime: time.Minute}, nil},
		{"long life", Claims{"exp": at + 61, "iat": at}, Rules{MaxLifetime: time.Minute}, errTooLongLife},
		{"no expiry", Claims{}, Rules{}, errNoExpiry},
		{"no expiry accepted", Claims{}, Rules{OptionalExpiry: true}, nil},
		{"not a number", Claims{"exp": math.NaN()}, Rules{}, errDate},
	} {
		if err := tc.claims.Check(&tc.rules, now); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestVerifyKeepsToTheKeysAlgorithm(t *testing.T) {
	tok, err := Parse(signed(t, plain, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{"RS256", "HS512", "none", "", "HS257"} {
		if tok.Verify(algorithm, key) == nil {
			t.Errorf("verified as %q", algorithm)
		}
	}
	if tok.Verify("HS256", "a text") == nil {
		t.Error("a key of another type verified")
	}
}

func TestPSSSaltLength(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := segment(`{"alg":"PS256"}`) + "." + segment(`{}`)
	for salt, want := range map[int]bool{rsa.PSSSaltLengthEqualsHash: true, 20: false, 0: false} {
		method := &jwt.SigningMethodRSAPSS{SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}
		sig, err := method.Sign(text, private)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Parse(text + "." + base64.RawURLEncoding.EncodeToString(sig))
		if err != nil {
			t.Fatal(err)
		}
		got := tok.Verify("PS256", &private.PublicKey) == nil
		if salt == 0 {
			continue // Go signs with the longest salt; it may equal nothing in particular
		}
		if got != want {
			t.Errorf("salt of %d: verified %v", salt, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(signed(f, plain, `{"exp":1}`))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := Parse(text)
		if err != nil {
			return
		}
		_, _ = tok.Claims()
		_ = tok.Verify("HS256", key)
		if tok.Algorithm == "" {
			t.Fatal("no algorithm")
		}
	})
}

func BenchmarkHS256(b *testing.B) {
	text := signed(b, plain, `{"sub":"user-1234","exp":1800000100,"iat":1799999000,"iss":"https://issuer.example","aud":"api","scope":"read write","roles":["a","b"],"email":"a@example.com"}`)
	b.Run("tentagate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := accept(text, &Rules{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("golang-jwt", func(b *testing.B) {
		parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithTimeFunc(func() time.Time { return now }))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parser.ParseWithClaims(text, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
