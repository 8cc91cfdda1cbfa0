package jwtauth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/app"
)

// Every option of a provider that is resolved at load: what has no value is an
// error that names the option and the placeholder, and never a check that is off.
func TestOptionsWithoutAValue(t *testing.T) {
	t.Setenv("BLANK", " \t ")
	t.Setenv("COMMAS", " , ,")
	t.Setenv("QUOTES", "")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := "secret " + secret
	for option, others := range map[string]string{
		"issuer": key, "audience": key, "algorithms": key, "types": key, "secret": "", "public_key": "", "jwks": "", "discovery": "",
		"ca": "jwks https://a.test/keys", "token_file": "jwks https://a.test/keys",
	} {
		for _, value := range []string{"{env.UNSET_HERE}", "{env.BLANK}", "{env.QUOTES}", "{file." + empty + "}", "{file." + empty + ".absent}", "{evn.X}", "{http.request.host}", `""`, `"  "`, "x{env.UNSET_HERE}y", "{env.COMMAS}"} {
			list := option == "audience" || option == "algorithms" || option == "types"
			if value == "{env.COMMAS}" && !list {
				continue
			}
			block := "jwt_auth {\n " + others + "\n " + option + " " + value + "\n}"
			_, err := load(t, block)
			if err == nil {
				t.Errorf("%s %s: accepted", option, value)
				continue
			}
			name := strings.Trim(value, `" xy`)
			if !strings.Contains(err.Error(), option) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: the error does not name both: %v", option, value, err)
			}
		}
	}
	// One good value beside one that has none.
	for _, option := range []string{"audience a", "issuer https://a.test", "algorithms HS256", "types JWT", "secret " + other} {
		block := "jwt_auth {\n " + option + " {env.UNSET_HERE}\n"
		if !strings.HasPrefix(option, "secret") {
			block += " " + key + "\n"
		}
		if _, err := load(t, block+"}"); err == nil || !strings.Contains(err.Error(), "{env.UNSET_HERE}") {
			t.Errorf("%s: %v", option, err)
		}
	}
	for _, option := range []string{"nonce {env.UNSET_HERE}", "origins {env.BLANK}", "algorithms {env.COMMAS}", "nonce {evn.X}", "nonce aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "nonce replace-this-by-at-least-32-random-bytes"} {
		_, err := load(t, "jwt_auth {\n "+key+"\n dpop {\n "+option+"\n}\n}")
		if name, _, _ := strings.Cut(option, " "); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "replace-this") {
			t.Errorf("dpop %s: %v", option, err)
		}
	}
}

// Options take their values from variables and files.
func TestOptionsFromVariables(t *testing.T) {
	t.Setenv("ISS", "https://a.test\n")
	t.Setenv("AUD", "x, api ,")
	t.Setenv("ALG", "HS256,HS512")
	t.Setenv("TYP", "at+jwt")
	h := must(t, "jwt_auth {\n secret "+secret+"\n issuer {env.ISS} https://b.test\n audience {env.AUD}\n algorithms {env.ALG}\n types JWT {env.TYP}\n}")
	for iss, want := range map[string]int{"https://a.test": 200, "https://b.test": 200, "https://c.test": 401, "": 401} {
		if got := send(t, h, mint(t, secret, jwt.MapClaims{"iss": iss, "aud": "api"})); got != want {
			t.Errorf("%q: %d", iss, got)
		}
	}
	if got := send(t, h, mint(t, secret, jwt.MapClaims{"iss": "https://a.test"})); got != 401 {
		t.Errorf("without an audience: %d", got)
	}
}

// A secret with braces is refused without telling it, or kept with \{.
func TestSecretsWithBraces(t *testing.T) {
	t.Setenv("BRACES", "in-a-variable-{braces}-are-text-0123456789")
	for _, text := range []string{"ab{cd}ef-0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef{x}", "{a}{b}0123456789abcdef0123456789abcdef", "{JWT.secret}0123456789abcdef0123456789abcdef"} {
		_, err := load(t, "jwt_auth \""+text+"\"")
		if err == nil || !strings.Contains(err.Error(), "secret 1 of 1") || !strings.Contains(err.Error(), `\{`) || strings.Contains(err.Error(), "0123456789") || strings.Contains(err.Error(), "cd") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`ab\{cd\}ef-0123456789abcdef0123456789abcdef`: "ab{cd}ef-0123456789abcdef0123456789abcdef",
		"ab{cd-0123456789abcdef0123456789abcdef":      "ab{cd-0123456789abcdef0123456789abcdef",
		"{env.BRACES}":                                "in-a-variable-{braces}-are-text-0123456789",
	} {
		h := must(t, "jwt_auth \""+text+"\"")
		if got := send(t, h, mint(t, want, jwt.MapClaims{})); got != 200 {
			t.Errorf("%s: %d", text, got)
		}
	}
}

