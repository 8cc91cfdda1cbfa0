package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Secrets that everybody knows, or can guess, are refused.
func TestCheckSecret(t *testing.T) {
	example, err := os.ReadFile("../../../k8s/tentagate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var placeholder string
	if m := regexp.MustCompile(`JWT_SECRET_KEY: (\S{32,})`).FindSubmatch(example); m != nil {
		placeholder = string(m[1])
	}
	for text, want := range map[string]string{
		"replace-this-by-at-least-32-random-bytes":                            "placeholder of an example",
		"REPLACE_THIS_BY_AT_LEAST_32_RANDOM_BYTES":                            "placeholder of an example",
		"replace this by at least 32 random bytes!":                           "placeholder of an example",
		"prefix-replace-this-by-at-least-32-random":                           "placeholder of an example",
		"changeme-changeme-changeme-changeme":                                 "placeholder of an example",
		"Change-Me-In-Production-0123456789abcdef":                            "placeholder of an example",
		"your-256-bit-secret-your-256-bit-secret":                             "placeholder of an example",
		"a-string-secret-at-least-256-bits-long":                              "placeholder of an example",
		"Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUtY2hhbmdlLW1l":                "placeholder of an example",
		"cmVwbGFjZS10aGlzLWJ5LWF0LWxlYXN0LTMyLXJhbmRvbS1ieXRlcw==":            "placeholder of an example",
		"my-super-secret-jwt-key-for-testing-now":                             "placeholder of an example",
		"your-super-secret-jwt-token-with-at-least-32-characters-long":        "placeholder of an example",
		"thisisasecretkeyforjwtthatshouldbechangedinproduction":               "placeholder of an example",
		"mysecretkeywhichisverylongandsecureenoughforhs256algorithm":          "placeholder of an example",
		"topsecret-" + strings.Repeat("a1", 32):                               "placeholder of an example",
		"changeit-" + strings.Repeat("12345678", 5):                           "placeholder of an example",
		"topsecret-q8Zt3nVw5KxR7mPy2LdF9sGh":                                  "placeholder of an example",
		"acme-topsecret-q8Zt3nVw5KxR7mPy2LdF9sGh4JcB6aQe1UiT0oWz":             "",
		"acme-changeit-4f1c9b7e2a6d8053be7719c0d24fa6e85b3c1d90":              "",
		"YWNtZS10b3BzZWNyZXQtcThadDNuVnc1S3hSN21QeTJMZEY5c0doNEpjQjZhUWUxVWk": "",
		"JWT_SECRET_KEY_OF_THE_GATEWAY_XY":                                    "what a variable or a file is called",
		"$JWT_SECRET_KEY_OF_THE_GATEWAY_X":                                    "what a variable or a file is called",
		"${JWT_SECRET_KEY_OF_THE_GATEWAY}":                                    "what a variable or a file is called",
		"%JWT_SECRET_KEY_OF_THE_GATEWAY_X%":                                   "what a variable or a file is called",
		"env.JWT_SECRET_KEY_OF_THE_GATEWAY":                                   "what a variable or a file is called",
		"{env.JWT_SECRET_KEY_OF_THE_GATEWAY":                                  "what a variable or a file is called",
		"{{ .Values.gateway.jwt_secret_key }}":                                "what a variable or a file is called",
		"/run/secrets/tentagate/jwt_secret_key":                               "what a variable or a file is called",
		"../secrets/production/JWT_SECRET_KEY":                                "what a variable or a file is called",
		"vault://secret/data/gateway#jwt-secret":                              "what a variable or a file is called",
		"/k9Jq2mW7xT4vB9nL1cR6yH3jD5fG0sPa/QeU":                               "",
		"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXQ":                                    "",
		"{q8Zt3nVw5K,xR7mPy2LdF9sGh4JcB6aQe":                                  "",
		strings.Repeat("a", 64):                                               "1 different characters",
		strings.Repeat("\x00", 32):                                            "1 different characters",
		strings.Repeat("ab", 32):                                              "2 different characters",
		strings.Repeat("1234", 16):                                            "4 different characters",
		strings.Repeat("password", 8):                                         "7 different characters",
		strings.Repeat("12345678", 4):                                         "repeats its first 8 characters",
		strings.Repeat("correcthorse!", 4)[:45]:                               "repeats its first 13 characters",
		strings.Repeat("secret", 8):                                           "5 different characters",
		"0123456789abcdef0123456789abcdef":                                    "",
		"a-secret-of-the-tests-of-this-package-012345":                        "",
		"correct horse battery staple, and some more":                         "",
	} {
		err := CheckSecret([]byte(text))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), text)) {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := Secrets([][]byte{[]byte(text)}, nil); (err == nil) != (want == "") {
			t.Errorf("%q as a secret: %v", text, err)
		}
		set := jwks(`{"kty":"oct","kid":"a","k":"` + b64([]byte(text)) + `"}`)
		if _, _, err := ParseJWKS(set, nil, true); (err == nil) == strings.Contains(want, "placeholder") {
			t.Errorf("%q in a file of keys: %v", text, err)
		}
	}
	if placeholder != "" && CheckSecret([]byte(placeholder)) == nil {
		t.Errorf("the secret of k8s/tentagate.yaml is accepted: %s", placeholder)
	}
	for range 5000 {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret)
		for _, text := range []string{string(secret), hex.EncodeToString(secret[:16]), base64.StdEncoding.EncodeToString(secret)} {
			if err := CheckSecret([]byte(text)); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	}
}

