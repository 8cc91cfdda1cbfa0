package jwtauth

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// What nobody could be refused by is not revoked: unknown names are errors.
func TestRevocationsOfUnknownNames(t *testing.T) {
	// Configurations of other tests are never unloaded.
	revocable.Lock()
	others := revocable.handlers
	revocable.handlers = nil
	revocable.Unlock()
	t.Cleanup(func() {
		revocable.Lock()
		revocable.handlers = others
		revocable.Unlock()
	})
	server := adminServer(t)
	must(t, "jwt_auth {\n provider shop {\n secret "+secret+"\n issuer https://shop.test/ https://shop.test/b\n}\n provider entra {\n secret "+other+"\n issuer https://login.test/{tenantid}/v2.0\n}\n deny_list\n}")
	// Without a deny list a provider cannot be meant.
	must(t, "jwt_auth {\n provider other {\n secret "+secret+"\n issuer https://other.test\n}\n}")
	const tenant = "https://login.test/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
	for body, want := range map[string]string{
		`{"jti":"1","provider":"shop"}`:                      "",
		`{"sub":"ann","provider":"entra"}`:                   "",
		`{"sub":"ann"}`:                                      "",
		`{"jti":"1","issuer":"https://shop.test/"}`:          "",
		`{"jti":"1","issuer":"` + tenant + `"}`:              "",
		`{"jti":"1","provider":"Shop"}`:                      `provider: "Shop" is not known: known are entra, shop`,
		`{"sub":"ann","provider":"other"}`:                   `provider: "other" is not known: known are entra, shop`,
		`{"jti":"1","issuer":"https://shop.test"}`:           `"https://shop.test" is not known, but "https://shop.test/" is`,
		`{"sub":"ann","issuer":"https://shop.test/b/"}`:      `but "https://shop.test/b" is`,
		`{"jti":"1","issuer":"https://other.test"}`:          `"https://other.test" is not known: known are https://login.test/{tenantid}/v2.0, https://shop.test/, https://shop.test/b`,
		`{"jti":"1","issuer":"` + tenant + `/"}`:             "is not known",
		`{"jti":"1","issuer":"https://login.test/common/x"}`: "is not known",
	} {
		status, text := sendRevocation(t, server, "POST", body)
		if (status == 200) != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", body, status, text)
		}
		if status, text = sendRevocation(t, server, "DELETE", body); want != "" && (status != 400 || !strings.Contains(text, want)) {
			t.Errorf("%s, taken back: %d %s", body, status, text)
		}
	}
	// A provider that names no issuer accepts all, but no other spelling of one
	// that is known.
	must(t, "jwt_auth "+secret+" {\n deny_list\n}")
	for body, want := range map[string]int{
		`{"jti":"1","issuer":"https://any.test"}`: 200, `{"jti":"1","issuer":"https://shop.test"}`: 400, `{"jti":"1","provider":"main"}`: 200, `{"jti":"1","provider":"x"}`: 400,
	} {
		if status, text := sendRevocation(t, server, "POST", body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// Tokens are revoked by the digits of a number too, and by no other number.
func TestRevocationsOfNumbers(t *testing.T) {
	server := adminServer(t)
	h := must(t, "jwt_auth {\n secret "+secret+"\n numeric_sub\n deny_list\n}")
	for _, body := range []string{`{"jti":"9007199254740993","provider":"main"}`, `{"sub":"18446744073709551617"}`} {
		if status, text := sendRevocation(t, server, "POST", body); status != 200 {
			t.Fatalf("%s: %d %s", body, status, text)
		}
	}
	for members, want := range map[string]int{
		`"jti":9007199254740993`: 401, `"jti":9007199254740992`: 200, `"jti":"9007199254740993"`: 401,
		`"sub":18446744073709551617`: 401, `"sub":18446744073709551616`: 200,
	} {
		if w, _ := answer(h, payload(t, members)); w.Code != want {
			t.Errorf("%s: %d", members, w.Code)
		}
	}
	if w, _ := answer(h, mint(t, secret, jwt.MapClaims{"sub": "ann"})); w.Code != 200 {
		t.Errorf("another: %d", w.Code)
	}
}
