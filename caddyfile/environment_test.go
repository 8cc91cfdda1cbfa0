package caddyfile

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
)

// clearEnvironment removes what the tester's own environment may have.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, "JWT_") || strings.HasSuffix(name, envServiceSuffix) || name == envServices || name == envOrigins || name == "REDIS_URL" {
			t.Setenv(name, "")
		}
	}
}

// describe writes services as name=upstream|upstream+prefix.
func describe(services []*service) string {
	var parts []string
	for _, s := range services {
		parts = append(parts, s.name+"="+strings.Join(s.upstreams, "|")+s.prefix)
	}
	return strings.Join(parts, " ")
}

// expect compares a result, or a part of an error that begins with "error: ".
func expect(t *testing.T, got string, err error, want string) {
	t.Helper()
	if part, ok := strings.CutPrefix(want, "error: "); ok {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, error %v, want an error with %q", got, err, part)
		}
		return
	}
	if err != nil || got != want {
		t.Errorf("got %q, error %v, want %q", got, err, want)
	}
}

func TestParseServices(t *testing.T) {
	for text, want := range map[string]string{
		// JSON
		`{"users":"http://users:8000"}`:                         "users=http://users:8000",
		"{\n \"b\" : \"http://b\" ,\n\t\"a\":[\"https://a\"] }": "b=http://b:80 a=https://a:443",
		`{"o":["http://o1:1","http://o2:2/"]}`:                  "o=http://o1:1|http://o2:2",
		`{"v":"h2c://v:50051/a%20b/"}`:                          "v=h2c://v:50051/a%20b",
		`{"six":"http://[::1]:8000","s":"http://10.0.0.1"}`:     "six=http://[::1]:8000 s=http://10.0.0.1:80",
		`{"my_service.v1-2":"http://my_service:1"}`:             "my_service.v1-2=http://my_service:1",
		`{}`:                                             "error: it names no service",
		`{"users":"http://users:8000"`:                   "error: character 28: it is not JSON",
		`{"users":"http://users:8000",}`:                 "error: character 30: it is not JSON",
		`{"users":"http://a"} x`:                         "error: character 22: it is not JSON",
		`{'users':'http://users:8000'}`:                  "error: character 2: it is not JSON: the double quotes are missing",
		`{users:http://users:8000}`:                      "error: a shell takes them away unless single quotes are around the value",
		`{"users":'http://users:8000'}`:                  "error: JSON has double quotes, not single ones",
		`{"users":null}`:                                 "error: character 2: service users: its value is neither a URL nor a list",
		`{"users":8000}`:                                 "error: its value is neither a URL",
		`{"users":{"url":"http://a"}}`:                   "error: its value is neither a URL",
		`{"users":["http://a",null]}`:                    "error: its value is neither a URL",
		`{"users":[]}`:                                   "error: service users: no address",
		`{"users":["http://a","http://a:80"]}`:           "error: address 2 of 2: http://a:80 is given more than once",
		`{"a":"http://a","b":"http://b","a":"http://c"}`: "error: character 32: service a: given more than once",
		`{"a":"http://a","A":"http://c"}`:                "error: character 17: service A: given more than once",
		`{"":"http://a"}`:                                "error: service name \"\": accepted are",
		`{"..":"http://a"}`:                              "error: service name \"..\"",
		`{"a/b":"http://a"}`:                             "error: service name",
		`{"a b":"http://a"}`:                             "error: service name",
		`{"{env.X}":"http://a"}`:                         "error: service name",
		`{"` + strings.Repeat("a", 65) + `":"http://a"}`: "error: 1 to 64",
		`["http://a"]`:                                   "error: character 1: it begins with \"[\"",
		`'{"users":"http://users:8000"}'`:                "error: character 1: the quotes are part of the value",
		`"http://a"`:                                     "error: character 1",
		`{"a":"http://user:pw@h"}`:                       "error: user name or password",
		`{"a":"http://h?x=1"}`:                           "error: it has a query",
		`{"a":"http://h?"}`:                              "error: it has a query",
		`{"a":"http://h#f"}`:                             "error: it has a fragment",
		`{"a":"http://h/../x"}`:                          "error: dot segment",
		`{"a":"http://h/%2e%2e/x"}`:                      "error: dot segment",
		`{"a":"http://h:0"}`:                             "error: port 0 is not a number from 1 to 65535",
		`{"a":"http://h:65536"}`:                         "error: port 65536",
		`{"a":"http://h:"}`:                              "error: there is no port behind the colon",
		`{"a":"http://h:port"}`:                          "error: is not a URL",
		`{"a":"http://"}`:                                "error: is not a URL",
		`{"a":"http:h"}`:                                 "error: is not a URL",
		`{"a":"//h:1"}`:                                  "error: is not a URL",
		`{"a":"ws://h"}`:                                 "error: scheme ws is not accepted",
		`{"a":"unix:///run/a"}`:                          "error: is not a URL",
		`{"a":"http://{env.HOST}"}`:                      "error: an address with a scheme cannot have a placeholder",
		`{"a":"http://h h"}`:                             "error: is not a URL",
		`{"a":"http://h/a b"}`:                           "error: a space or a control character",
		`{"a":"http://a,b"}`:                             "error: is not a host",
		`{"a":["http://a/x","http://b/y"]}`:              `error: address 2 of 2: path "/y": all addresses of a service have the same, and the first has "/x"`,
		`{"a":["http://a","h2c://b"]}`:                   "error: address 2 of 2: scheme h2c",
		`users=http://users:8000`:                        "users=http://users:8000",
		` users = http://users:8000 , orders=https://o.example.com/v1,`: "users=http://users:8000 orders=https://o.example.com:443/v1",
		`users`:                  "error: entry 1 of 1: it has no name",
		`a=http://a,,b=http://b`: "error: entry 2 of 3: it has no name",
		`a=http://a,a=http://b`:  "error: entry 2 of 2: service a: given more than once",
		`http://a/?x=http://b`:   "error: entry 1 of 1: it has no name",
		`a=`:                     "error: entry 1 of 1: service a: \"\" is not a URL",
	} {
		t.Run(text, func(t *testing.T) {
			services, err := parseServices(strings.TrimSpace(text))
			expect(t, describe(services), err, want)
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestServicesOfVariables(t *testing.T) {
	for text, want := range map[string]string{
		"USERS_SERVICE_URL=http://users:8000\nHOME=/":                        "users=http://users:8000",
		"B_SERVICE_URL=http://b\nA_B_SERVICE_URL=http://a1:1, http://a2:2":   "a-b=http://a1:1|http://a2:2 b=http://b:80",
		"EMPTY_SERVICE_URL= \n_SERVICE_URL=http://a\nUSERS_SERVICE_HOST=a.b": "",
		"USERS_SERVICE_URL=users":                                            "error: USERS_SERVICE_URL: service users: \"users\" is not a URL",
		"A_SERVICE_URL=http://a\na_SERVICE_URL=http://b":                     "error: a_SERVICE_URL: service a: given more than once",
	} {
		services, err := servicesOfVariables(strings.Split(text, "\n"))
		expect(t, describe(services), err, want)
	}
}

func TestParseOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"":  "[]",
		"*": "[*]",
		"https://a.example.com, https://b.example.com/,": "[https://a.example.com https://b.example.com]",
		"HTTPS://A.example.com:443":                      "[https://a.example.com]",
		`["https://a.example.com","http://localhost:*"]`: "[https://a.example.com http://localhost:*]",
		`["https://a.example.com"`:                       "error: not a valid JSON list",
		`["https://a.example.com", 5]`:                   "error: JSON list",
		"https://a.example.com https://b.example.com":    "error: entry 1 of 1",
		"https://a.example.com,{x}":                      "error: entry 2 of 2",
		`"https://a.example.com"`:                        "error: entry 1 of 1",
		"https://a.example.com,app.example.com":          `error: entry 2 of 2: origin "app.example.com": it has no scheme`,
		"https://a.example.com/app":                      "error: entry 1 of 1",
		"https://a.example.com,,https://b.example.com":   "error: entry 2 of 3",
		`["https://a.example.com","null"]`:               "error: entry 2 of 2",
		"https://a.example.com,*":                        "error: entry 2 of 2: origin *",
		"https://a.example.com:99999":                    "error: entry 1 of 1",
		"https://a.example.com,https://*.github.io":      `error: entry 2 of 2: origin "https://*.github.io": anybody can register a name under github.io`,
		" , ": "error: entry 1 of 1",
	} {
		origins, err := parseOrigins(text)
		expect(t, fmt.Sprint(origins), err, want)
	}
}

func TestBlankVariables(t *testing.T) {
	for _, name := range []string{
		envServices, envOrigins, envSecret, envSecretFile, envPublicKey, envJWKS, envDiscovery,
		envAlgorithm, envIssuer, envAudience, envAllowHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv(envSecret, "a")
			t.Setenv(name, " \t")
			_, services := servicesOfEnvironment()
			_, origins := originsOfEnvironment()
			_, auth := authOfEnvironment(nil, "")
			if err := errors.Join(services, origins, auth); err == nil || !strings.Contains(err.Error(), name+": it contains only white space") {
				t.Errorf("got %v, want an error that names the variable", err)
			}
		})
	}
}

