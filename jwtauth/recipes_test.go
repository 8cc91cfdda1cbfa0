package jwtauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

const docsPage = "../docs/jwt_auth.md"

// recipe is a token as a provider makes it.
type recipe struct {
	header string // beside alg and kid
	claims string
	field  string // default: Authorization
	// bad are changes that make the token unacceptable: an empty value removes.
	bad map[string]string
	// user is what the service gets in X-User.
	user string
}

var recipes = map[string]recipe{
	"Entra, one tenant": {
		`"typ":"JWT","x5t":"a"`, `"aud":"11111111-2222-3333-4444-555555555555","iss":"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0","azp":"x","name":"Ann","oid":"o1","scp":"Orders.Read profile","sub":"s","tid":"72f988bf-86f1-41af-91ab-2d7cd011db47","uti":"u","ver":"2.0"`, "",
		map[string]string{"iss": `"https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/"`, "aud": `"00000003-0000-0000-c000-000000000000"`, "scp": `"profile"`},
		"o1",
	},
	"Entra, many tenants": {
		`"typ":"JWT"`, `"aud":"11111111-2222-3333-4444-555555555555","iss":"https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0","sub":"s","tid":"9188040d-6c67-4c5b-b112-36a304b66dad","ver":"2.0"`, "",
		map[string]string{"iss": `"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"`, "tid": `"00000000-0000-0000-0000-000000000000"`},
		"",
	},
	"Azure AD B2C": {
		`"typ":"JWT"`, `"aud":"11111111-2222-3333-4444-555555555555","iss":"https://contoso.b2clogin.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0/","sub":"s","tfp":"B2C_1_sign_in","scp":"read","azp":"x","ver":"1.0"`, "",
		map[string]string{"iss": `"https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_sign_in/v2.0"`, "aud": `"x"`},
		"",
	},
	"Auth0": {
		`"typ":"JWT"`, `"iss":"https://shop.eu.auth0.com/","sub":"auth0|123","aud":["https://api.shop.example","https://shop.eu.auth0.com/userinfo"],"azp":"x","scope":"openid profile","permissions":["read:orders"]`, "",
		map[string]string{"iss": `"https://shop.eu.auth0.com"`, "aud": `["https://shop.eu.auth0.com/userinfo"]`, "permissions": `[]`},
		"",
	},
	"Okta": {
		``, `"ver":1,"jti":"AT.x","iss":"https://shop.okta.com/oauth2/default","aud":"api://default","cid":"c","uid":"00u1","scp":["openid","orders.read"],"auth_time":1800000000,"sub":"ann@shop.example"`, "",
		map[string]string{"iss": `"https://shop.okta.com"`, "scp": `["openid"]`, "aud": `"https://shop.okta.com"`},
		"",
	},
	"Keycloak": {
		`"typ":"JWT"`, `"jti":"j","iss":"https://id.shop.example/realms/shop","aud":["orders","account"],"sub":"f:1","typ":"Bearer","azp":"web","sid":"x","acr":"1","realm_access":{"roles":["offline_access"]},"resource_access":{"orders":{"roles":["order-reader"]},"account":{"roles":["manage-account"]}},"scope":"email profile","preferred_username":"ann"`, "",
		map[string]string{"iss": `"https://id.shop.example/realms/other"`, "resource_access": `{"account":{"roles":["order-reader"]}}`, "aud": `"account"`},
		"ann",
	},
	"Keycloak by its inner name": {
		`"typ":"JWT"`, `"iss":"https://id.shop.example/realms/shop","aud":"orders","sub":"f:1","typ":"Bearer"`, "",
		map[string]string{"iss": `"https://id.shop.example/realms/other"`, "aud": `"account"`},
		"",
	},
	"Cognito": {
		``, `"sub":"aaaa","iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Ab1Cd2Ef3","version":2,"client_id":"1example23456789","origin_jti":"x","event_id":"y","token_use":"access","scope":"openid orders/read","auth_time":1800000000,"jti":"z","username":"ann","cognito:groups":["editors"]`, "",
		map[string]string{"token_use": `"id"`, "client_id": `"other"`, "cognito:groups": "", "iss": `"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Other"`},
		"",
	},
	"Google": {
		`"typ":"JWT"`, `"iss":"accounts.google.com","azp":"1234-abc.apps.googleusercontent.com","aud":"1234-abc.apps.googleusercontent.com","sub":"110169484474386276334","hd":"shop.example","email":"ann@shop.example","email_verified":true,"at_hash":"x"`, "",
		map[string]string{"email_verified": `false`, "hd": "", "aud": `"x"`, "iss": `"https://accounts.google.com/"`},
		"ann@shop.example",
	},
	"Firebase": {
		`"typ":"JWT"`, `"iss":"https://securetoken.google.com/shop-1234","aud":"shop-1234","auth_time":1800000000,"user_id":"u","sub":"u","firebase":{"identities":{"email":["a@b"]},"sign_in_provider":"password"}`, "",
		map[string]string{"aud": `"other"`, "iss": `"https://securetoken.google.com/other"`},
		"",
	},
	"Zitadel": {
		`"typ":"JWT"`, `"iss":"https://shop-abc123.zitadel.cloud","sub":"1","aud":["123456789012345678","9"],"client_id":"c","jti":"j","urn:zitadel:iam:org:project:roles":{"admin":{"1":"shop.zitadel.cloud"}}`, "",
		map[string]string{"urn:zitadel:iam:org:project:roles": `{"reader":{"1":"x"}}`, "aud": `"9"`},
		"",
	},
	"Kubernetes service accounts": {
		``, `"aud":["orders"],"iss":"https://kubernetes.default.svc.cluster.local","jti":"j","kubernetes.io":{"namespace":"shop","node":{"name":"n","uid":"u"},"pod":{"name":"p","uid":"u"},"serviceaccount":{"name":"web","uid":"u"}},"sub":"system:serviceaccount:shop:web"`, "",
		map[string]string{"kubernetes.io": `{"namespace":"other"}`, "aud": `["https://kubernetes.default.svc.cluster.local"]`, "sub": `"system:serviceaccount:other:web"`, "iss": `"https://kubernetes.default.svc"`},
		"",
	},
	"GitHub Actions": {
		`"typ":"JWT","x5t":"x"`, `"jti":"j","sub":"repo:acme/shop:ref:refs/heads/main","aud":"https://deploy.shop.example","ref":"refs/heads/main","sha":"x","repository":"acme/shop","repository_owner":"acme","run_id":"1","actor":"ann","workflow":"deploy","event_name":"push","ref_type":"branch","iss":"https://token.actions.githubusercontent.com"`, "",
		map[string]string{"repository": `"mallory/shop"`, "ref": `"refs/pull/1/merge"`, "aud": `"https://github.com/acme"`},
		"",
	},
	"Cloudflare Access": {
		``, `"aud":["4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"],"email":"ann@shop.example","iss":"https://shop.cloudflareaccess.com","type":"app","identity_nonce":"x","sub":"s","country":"PT"`, "Cf-Access-Jwt-Assertion",
		map[string]string{"aud": `["other"]`, "iss": `"https://other.cloudflareaccess.com"`},
		"ann@shop.example",
	},
	"MCP server": {
		`"typ":"at+jwt"`, `"iss":"https://id.shop.example/realms/mcp","sub":"ann","aud":"https://mcp.shop.example/mcp","client_id":"c","scope":"mcp:tools"`, "",
		map[string]string{"aud": `"https://api.shop.example"`, "scope": `"openid"`, "iss": `"https://id.shop.example/realms/shop"`},
		"",
	},
}

