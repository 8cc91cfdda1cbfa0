package jwtauth

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// victim is a gateway in front of a service, with a key set of every kind.
type victim struct {
	t      *testing.T
	server *httptest.Server
	keys   *keys
	rs, ps signer
	es, e5 signer
	ed     signer
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	k := newKeys(t)
	v := &victim{t: t, keys: k, rs: k.signers[3], ps: k.signers[6], es: k.signers[9], e5: k.signers[11], ed: k.signers[12]}
	var jwks []string
	add := func(kid, text string) { jwks = append(jwks, fmt.Sprintf(`{"kid":%q,%s}`, kid, text)) }
	add("rs", fmt.Sprintf(`"kty":"RSA","e":"AQAB","n":%q`, b64(k.rsa.N.Bytes())))
	for kid, alg := range map[string]string{"es": "ES256", "e5": "ES512"} {
		point, err := k.ec[alg].PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		add(kid, fmt.Sprintf(`"kty":"EC","crv":%q,"x":%q,"y":%q`, k.ec[alg].Params().Name, b64(point[1:1+half]), b64(point[1+half:])))
	}
	add("ed", fmt.Sprintf(`"kty":"OKP","crv":"Ed25519","x":%q`, b64(k.ed.Public().(ed25519.PublicKey))))
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(`{"keys":[`+strings.Join(jwks, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	v.server = servertest.New(t, ":80 {\n jwt_auth {\n jwks "+path+"\n issuer https://issuer.test\n audience api\n}\n respond reached\n}")
	return v
}

// head is a header for a key of the set; members are put behind it.
func (v *victim) head(s signer, members string) string {
	kid := map[string]string{"RS256": "rs", "PS256": "rs", "ES256": "es", "ES512": "e5", "EdDSA": "ed"}[s.alg]
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"alg":%q,"kid":%q%s}`, s.alg, kid, members)
}

// raw sends a request as it is written and returns the status and the answer.
func (v *victim) raw(request string) (int, string) {
	v.t.Helper()
	conn, err := net.Dial("tcp", v.server.Listener.Addr().String())
	if err != nil {
		v.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte(request)); err != nil {
		v.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		v.t.Fatalf("%.200q: %v", request, err)
	}
	defer resp.Body.Close()
	body := new(bytes.Buffer)
	_, _ = body.ReadFrom(resp.Body)
	return resp.StatusCode, body.String()
}

func (v *victim) send(fields ...string) (int, string) {
	v.t.Helper()
	return v.raw("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n")
}

func (v *victim) bearer(text string) (int, string) { return v.send("Authorization: Bearer " + text) }

// refused checks that each is answered with 401 or 400, cold and warm.
func (v *victim) refused(attacks map[string]string) {
	v.t.Helper()
	for name, text := range attacks {
		for range 2 {
			if status, body := v.bearer(text); status != 401 && status != 400 || strings.Contains(body, "reached") {
				v.t.Errorf("%s: %d %s", name, status, body)
			}
		}
	}
	v.t.Logf("%d attacks", len(attacks))
}

func TestAttacksOnJSON(t *testing.T) {
	v := newVictim(t)
	now := time.Now().Unix()
	h := v.head(v.ed, "")
	plain := func(payload string) string { return v.ed.sign(t, h, payload) }
	with := func(members string) string { return plain(goodPayload(members)) }
	header := func(members string) string { return v.ed.sign(t, v.head(v.ed, members), goodPayload("")) }
	claims := func(iss, aud string) string {
		return plain(fmt.Sprintf(`{"iss":%s,"aud":%s,"exp":%d}`, iss, aud, now+600))
	}
	for name, text := range map[string]string{
		"plain": with(""), "in whole": claims(`"https://issuer.test"`, `["x","api","api"]`), "deep enough": with(`"x":` + strings.Repeat("[", 30) + strings.Repeat("]", 30)),
		"crit in the payload": with(`"crit":["exp"],"b64":false`), "a pair": with(`"\ud83d\ude00":1,"\ud83d\ude01":"😀"`), "names that fold": with(`"Exp":0,"EXP":1,"exp ":2,"ehp\u0000":3`),
		"exp with an exponent": plain(withExp("4e9")), "numbers": with(`"a":-0,"b":1e-400,"c":0e999999999,"d":1E+2,"e":123456789012345678901234567890`),
		"foreign members": header(`"x5t":"AA","x5t#S256":"AA","zip":"DEF","cty":"x","jku":"https://evil.test","x5u":1,"x5c":{},"jwk":[]`),
	} {
		if status, body := v.bearer(text); status != 200 || body != "reached" {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	attacks := map[string]string{
		// Names that stand twice.
		"twice in an array": with(`"x":[[{"a":1},{"b":{"c":1,"c":2}}]]`), "twice by an escape of /": with(`"a\/b":1,"a/b":2`), "twice by a pair": with(`"😀":1,"\ud83d\ude00":2`),
		"twice by case of hex": with(`"\u00ea":1,"\u00EA":2`), "twice, empty": with(`"":1,"":2`), "twice, three names between": with(`"a":1,"b":2,"c":3,"d":4,"a":5`),
		"iss twice": with(`"iss":"https://issuer.test"`), "aud twice": with(`"aud":"other"`), "typ twice in the header": header(`"typ":"JWT","typ":"JWT"`), "x5c twice in the header": header(`"x5c":[],"x5c":[]`),
		"kid twice by escape": header(`"k\u0069d":"rs"`), "many members in the header": header(`"a1":1` + strings.Repeat(`,"a1":1`, 1)), "33 members in the header": header(members(33)),
		// Text.
		"CESU-8": with("\"x\":\"\xed\xa0\xbd\xed\xb8\x80\""), "beyond Unicode": with("\"x\":\"\xf4\x90\x80\x80\""), "high and high": with(`"x":"\ud83d\ud83d"`), "low and high": with(`"x":"\ude00\ud83d"`),
		"high and a letter": with(`"x":"\ud83dA"`), "high and an escape": with(`"x":"\ud83d\u0041"`), "high at the end": with(`"x":"\ud83d"`), "half a pair in a name": with(`"\ud83d":1`), "half a pair in the header": header(`"x":"\udc00"`),
		"a short escape": with(`"x":"\u12"`), "an escape of nothing": with(`"x":"\`), "an unknown escape": with(`"x":"\x41"`), "an escaped line end": with("\"x\":\"\\\n\""), "a raw tab": with("\"x\":\"\t\""), "a raw DEL and NUL": with("\"x\":\"\x7f\x00\""),
		"BOM before the payload": plain("\ufeff" + goodPayload("")), "UTF-16": plain(utf16(goodPayload(""))), "BOM before the header": v.ed.sign(t, "\ufeff"+h, goodPayload("")), "UTF-16 header": v.ed.sign(t, utf16(h), goodPayload("")),
		// White space that JSON does not know.
		"form feed": plain("\f" + goodPayload("")), "vertical tab": plain(goodPayload("") + "\v"), "no-break space": plain("\u00a0" + goodPayload("")), "line separator": with("\u2028\"x\":1"), "NUL behind": plain(goodPayload("") + "\x00"),
		// Numbers.
		"exp -0": plain(withExp("-0")), "exp 1e-400": plain(withExp("1e-400")), "exp 0e999999999": plain(withExp("0e999999999")), "exp -1e400": plain(withExp("-1e400")), "exp 1E+400": plain(withExp("1E+400")), "exp of many digits": plain(withExp("1" + strings.Repeat("0", 5000))),
		"exp after 9999 by a fraction": plain(withExp("253402300799.5")), "exp Infinity": plain(withExp("Infinity")), "exp 1_0": plain(withExp("1_800_000_000")), "exp .5e10": plain(withExp(".5e10")), "exp 5.e9": plain(withExp("5.e9")), "exp 5e": plain(withExp("5e")), "exp --5": plain(withExp("--5e9")), "exp +5e9": plain(withExp("+5e9")),
		"exp 05e9": plain(withExp("05e9")), "exp a date": plain(withExp(`"2999-01-01T00:00:00Z"`)), "exp false": plain(withExp("false")), "exp of digits beyond ASCII": plain(withExp("９９９９９９９９９９")), "exp -0.0": plain(withExp("-0.0")),
		"a number that no float holds": with(`"x":1e400`), "one in a list": with(`"x":[-1e999]`), "one in the header": header(`"x":1e400`), "nbf 1e400": with(`"nbf":1e400`), "iat false": with(`"iat":false`), "nbf an empty list": with(`"nbf":[]`), "nbf after 9999": with(`"nbf":253402300800`),
		// Structure.
		"too deep by one": with(`"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33)), "far too deep": with(`"x":` + strings.Repeat("[", 5000)), "mixed depth": with(`"x":` + strings.Repeat(`[{"a":`, 40) + "1" + strings.Repeat("}]", 40)),
		"comma at the end of a list": with(`"x":[1,]`), "comma at the front": with(`"x":[,1]`), "no colon": with(`"x" 1`), "two colons": with(`"x"::1`), "a name without quotes": with(`x:1`), "a comment": with(`/*"x":1*/"y":1`), "a comment to the end": plain(goodPayload("") + "//"),
		"True": with(`"x":True`), "nul": with(`"x":nul`), "undefined": with(`"x":undefined`), "a list that does not end": with(`"x":[1`), "two objects in a list": plain("[" + goodPayload("") + "]"), "a text of an object": plain(fmt.Sprintf("%q", goodPayload(""))), "nothing but space": plain("  "),
		// Claims of another type.
		"aud of numbers": claims(`"https://issuer.test"`, `["api",1]`), "aud with null": claims(`"https://issuer.test"`, `["api",null]`), "aud in a list in a list": claims(`"https://issuer.test"`, `[["api"]]`), "aud with an object": claims(`"https://issuer.test"`, `["api",{}]`), "aud empty text": claims(`"https://issuer.test"`, `""`),
		"aud of words": claims(`"https://issuer.test"`, `"x api"`), "aud by a prefix": claims(`"https://issuer.test"`, `"api/v1"`), "aud true": claims(`"https://issuer.test"`, `true`), "aud with a space": claims(`"https://issuer.test"`, `" api"`), "aud with NUL": claims(`"https://issuer.test"`, `"api\u0000"`),
		"iss empty": claims(`""`, `"api"`), "iss null": claims(`null`, `"api"`), "iss an object": claims(`{"https://issuer.test":1}`, `"api"`), "iss a list": claims(`["https://issuer.test"]`, `"api"`), "iss with NUL": claims(`"https://issuer.test\u0000"`, `"api"`), "iss in capitals": claims(`"HTTPS://issuer.test"`, `"api"`), "iss with a dot": claims(`"https://issuer.test."`, `"api"`), "iss number": claims(`1`, `"api"`), "iss with a homoglyph": claims(`"https://issu\u0435r.test"`, `"api"`),
		"sub a list": plain(strings.Replace(goodPayload(""), `"ann"`, `["ann"]`, 1)), "sub true": plain(strings.Replace(goodPayload(""), `"ann"`, `true`, 1)),
		// The header.
		"a kid of 10 KB": v.ed.sign(t, `{"alg":"EdDSA","kid":"`+strings.Repeat("k", 10<<10)+`"}`, goodPayload("")), "a kid that is a path": v.ed.sign(t, `{"alg":"EdDSA","kid":"../../../../dev/null"}`, goodPayload("")), "a kid of SQL": v.ed.sign(t, `{"alg":"EdDSA","kid":"x' UNION SELECT 'k"}`, goodPayload("")),
		"a kid of a command": v.ed.sign(t, `{"alg":"EdDSA","kid":"|id"}`, goodPayload("")), "a kid with NUL": v.ed.sign(t, `{"alg":"EdDSA","kid":"ed\u0000"}`, goodPayload("")), "a kid in capitals": v.ed.sign(t, `{"alg":"EdDSA","kid":"ED"}`, goodPayload("")), "a kid null": v.ed.sign(t, `{"alg":"EdDSA","kid":null}`, goodPayload("")), "a kid in a list": v.ed.sign(t, `{"alg":"EdDSA","kid":["ed"]}`, goodPayload("")),
		"the kid of another key": v.ed.sign(t, `{"alg":"EdDSA","kid":"rs"}`, goodPayload("")), "typ a list": header(`"typ":["JWT"]`), "typ unknown": header(`"typ":"JWE"`), "typ with a blank": header(`"typ":" JWT"`), "typ application/ alone": header(`"typ":"application/"`), "typ twice application": header(`"typ":"application/application/jwt"`),
		"b64 true": header(`"b64":true`), "b64 a text": header(`"b64":"false"`), "b64 null": header(`"b64":null`),
	}
	for i, crit := range []string{`["exp"],"exp":1`, `[]`, `null`, `"exp"`, `[""]`, `[1]`, `{}`, `["b64"]`, `["alg"]`, `["crit"]`, `["exp","exp"],"exp":1`, `false`, `0`, `[["exp"]]`, `["kid"]`, `["http://example.invalid/UNDEFINED"]`} {
		attacks[fmt.Sprint("crit ", i)] = header(`"crit":` + crit)
	}
	for i, alg := range []string{"none", "None", "NONE", "eddsa", "EDDSA", "Eddsa", "EdDSA\\u0000", "EdDSA ", "ED25519", "Ed448", "HS256", "RS256", "ES256K", "ES256", "RSA-OAEP", "PBES2-HS256+A128KW", "dir", "A256GCM", "SHA256", "nonе"} {
		attacks[fmt.Sprint("alg ", i)] = v.ed.sign(t, fmt.Sprintf(`{"alg":"%s","kid":"ed","p2c":2147483647}`, alg), goodPayload(""))
	}
	for _, alg := range []string{"none", "nOne", "NONE"} {
		input := b64([]byte(`{"alg":"`+alg+`","kid":"ed"}`)) + "." + b64([]byte(goodPayload("")))
		attacks[alg+", no signature"], attacks[alg+", a signature"] = input+".", input+".AA"
	}
	v.refused(attacks)
}

func members(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"m%d":1`, i))
	}
	return strings.Join(list, ",")
}

func utf16(text string) string {
	out := "\xff\xfe"
	for _, c := range []byte(text) {
		out += string([]byte{c, 0})
	}
	return out
}

func TestAttacksOnTheForm(t *testing.T) {
	v := newVictim(t)
	valid := v.ed.sign(t, v.head(v.ed, ""), goodPayload(""))
	if status, _ := v.bearer(valid); status != 200 {
		t.Fatalf("a good token: %d", status)
	}
	part := strings.Split(valid, ".")
	signature, _ := base64.RawURLEncoding.DecodeString(part[2])
	// of is a token over any text of header and payload.
	of := func(header, payload string) string {
		sig, err := v.ed.method.Sign(header+"."+payload, v.ed.key)
		if err != nil {
			t.Fatal(err)
		}
		return header + "." + payload + "." + b64(sig)
	}
	inner := fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, part[1], part[0], part[2])
	attacks := map[string]string{
		"detached, signed whole": part[0] + ".." + part[2], "detached, signed empty": of(part[0], ""), "unencoded payload": of(b64([]byte(v.head(v.ed, `"b64":false,"crit":["b64"]`))), `{"iss":"https://issuer-test"}`),
		"flattened JSON": inner, "general JSON": fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, part[1], part[0], part[2]), "JSON in base64": b64([]byte(inner)), "compact and JSON in one": `{"a":"` + valid + `","protected":"` + part[0] + `"}`,
		"nested": of(b64([]byte(v.head(v.ed, `"cty":"JWT"`))), b64([]byte(valid))), "nested, quoted": of(b64([]byte(v.head(v.ed, `"cty":"JWT"`))), b64([]byte(`"`+valid+`"`))), "JWE": b64([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM","cty":"JWT"}`)) + ".AA.AA.AA.AA", "JWE, dir": b64([]byte(`{"alg":"dir","enc":"A128GCM"}`)) + "..AA.AA.AA", "six parts": valid + "." + valid,
		"compressed payload":    of(b64([]byte(v.head(v.ed, `"zip":"DEF"`))), b64(deflated(goodPayload("")))),
		"padding in the header": of(part[0]+"=", part[1]), "padding in the payload": of(part[0], part[1]+"="), "padding at the end": valid + "=", "padding of two": valid + "==", "padding alone": part[0] + "." + part[1] + ".=", "%3D at the end": valid + "%3D",
		"tab in the payload": of(part[0], part[1][:4]+"\t"+part[1][4:]), "vertical tab": of(part[0], part[1][:4]+"\v"+part[1][4:]), "tab before": "\t" + valid + "\tx", "blank in the signature": valid[:len(valid)-4] + " " + valid[len(valid)-4:], "blank before a dot": part[0] + " ." + part[1] + "." + part[2],
		"standard alphabet": of(b64([]byte(v.head(v.ed, `"x":"???>>>"`))), part[1])[:4] + "+/", "standard alphabet, signed": of(base64.RawStdEncoding.EncodeToString([]byte(v.head(v.ed, `"x":"???>>>~~~"`))), part[1]), "zero-width space": part[0] + "\u200b." + part[1] + "." + part[2], "full stop of another script": part[0] + "。" + part[1] + "。" + part[2],
		"percent-encoded dots": strings.ReplaceAll(valid, ".", "%2e"), "in quotes": `"` + valid + `"`, "in angle brackets": "<" + valid + ">", "token=": "token=" + valid, "Bearer twice": "Bearer " + valid, "comma at the end": valid + ",", "two with a comma": valid + "," + valid, "two with a comma and a scheme": valid + ", Bearer " + valid, "a semicolon": valid + ";q=1",
		"no header": "." + part[1] + "." + part[2], "only the signature": ".." + part[2], "a dot in front": "." + valid, "a dot behind": valid + ".", "one dot": ".", "dots": strings.Repeat(".", 5000), "dots and letters": strings.Repeat("a.", 5000), "nothing decodes": "!.!.!", "one letter each": "a.a.a", "16 KiB of letters": strings.Repeat("A", 16<<10), "longer than allowed": valid + strings.Repeat("A", 16<<10),
	}
	for i, segment := range part[:2] {
		for _, other := range nonCanonical("x." + segment) {
			parts := []string{part[0], part[1]}
			parts[i] = other[2:]
			attacks[fmt.Sprint("last bits of part ", i, " ", other[len(other)-1:])] = of(parts[0], parts[1])
		}
	}
	for i := range signature {
		flipped := bytes.Clone(signature)
		flipped[i] ^= 1 << (i % 8)
		attacks[fmt.Sprint("bit of byte ", i)] = part[0] + "." + part[1] + "." + b64(flipped)
	}
	v.refused(attacks)

	// Fields that could be read in two ways. What Go's server itself refuses is 400.
	good := "Bearer " + valid
	for name, fields := range map[string][]string{
		"two": {"Authorization: " + good, "Authorization: " + good}, "two in other cases": {"AUTHORIZATION: " + good, "authorization: " + good}, "a bad one first": {"Authorization: Bearer x", "Authorization: " + good}, "a bad one last": {"Authorization: " + good, "Authorization: Bearer x"},
		"another scheme first": {"Authorization: Basic YTpi", "Authorization: " + good}, "another scheme last": {"Authorization: " + good, "Authorization: Basic YTpi"}, "empty first": {"Authorization:", "Authorization: " + good}, "empty last": {"Authorization: " + good, "Authorization:"},
		"space before the colon": {"Authorization : " + good}, "NUL in it": {"Authorization: " + good + "\x00"}, "a control character": {"Authorization: \x01" + good}, "no space": {"Authorization: Bearer" + valid}, "a tab": {"Authorization: Bearer\t" + valid}, "the scheme alone": {"Authorization: Bearer"}, "scheme and blanks": {"Authorization: Bearer    "},
		"nothing": {"X: y"}, "Bearer:": {"Authorization: Bearer: " + valid}, "Token": {"Authorization: Token " + valid}, "JWT": {"Authorization: JWT " + valid}, "no scheme": {"Authorization: " + valid}, "a blank scheme": {"Authorization:  " + valid}, "another field": {"X-Authorization: " + good}, "the proxy's field": {"Proxy-Authorization: " + good}, "underscore": {"Authorization_: " + good}, "a cookie": {"Cookie: Authorization=" + valid + "; access_token=" + valid},
		"method override": {"X-HTTP-Method-Override: OPTIONS"}, "said to be known": {"X-User: ann", "X-Forwarded-User: ann", "X-Auth-Verified: true"},
	} {
		if status, body := v.send(fields...); status != 401 && status != 400 || strings.Contains(body, "reached") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, request := range []string{
		"GET /?access_token=" + valid + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + fmt.Sprint(len(valid)+13) + "\r\n\r\naccess_token=" + valid,
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\nAuthorization: " + good + "\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
	} {
		if status, body := v.raw(request); status != 401 && status != 400 || strings.Contains(body, "reached") {
			t.Errorf("%.60q: %d %s", request, status, body)
		}
	}
}

func deflated(text string) []byte {
	out := new(bytes.Buffer)
	w, _ := flate.NewWriter(out, 9)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return out.Bytes()
}

func TestAttacksOnSignatures(t *testing.T) {
	v := newVictim(t)
	attacks := map[string]string{}
	input := func(s signer, members string) string {
		return b64([]byte(v.head(s, ""))) + "." + b64([]byte(goodPayload(members)))
	}
	sign := func(s signer, text string) []byte {
		sig, err := s.method.Sign(text, s.key)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for _, s := range []signer{v.rs, v.ps, v.es, v.e5, v.ed} {
		text := input(s, "")
		sig := sign(s, text)
		if status, _ := v.bearer(text + "." + b64(sig)); status != 200 {
			t.Fatalf("%s: %d", s.alg, status)
		}
		for name, other := range map[string][]byte{
			"zeros": make([]byte, len(sig)), "ones": bytes.Repeat([]byte{0xff}, len(sig)), "a byte less": sig[:len(sig)-1], "a byte less in front": sig[1:], "a zero more": append(bytes.Clone(sig), 0), "a zero in front": append([]byte{0}, sig...),
			"twice": append(bytes.Clone(sig), sig...), "half": sig[:len(sig)/2], "one zero": {0}, "one": {1}, "backwards": backwards(sig), "100 zeros more": append(bytes.Clone(sig), make([]byte, 100)...),
		} {
			attacks[s.alg+" "+name] = text + "." + b64(other)
		}
		attacks[s.alg+" over another"] = input(s, `"x":1`) + "." + b64(sig)
	}
	// RSA: values that are not below the modulus, forms of another scheme.
	n := v.keys.rsa.N
	rsText, psText := input(v.rs, ""), input(v.ps, "")
	for name, value := range map[string]*big.Int{
		"0": new(big.Int), "1": big.NewInt(1), "n-1": new(big.Int).Sub(n, big.NewInt(1)), "n": n, "n+1": new(big.Int).Add(n, big.NewInt(1)), "s+n": new(big.Int).Add(n, new(big.Int).SetBytes(sign(v.rs, rsText))),
	} {
		for _, text := range []string{rsText, psText} {
			attacks["RSA "+name+" "+text[:12]] = text + "." + b64(value.FillBytes(make([]byte, 257)))
			attacks["RSA "+name+", short, "+text[:12]] = text + "." + b64(value.Bytes())
		}
	}
	for name, method := range map[string]jwt.SigningMethod{"RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512, "PS256": jwt.SigningMethodPS256, "PS384": jwt.SigningMethodPS384} {
		attacks["RS256 signed as "+name] = rsText + "." + b64(sign(signer{"", method, v.keys.rsa}, rsText))
		if name != "PS256" {
			attacks["PS256 signed as "+name] = psText + "." + b64(sign(signer{"", method, v.keys.rsa}, psText))
		}
	}
	attacks["PS256 signed as RS256"] = psText + "." + b64(sign(v.rs, psText))
	for _, salt := range []int{0, 1, 20, 31, 33, 64, 222} {
		m := &jwt.SigningMethodRSAPSS{SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}
		attacks[fmt.Sprint("PS256 with a salt of ", salt)] = psText + "." + b64(sign(signer{"", m, v.keys.rsa}, psText))
	}
	// A signature whose first byte is zero, without that byte.
	for i := 0; ; i++ {
		text := input(v.rs, fmt.Sprintf(`"i":%d`, i))
		if sig := sign(v.rs, text); sig[0] == 0 {
			attacks["RSA without the zero in front"] = text + "." + b64(sig[1:])
			break
		}
	}
	// A digest without its name, as old libraries made it.
	hash := crypto.SHA256.New()
	hash.Write([]byte(rsText))
	bare, err := rsa.SignPKCS1v15(rand.Reader, v.keys.rsa, 0, hash.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	attacks["RSA, a bare digest"] = rsText + "." + b64(bare)

	// ECDSA.
	for _, s := range []signer{v.es, v.e5} {
		text := input(s, "")
		key := s.key.(*ecdsa.PrivateKey)
		size := (key.Params().BitSize + 7) / 8
		sig := sign(s, text)
		r, x := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		order, zero := key.Params().N, new(big.Int)
		pair := func(r, s *big.Int, size int) string {
			return text + "." + b64(append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...))
		}
		for name, p := range map[string][2]*big.Int{"0 0": {zero, zero}, "r 0": {r, zero}, "0 s": {zero, x}, "n n": {order, order}, "n 0": {order, zero}, "1 1": {big.NewInt(1), big.NewInt(1)}, "p p": {key.Params().P, key.Params().P}, "s r": {x, r}, "n-1 n-1": {new(big.Int).Sub(order, big.NewInt(1)), new(big.Int).Sub(order, big.NewInt(1))}} {
			attacks[s.alg+" "+name] = pair(p[0], p[1], size)
		}
		attacks[s.alg+" longer halves"] = pair(r, x, size+1)
		attacks[s.alg+" much longer halves"] = pair(r, x, 2*size)
		h := map[string]crypto.Hash{"ES256": crypto.SHA256, "ES512": crypto.SHA512}[s.alg].New()
		h.Write([]byte(text))
		der, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		attacks[s.alg+" in DER"] = text + "." + b64(der)
	}
	// Ed25519: S + L is the same scalar; points of small order.
	text := input(v.ed, "")
	sig := sign(v.ed, text)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	scalar := new(big.Int).Add(new(big.Int).SetBytes(backwards(sig[32:])), order)
	attacks["Ed25519 S + L"] = text + "." + b64(append(bytes.Clone(sig[:32]), backwards(scalar.FillBytes(make([]byte, 32)))...))
	small := append([]byte{1}, make([]byte, 31)...)
	attacks["Ed25519, the identity"] = text + "." + b64(append(bytes.Clone(small), make([]byte, 32)...))
	attacks["Ed25519, the identity and S"] = text + "." + b64(append(bytes.Clone(small), sig[32:]...))
	attacks["Ed25519, L as S"] = text + "." + b64(append(bytes.Clone(sig[:32]), backwards(order.FillBytes(make([]byte, 32)))...))

	// Public keys as secrets, in each form in which they are public.
	certificate, der := selfSigned(t, v.keys.rsa)
	public := []any{&v.keys.rsa.PublicKey, &v.keys.ec["ES256"].PublicKey, v.keys.ed.Public()}
	secrets := map[string][]byte{"n": n.Bytes(), "n in base64url": []byte(b64(n.Bytes())), "certificate": certificate, "PKCS #1": x509.MarshalPKCS1PublicKey(&v.keys.rsa.PublicKey), "Ed25519 x": v.keys.ed.Public().(ed25519.PublicKey), "nothing": {}, "32 zeros": make([]byte, 32)}
	for i, key := range public {
		pkix, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := publicPEM(t, key)
		secrets[fmt.Sprint("PEM ", i)], secrets[fmt.Sprint("PEM, trimmed ", i)], secrets[fmt.Sprint("DER ", i)] = []byte(text), []byte(strings.TrimSpace(text)), pkix
	}
	for name, secret := range secrets {
		for alg, hash := range map[string]crypto.Hash{"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512} {
			for _, kid := range []string{"", `,"kid":"rs"`, `,"kid":"ed"`} {
				text := b64([]byte(`{"alg":"`+alg+`"`+kid+`}`)) + "." + b64([]byte(goodPayload("")))
				mac := hmac.New(hash.New, secret)
				mac.Write([]byte(text))
				attacks[alg+" by "+name+kid] = text + "." + b64(mac.Sum(nil))
			}
		}
	}

	// Keys that a token brings: nobody asks for them.
	var asked atomic.Int64
	evil := newKeys(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"rs","n":%q,"e":"AQAB"}]}`, b64(evil.rsa.N.Bytes()))
	}))
	defer server.Close()
	_, evilDER := selfSigned(t, evil.rsa)
	jwk := fmt.Sprintf(`{"kty":"RSA","kid":"rs","n":%q,"e":"AQAB"}`, b64(evil.rsa.N.Bytes()))
	for name, member := range map[string]string{
		"jwk": `"jwk":` + jwk, "jku": `"jku":"` + server.URL + `"`, "x5u": `"x5u":"` + server.URL + `"`, "x5c": `"x5c":["` + base64.StdEncoding.EncodeToString(evilDER) + `"]`, "x5c, the good one first": `"x5c":["` + base64.StdEncoding.EncodeToString(der) + `","` + base64.StdEncoding.EncodeToString(evilDER) + `"]`,
		"x5t": `"x5t":"AAAAAAAAAAAAAAAAAAAAAAAAAAA"`, "all": `"jwk":` + jwk + `,"jku":"` + server.URL + `","x5u":"` + server.URL + `"`,
	} {
		for _, kid := range []string{`"kid":"rs",`, `"kid":"evil",`, ""} {
			attacks["brings "+name+" "+kid] = signer{"RS256", jwt.SigningMethodRS256, evil.rsa}.sign(t, `{"alg":"RS256",`+kid+member+`}`, goodPayload(""))
		}
	}
	// Keys of another curve or kind under the name of a good one.
	for _, s := range evil.signers {
		for _, kid := range []string{"rs", "es", "e5", "ed", "other"} {
			attacks["forged "+s.alg+" "+kid] = s.sign(t, fmt.Sprintf(`{"alg":%q,"kid":%q}`, s.alg, kid), goodPayload(""))
		}
	}
	// Good keys under the name of another.
	for _, s := range []signer{v.rs, v.ps, v.es, v.e5, v.ed} {
		for _, kid := range []string{"rs", "es", "e5", "ed"} {
			header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, s.alg, kid)
			if header != v.head(s, "") {
				attacks["misnamed "+s.alg+" "+kid] = s.sign(t, header, goodPayload(""))
			}
		}
	}
	v.refused(attacks)
	if asked.Load() != 0 {
		t.Errorf("the gateway asked for a key that a token pointed to, %d times", asked.Load())
	}
}

func backwards(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

func selfSigned(t *testing.T, key *rsa.PrivateKey) (pem, der []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----\n"), der
}