func TestAuthOfEnvironment(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "[[secret {env.JWT_SECRET_KEY}] [algorithms HS256]]",
		"JWT_SECRET_KEY=not-read": "[[secret {env.JWT_SECRET_KEY}] [algorithms HS256]]",
		"JWT_SECRET_KEY=x JWT_ALGORITHM=HS512 JWT_ISSUER=i JWT_AUDIENCE=a,b":    "[[secret {env.JWT_SECRET_KEY}] [algorithms HS512] [issuer i] [audience a b]]",
		"JWT_SECRET_KEY_FILE=/run/secrets/jwt":                                  "[[secret {file./run/secrets/jwt}] [algorithms HS256]]",
		"JWT_PUBLIC_KEY=/keys/a.pem":                                            "[[public_key {env.JWT_PUBLIC_KEY}]]",
		"JWT_PUBLIC_KEY=/keys/a.pem JWT_ALGORITHM=Ed25519":                      "[[public_key {env.JWT_PUBLIC_KEY}] [algorithms Ed25519]]",
		"JWT_JWKS_URL=https://i/keys JWT_ALGORITHM=RS256,ES256 JWT_SECRET_KEY=": "[[jwks {env.JWT_JWKS_URL}] [algorithms RS256 ES256]]",
		"JWT_JWKS_URL=https://i/keys JWT_ALGORITHM=EdDSA,Ed25519":               "[[jwks {env.JWT_JWKS_URL}] [algorithms EdDSA Ed25519]]",
		"JWT_JWKS_URL=http://keycloak:8080/certs JWT_ALLOW_HTTP=true":           "[[jwks {env.JWT_JWKS_URL}] [allow_http]]",
		"JWT_JWKS_URL=http://keycloak:8080/certs JWT_ALLOW_HTTP=0":              "[[jwks {env.JWT_JWKS_URL}]]",
		"JWT_DISCOVERY_URL=http://keycloak:8080/realm JWT_ALLOW_HTTP=1":         "[[discovery {env.JWT_DISCOVERY_URL}] [allow_http]]",
		"JWT_JWKS_URL=http://keycloak:8080/certs JWT_ALLOW_HTTP=keycloak":       "error: JWT_ALLOW_HTTP: \"keycloak\": accepted are true and false",
		"JWT_DISCOVERY_URL=https://i":                                           "[[discovery {env.JWT_DISCOVERY_URL}]]",
		"JWT_SECRET_KEY=a JWT_PUBLIC_KEY=b JWT_DISCOVERY_URL=c":                 "error: JWT_SECRET_KEY and JWT_PUBLIC_KEY and JWT_DISCOVERY_URL are all set",
		"JWT_SECRET_KEY=a JWT_ALGORITHM=none":                                   "error: JWT_ALGORITHM: unknown algorithm \"none\": accepted are HS256, HS384, HS512",
		"JWT_SECRET_KEY=a JWT_ALGORITHM=RS256":                                  "error: RS256 verifies with a public key",
		"JWT_SECRET_KEY=a JWT_ALGORITHM=Ed25519":                                "error: Ed25519 verifies with a public key",
		"JWT_JWKS_URL=a JWT_ALGORITHM=HS256":                                    "error: HS256 verifies with a secret, but there are public keys",
		"JWT_SECRET_KEY_FILE={env.JWT_SECRET_KEY}":                              "error: JWT_SECRET_KEY_FILE: \"{env.JWT_SECRET_KEY}\" is not a path",
		"JWT_SECRET_KEY=a JWT_ISSUER={env.JWT_SECRET_KEY}":                      "error: JWT_ISSUER",
		"JWT_SECRET_KEY=a JWT_AUDIENCE=b,{x}":                                   "error: JWT_AUDIENCE: \"{x}\"",
		"JWT_SECRET_KEY=a JWT_AUDIENCE=,":                                       "error: JWT_AUDIENCE: \",\" has no value",
		"JWT_SECRET_KEY=a JWT_ALGORITHM=,,":                                     "error: JWT_ALGORITHM: \",,\" has no value",

		// What is written in the block.
		"WRITTEN=audience JWT_AUDIENCE=a JWT_ISSUER=i":         "[[secret {env.JWT_SECRET_KEY}] [algorithms HS256] [issuer i]]",
		"WRITTEN=algorithms JWT_SECRET_KEY=a":                  "[[secret {env.JWT_SECRET_KEY}]]",
		"WRITTEN=secret JWT_SECRET_KEY=a":                      "[]",
		"WRITTEN=secret JWT_ALGORITHM=HS384":                   "[[algorithms HS384]]",
		"WRITTEN=secret JWT_ALGORITHM=RS256":                   "error: RS256 verifies with a public key",
		"WRITTEN=discovery JWT_ALGORITHM=HS256":                "error: HS256 verifies with a secret, but there are public keys",
		"WRITTEN=discovery JWT_SECRET_KEY=a JWT_PUBLIC_KEY=b":  "[]",
		"WRITTEN=jwks JWKS=/keys.json JWT_ALGORITHM=HS256":     "[[algorithms HS256]]",
		"WRITTEN=jwks JWKS=https://i/keys JWT_ALGORITHM=HS256": "error: HS256 verifies with a secret",
		"WRITTEN=jwks JWKS=https://i/keys JWT_AUDIENCE=a":      "[[audience a]]",
	} {
		t.Run(text, func(t *testing.T) {
			clearEnvironment(t)
			given, jwks := map[string]bool{}, ""
			for assignment := range strings.FieldsSeq(text) {
				switch name, value, _ := strings.Cut(assignment, "="); name {
				case "WRITTEN":
					given[value] = true
				case "JWKS":
					jwks = value
				default:
					t.Setenv(name, value)
				}
			}
			lines, err := authOfEnvironment(given, jwks)
			expect(t, fmt.Sprint(lines), err, want)
		})
	}
}