// Secrets that everybody knows are refused where they come from.
func TestSecretsThatCanBeGuessed(t *testing.T) {
	for text, want := range map[string]string{
		"replace-this-by-at-least-32-random-bytes": "placeholder of an example",
		strings.Repeat("a", 40):                    "different characters",
		strings.Repeat("secret", 8):                "different characters",
		"Zm9v":                                     "too short",
	} {
		t.Setenv("GUESSED", text)
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, block := range []string{"jwt_auth " + text, "jwt_auth {env.GUESSED}", "jwt_auth {file." + file + "}", "jwt_auth {\n secret " + secret + " {env.GUESSED}\n}", "jwt_auth {\n base64\n secret " + base64.StdEncoding.EncodeToString([]byte(text)) + "\n}"} {
			_, err := load(t, block)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "secret ") || strings.Contains(err.Error(), text) && text != "Zm9v" {
				t.Errorf("%.60s: %v", block, err)
			}
		}
	}
}

// A public key from a variable, in the forms that it has there; and errors that
// name the variable and show nothing of it.
func TestPublicKeysFromVariables(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := publicPEM(t, public)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := signer{"EdDSA", jwt.SigningMethodEdDSA, private}
	good := s.sign(t, s.header(), goodPayload(""))
	for name, value := range map[string]string{
		"PEM": text, "\\n": strings.ReplaceAll(text, "\n", `\n`), "one line": strings.ReplaceAll(text, "\n", " "),
		"base64": base64.StdEncoding.EncodeToString(der), "base64 of PEM": base64.StdEncoding.EncodeToString([]byte(text)),
	} {
		t.Setenv("PUBLIC", value)
		if got := send(t, must(t, "jwt_auth {\n public_key {env.PUBLIC}\n}"), good); got != 200 {
			t.Errorf("%s: %d", name, got)
		}
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PUBLIC", file)
		for _, from := range []string{file, "{env.PUBLIC}", "{file." + file + "}"} {
			if got := send(t, must(t, "jwt_auth {\n public_key "+from+"\n}"), good); got != 200 {
				t.Errorf("%s, from %s: %d", name, from, got)
			}
		}
	}
	for value, want := range map[string]string{
		base64.StdEncoding.EncodeToString(pkcs8): "it is a private key", strings.Repeat("A", 5000): "neither", "/no/such/file": "no such file", "MIIBIjANBgkqhkiG9w0BAQEFAAO": "neither",
		strings.Repeat("QUJD", 300): "neither", "-----BEGIN PUBLIC KEY-----": "no PEM block", "": "set the environment variable PUBLIC", "  ": "set the environment variable PUBLIC",
	} {
		t.Setenv("PUBLIC", value)
		_, err := load(t, "jwt_auth {\n public_key {env.PUBLIC}\n}")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "{env.PUBLIC}") || !strings.Contains(err.Error(), "public_key 1 of 1") ||
			len(strings.TrimSpace(value)) > 5 && strings.Contains(err.Error(), strings.TrimSpace(value)) {
			t.Errorf("%.30q: %v", value, err)
		}
	}
}