// A public key is read in every form in which a variable can hold it.
func TestFormsOfPublicKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := func(data []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	for kind, data := range map[string][]byte{
		"PUBLIC KEY":          der(x509.MarshalPKIXPublicKey(&private.PublicKey)),
		"RSA PUBLIC KEY":      x509.MarshalPKCS1PublicKey(&private.PublicKey),
		"PUBLIC KEY of EC":    der(x509.MarshalPKIXPublicKey(&ec.PublicKey)),
		"PUBLIC KEY, Ed25519": der(x509.MarshalPKIXPublicKey(edPublic)),
		"CERTIFICATE":         der(x509.CreateCertificate(rand.Reader, template, template, edPublic, ed)),
	} {
		label, _, _ := strings.Cut(kind, " of")
		label, _, _ = strings.Cut(label, ",")
		text := string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: data}))
		for form, text := range map[string]string{
			"PEM":                        text,
			"without a last line end":    strings.TrimSpace(text),
			"\\n for line ends":          strings.ReplaceAll(text, "\n", `\n`),
			"\\n and quotes":             `"` + strings.ReplaceAll(text, "\n", `\n`) + `"`,
			"\\r\\n for line ends":       strings.ReplaceAll(text, "\n", `\r\n`),
			"CRLF":                       strings.ReplaceAll(text, "\n", "\r\n"),
			"CR":                         strings.ReplaceAll(text, "\n", "\r"),
			"spaces for line ends":       strings.ReplaceAll(text, "\n", " "),
			"nothing for line ends":      strings.ReplaceAll(text, "\n", ""),
			"indented":                   strings.ReplaceAll(text, "\n", "\n    "),
			"text around it":             "Modulus: 1\n" + text + "\nend\n",
			"base64":                     base64.StdEncoding.EncodeToString(data),
			"base64, URL alphabet":       base64.RawURLEncoding.EncodeToString(data),
			"base64 in lines":            strings.Join(strings.SplitAfter(base64.StdEncoding.EncodeToString(data), "A"), "\n"),
			"base64 of PEM":              base64.StdEncoding.EncodeToString([]byte(text)),
			"base64 without its '='":     base64.RawStdEncoding.EncodeToString(data),
			"base64 with a line end":     base64.StdEncoding.EncodeToString(data) + "\n",
			"base64 with white in front": " " + base64.StdEncoding.EncodeToString(data),
		} {
			set, known, err := PublicKeys([]byte(text), nil)
			if err != nil || !known || set.Len() != 1 {
				t.Errorf("%s, %s: known %v, %v", kind, form, known, err)
			}
		}
		two := strings.ReplaceAll(text+text, "\n", `\n`)
		if set, _, err := PublicKeys([]byte(two), nil); err != nil || set.Len() != 2 {
			t.Errorf("two: %v", err)
		}
	}
	for form, data := range map[string][]byte{"PRIVATE KEY": der(x509.MarshalPKCS8PrivateKey(ed)), "RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(private), "EC PRIVATE KEY": der(x509.MarshalECPrivateKey(ec))} {
		for _, text := range []string{base64.StdEncoding.EncodeToString(data), strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: form, Bytes: data})), "\n", `\n`)} {
			_, known, err := PublicKeys([]byte(text), nil)
			if err == nil || !known || !strings.Contains(err.Error(), "it is a private key") || strings.Contains(err.Error(), text[:20]) {
				t.Errorf("%s: known %v, %v", form, known, err)
			}
		}
	}
	for _, text := range []string{"/etc/keys/public.pem", "keys.pem", "", "abcd", strings.Repeat("A", 400)} {
		if _, known, err := PublicKeys([]byte(text), nil); known || err != nil {
			t.Errorf("%q: known %v, %v", text, known, err)
		}
	}
}