func FuzzParseServices(f *testing.F) {
	for _, seed := range []string{
		`{"users":"http://users:8000","orders":["http://o1:8000/v1","http://o2:8000/v1"]}`, `users=http://u:1,orders=h2c://o:2/x`, `{"a":{}}`, `{'a':'b'}`, `{"\u0061":"http:\/\/a"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		services, err := parseServices(text)
		if err != nil {
			return
		}
		if len(services) == 0 {
			t.Fatal("no services and no error")
		}
		names := map[string]bool{}
		for _, s := range services {
			key := strings.ToLower(s.name)
			if names[key] || url.PathEscape(s.name) != s.name || s.name == "." || s.name == ".." {
				t.Errorf("name %q", s.name)
			}
			names[key] = true
			for _, upstream := range s.upstreams {
				u, err := url.Parse(upstream)
				if err != nil || u.Host == "" || u.Port() == "" || u.Path != "" || u.User != nil || strings.ContainsAny(upstream, "{} \t\r\n") {
					t.Errorf("upstream %q: %v", upstream, err)
				}
			}
			if strings.HasSuffix(s.prefix, "/") || s.prefix != "" && s.prefix[0] != '/' || strings.ContainsAny(s.prefix, "{}?# \t\r\n") {
				t.Errorf("prefix %q", s.prefix)
			}
			// What was read reads the same again.
			again, err := newService(s.name, prefixed(s))
			if err != nil || describe([]*service{again}) != describe([]*service{s}) {
				t.Errorf("%s: again %v", describe([]*service{s}), err)
			}
		}
	})
}

func prefixed(s *service) []string {
	var addresses []string
	for _, upstream := range s.upstreams {
		addresses = append(addresses, upstream+s.prefix)
	}
	return addresses
}

func FuzzParseOrigins(f *testing.F) {
	for _, seed := range []string{"https://a.example.com,https://b.example.com/", `["*"]`, " , ", "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		origins, err := parseOrigins(strings.TrimSpace(text))
		if err != nil {
			return
		}
		for _, origin := range origins {
			if strings.ContainsAny(origin, "{}\"'` \t\r\n") {
				t.Errorf("origin %q", origin)
			}
		}
	})
}