// recipesOf returns the blocks of the page's recipes by their names.
func recipesOf(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### Recipes\n")
	if i := strings.Index(section, "\n### "); i >= 0 {
		section = section[:i]
	}
	blocks := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)\n#### ([^\n]+)\n.*?\n```\n(.*?)\n```").FindAllStringSubmatch(section, -1) {
		blocks[m[1]] = m[2]
	}
	for name := range blocks {
		anchor := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(name))
		if !strings.Contains(section, "["+name+"](#"+anchor+")") {
			t.Errorf("the table does not name %s", name)
		}
	}
	return blocks
}

// serviceAccount is the directory that Kubernetes mounts into each pod.
func serviceAccount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "token": []byte("a.b.c")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Each recipe of the page loads, takes a token of its provider's shape, and
// refuses one that is not for this gateway.
func TestRecipes(t *testing.T) {
	blocks := recipesOf(t)
	if got, want := slices.Sorted(maps.Keys(blocks)), slices.Sorted(maps.Keys(recipes)); !slices.Equal(got, want) {
		t.Fatalf("the page has %q, the test %q", got, want)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := keyset.ParseJWKS(published(fmt.Sprintf(`{"kty":"RSA","kid":"k","use":"sig","alg":"RS256","n":%q,"e":"AQAB","x5c":["x"]}`, b64(private.N.Bytes()))), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	s := signer{"RS256", jwt.SigningMethodRS256, private}
	for name, r := range recipes {
		t.Run(name, func(t *testing.T) {
			h := must(t, strings.ReplaceAll(blocks[name], "/var/run/secrets/kubernetes.io/serviceaccount", serviceAccount(t)))
			h.providers[0].source = staticKeys{set}
			header := `{"alg":"RS256","kid":"k"`
			if r.header != "" {
				header += "," + r.header
			}
			status := func(change, value string) (int, *http.Request) {
				claims := map[string]json.RawMessage{}
				now := time.Now().Unix()
				if err := json.Unmarshal(fmt.Appendf(nil, `{%s,"iat":%d,"nbf":%d,"exp":%d}`, r.claims, now, now, now+3600), &claims); err != nil {
					t.Fatal(err)
				}
				if change != "" {
					claims[change] = json.RawMessage(value)
					if value == "" {
						delete(claims, change)
					}
				}
				payload, err := json.Marshal(claims)
				if err != nil {
					t.Fatal(err)
				}
				text := s.sign(t, header+"}", string(payload))
				w, seen := through(t, func(q *http.Request) {
					if r.field != "" {
						q.Header.Set(r.field, text)
						return
					}
					bearer(text)(q)
				}, h)
				return w.Code, seen
			}
			got, seen := status("", "")
			if got != 200 || seen == nil || seen.Header.Get("X-User") != r.user {
				t.Fatalf("a token of its shape: %d, %v", got, seen)
			}
			for claim, value := range r.bad {
				if got, _ := status(claim, value); got != 401 && got != 403 {
					t.Errorf("%s %s: %d", claim, value, got)
				}
			}
		})
	}
	h := must(t, blocks["MCP server"])
	w, _ := through(t, func(*http.Request) {}, h)
	if challenge := w.Header().Get("WWW-Authenticate"); w.Code != 401 || !strings.Contains(challenge, `resource_metadata="https://mcp.shop.example/.well-known/oauth-protected-resource/mcp"`) {
		t.Errorf("MCP: %d %s", w.Code, challenge)
	}
	document := httptest.NewRecorder()
	_ = h.ServeHTTP(document, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-protected-resource/mcp", nil), nil)
	if !strings.Contains(document.Body.String(), `"authorization_servers":["https://id.shop.example/realms/mcp"]`) {
		t.Errorf("MCP: %s", document.Body)
	}
}

// The table of options has each option of the directive, and none twice.
func TestOptionsInThePage(t *testing.T) {
	page, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n| option | meaning | default |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`[a-z0-9_]+`(?: \\(of `[a-z_]+`\\))?) \\|").FindAllStringSubmatch(table, -1) {
		rows[m[1]]++
	}
	for name, n := range rows {
		if n > 1 {
			t.Errorf("%s stands in the table %d times", name, n)
		}
	}
	for _, option := range parse.Names(slices.Concat(new(Provider).options(), new(Handler).options())...) {
		if option != "provider" && rows["`"+option+"`"] == 0 {
			t.Errorf("%s is not in the table", option)
		}
	}
	metrics := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tentagate_[a-z_]+)").FindAllStringSubmatch(string(page), -1) {
		if metrics[m[1]]++; metrics[m[1]] > 1 {
			t.Errorf("%s stands twice", m[1])
		}
	}
}