// What stands in a Caddyfile as it is, is checked while it is parsed, and the
// error names the option's own line.
func TestLiteralsAreCheckedWhileParsing(t *testing.T) {
	key := "secret " + secret
	for option, want := range map[string]string{
		"secret short-literal":                                                    "too short: HS256 takes at least 32",
		"secret {env.X} short-literal":                                            "secret 2 of 2: 13 bytes are too short",
		"secret replace-this-by-at-least-32-random-bytes":                         "placeholder of an example",
		"public_key \"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\"": "public_key 1 of 1",
		"discovery https://a.test/.well-known/openid-configuration":               "write the issuer alone, `discovery https://a.test`",
		"discovery https://a.test/t/v2.0/.well-known/openid-configuration?p=x":    "write the issuer alone, `discovery https://a.test/t/v2.0`",
		"discovery https://a.test/.well-known/jwks.json":                          "write the issuer alone",
		"discovery http://a.test":                                                 "`allow_http` lifts that",
		"discovery a.test":                                                        "it is not a URL",
		"jwks http://a.test/keys":                                                 "`allow_http` lifts that",
		"jwks https://a.test/.well-known/openid-configuration":                    "write `discovery https://a.test`",
		key + "\n algorithms HS265":                                               `"HS265" is not accepted: accepted are HS256`,
		key + "\n algorithms hs256":                                               `"hs256" is not accepted`,
		key + "\n algorithms RS256":                                               "does not fit the keys",
		key + "\n algorithms HS256 RS256":                                         "cannot be combined",
		key + "\n types any":                                                      `types: "any" is not the typ of any token`,
		key + "\n types JWT *":                                                    `types: "*" is not the typ of any token`,
		key + "\n issuer \"\"":                                                    "issuer: an empty value",
		key + "\n issuer https://a.test/{tenant}/":                                "{tenant} is not a placeholder that is known",
		key + "\n issuer https://a.test/{tenantid}/{tenantid}":                    "can stand in it once",
		key + "\n audience ,":                                                     "audience: \",\" has no value",
		"jwks https://a.test/keys\n base64":                                       "base64: it goes with secret",
		key + "\n leeway 6m":                                                      "at most 5m",
	} {
		lines := strings.Count(option[:strings.LastIndex(option, "\n")+1], "\n")
		if strings.HasPrefix(option, "public_key") {
			lines = 0
		}
		for place, text := range map[int]string{
			3 + lines: "jwt_auth {\n # a comment\n " + option + "\n optional\n}",
			4 + lines: "jwt_auth {\n provider a {\n # a comment\n " + option + "\n optional_exp\n}\n optional\n}",
		} {
			_, err := parsed(t, text)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), fmt.Sprintf(", at Testfile:%d", place)) {
				t.Errorf("%q: want %q at line %d: %v", option, want, place, err)
			}
			if err != nil && strings.Contains(err.Error(), "short-literal") {
				t.Errorf("the error contains the secret: %v", err)
			}
		}
		d := caddyfile.NewTestDispenser("jwt_provider a {\n " + option + "\n optional_exp\n}")
		d.Next()
		if _, _, err := parseProviderOption(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("jwt_provider: %q: %v", option, err)
		}
	}
	if _, err := parsed(t, "jwt_auth short-literal"); err == nil || !strings.Contains(err.Error(), "too short") || !strings.HasSuffix(err.Error(), ", at Testfile:1") {
		t.Errorf("the directive's own argument: %v", err)
	}
	// What has placeholders waits for the configuration to load.
	t.Setenv("KEYS", "https://a.test/keys")
	for _, block := range []string{"jwt_auth {env.NOT_SET_YET}", "jwt_auth {\n jwks {env.KEYS}\n algorithms {env.ALG}\n issuer {env.ISS}\n audience {env.AUD}\n types {env.TYP}\n}", "jwt_auth {\n jwks {env.KEYS}\n algorithms HS256\n}"} {
		if _, err := parsed(t, block); err != nil {
			t.Errorf("%s: %v", block, err)
		}
	}
}

// Errors that come up while a configuration loads name the line too: that of the
// provider, or of the directive that has it.
func TestErrorsOfLoadingNameTheLine(t *testing.T) {
	t.Setenv("SHORT", "too-short")
	t.Setenv("ALG", "HS265")
	for block, want := range map[string]string{
		"\n\njwt_auth {env.SHORT}":                                     "at Testfile:3",
		"jwt_auth {\n secret " + secret + "\n algorithms {env.ALG}\n}": `"HS265" is not accepted`,
		"\njwt_auth {\n jwks /does/not/exist\n}":                       "no such file",
		"\njwt_auth {\n provider nobody\n}":                            "provider nobody: the global option",
		"jwt_auth {\n\n provider a {\n secret {env.SHORT}\n}\n}":       "provider a: secret 1 of 1: {env.SHORT}: 9 bytes are too short: HS256 takes at least 32, HS384 48, HS512 64, at Testfile:3",
		"jwt_auth {\n provider a {\n secret " + secret + "\n}\n provider b {\n secret " + other + "\n issuer x\n}\n}":              "provider a: issuer: missing: with several providers it selects one, at Testfile:2",
		"jwt_auth {\n provider a {\n secret " + secret + "\n issuer x\n}\n provider b {\n secret " + other + "\n issuer y x\n}\n}": "provider b: issuer: provider a has the same, x: it selects one of them, at Testfile:6",
		"jwt_auth {\n ca /x\n secret " + secret + "\n}":                                                                            "ca: it is only accepted with the URL",
		"jwt_auth {\n token_file /x\n jwks /y\n}":                                                                                  "token_file: it is only accepted with the URL",
		"jwt_auth {\n token_file /does/not/exist\n jwks https://a.test\n}":                                                         "token_file: open /does/not/exist",
		"jwt_auth {\n ca /does/not/exist\n jwks https://a.test\n}":                                                                 "ca: open /does/not/exist",
		"jwt_auth {\n token_file /x\n allow_http\n jwks http://a.test\n}":                                                          "only sent over https",
		"jwt_auth {\n ca /x\n allow_http\n jwks http://a.test\n}":                                                                  "not fetched over https",
	} {
		_, err := load(t, block)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "jwt_auth: ") || !strings.Contains(err.Error(), ", at Testfile:") {
			t.Errorf("%q: want %q: %v", block, want, err)
		}
	}
}

// A provider that is defined for all handlers has the line of its definition,
// and an unknown one names those that are known.
func TestSharedProviders(t *testing.T) {
	t.Setenv("SHORT", "too-short")
	d := caddyfile.NewTestDispenser("\n\ntentagate {\n jwt_provider one {\n secret {env.SHORT}\n}\n jwt_provider two {\n secret " + secret + "\n}\n}")
	a := new(app.App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "jwt_auth: provider one: secret 1 of 1: {env.SHORT}: 9 bytes are too short: HS256 takes at least 32, HS384 48, HS512 64, at Testfile:4", "nobody": "defined are one, two"} {
		h, err := parsed(t, "jwt_auth {\n provider "+name+"\n}")
		if err != nil {
			t.Fatal(err)
		}
		h.logger = caddy.Log()
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		if err := h.provisionProviders(ctx, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		_ = h.Cleanup()
	}
}

// Where a provider stands in a file is none of its settings: what it verified is
// remembered when lines are added above it.
func TestPositionIsNotASetting(t *testing.T) {
	one := must(t, "jwt_auth {\n provider a {\n secret "+secret+"\n}\n}")
	two := must(t, "\n\njwt_auth {\n provider a {\n secret "+secret+"\n}\n}")
	if one.providers[0].generation != two.providers[0].generation || one.providers[0].Position == two.providers[0].Position {
		t.Error("a provider is another one because of its line")
	}
}

// One issuer is a text in JSON, as ever, and several are an array.
func TestIssuersInJSON(t *testing.T) {
	for text, want := range map[string]string{`{"issuer":"a"}`: `{"issuer":"a"}`, `{"issuer":["a"]}`: `{"issuer":"a"}`, `{"issuer":["a","b"]}`: `{"issuer":["a","b"]}`, `{}`: `{}`} {
		p := new(Provider)
		if err := json.Unmarshal([]byte(text), p); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got, err := json.Marshal(p); err != nil || string(got) != want {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for _, text := range []string{`{"issuer":1}`, `{"issuer":[1]}`, `{"issuer":{}}`} {
		if json.Unmarshal([]byte(text), new(Provider)) == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

// Several issuers in one provider, one of them for all tenants, beside another
// provider that names one tenant.
func TestTenantsSelectProviders(t *testing.T) {
	const tenant, own = "9188040d-6c67-4c5b-b112-36a304b66dad", "72f988bf-86f1-41af-91ab-2d7cd011db47"
	issuer := func(tenant string) string { return "https://login.microsoftonline.com/" + tenant + "/v2.0" }
	h := must(t, "jwt_auth {\n provider any {\n secret "+secret+"\n issuer https://a.test "+issuer("{tenantid}")+"\n}\n provider own {\n secret "+other+"\n issuer "+issuer(own)+"\n}\n}")
	for name, tc := range map[string]struct {
		secret string
		claims jwt.MapClaims
		want   int
	}{
		"any":                 {secret, jwt.MapClaims{"iss": issuer(tenant), "tid": tenant}, 200},
		"first issuer":        {secret, jwt.MapClaims{"iss": "https://a.test"}, 200},
		"own":                 {other, jwt.MapClaims{"iss": issuer(own), "tid": own}, 200},
		"own, by the other":   {secret, jwt.MapClaims{"iss": issuer(own), "tid": own}, 401},
		"another tenant":      {secret, jwt.MapClaims{"iss": issuer(tenant), "tid": own}, 401},
		"no tenant":           {secret, jwt.MapClaims{"iss": issuer(tenant)}, 401},
		"the text itself":     {secret, jwt.MapClaims{"iss": issuer("{tenantid}"), "tid": "{tenantid}"}, 401},
		"an issuer of nobody": {secret, jwt.MapClaims{"iss": "https://b.test"}, 401},
	} {
		if got := send(t, h, mint(t, tc.secret, tc.claims)); got != tc.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// An error about an address names the variable of the address, not that of the CA.
func TestErrorsNameTheVariableOfTheAddress(t *testing.T) {
	t.Setenv("JWT_ADDRESS_TEST", "http://issuer.test/keys")
	t.Setenv("CA_FILE_TEST", "/ca.pem")
	p := &Provider{JWKS: "{env.JWT_ADDRESS_TEST}", CA: "{env.CA_FILE_TEST}"}
	if err := p.resolve(); err == nil || !strings.Contains(err.Error(), "{env.JWT_ADDRESS_TEST}: ") {
		t.Error(err)
	}
}
