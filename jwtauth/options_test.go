package jwtauth

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// What a provider's options mean, by the clock, from the Caddyfile on.
func TestOptionsOfAProvider(t *testing.T) {
	start := time.Now().Truncate(time.Second)
	unix := func(d time.Duration) int64 { return start.Add(d).Unix() }
	exp := unix(time.Hour)
	long := strings.Repeat(secret, 2)
	hs := func(method jwt.SigningMethod) signer { return signer{method.Alg(), method, []byte(long)} }
	for _, tc := range []struct {
		options, payload string
		at               time.Duration
		want             int
	}{
		{"", fmt.Sprintf(`{"exp":%d}`, unix(0)), 29 * time.Second, 200},
		{"", fmt.Sprintf(`{"exp":%d}`, unix(0)), 30 * time.Second, 401},
		{"leeway 0s", fmt.Sprintf(`{"exp":%d}`, unix(0)), -time.Second, 200},
		{"leeway 0s", fmt.Sprintf(`{"exp":%d}`, unix(0)), 0, 401},
		{"leeway 5m", fmt.Sprintf(`{"exp":%d}`, unix(0)), 299 * time.Second, 200},
		{"leeway 5m", fmt.Sprintf(`{"exp":%d}`, unix(0)), 300 * time.Second, 401},
		{"leeway 0s", fmt.Sprintf(`{"exp":%d,"nbf":%d}`, exp, unix(0)), -time.Second, 401},
		{"leeway 0s", fmt.Sprintf(`{"exp":%d,"nbf":%d}`, exp, unix(0)), 0, 200},
		{"leeway 0s", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), -time.Second, 401},
		{"", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), -30 * time.Second, 200},
		{"", `{}`, 0, 401},
		{"optional_exp", `{}`, 0, 200},
		{"optional_exp", fmt.Sprintf(`{"exp":%d}`, unix(0)), 31 * time.Second, 401},
		{"optional_exp", `{"exp":0}`, 0, 401},
		{"optional_exp", `{"exp":null}`, 0, 401},
		{"max_age 10m", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), 10 * time.Minute, 200},
		{"max_age 10m", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), 11 * time.Minute, 401},
		{"max_age 10m", fmt.Sprintf(`{"exp":%d}`, exp), 0, 401},
		{"max_lifetime 1h", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), 0, 200},
		{"max_lifetime 59m", fmt.Sprintf(`{"exp":%d,"iat":%d}`, exp, unix(0)), 0, 401},
		{"max_lifetime 1h", fmt.Sprintf(`{"exp":%d}`, exp), 0, 401},
		{"max_lifetime 1h\n optional_exp", fmt.Sprintf(`{"iat":%d}`, unix(0)), 0, 401},
		{"audience a b", fmt.Sprintf(`{"exp":%d,"aud":["x","b"]}`, exp), 0, 200},
		{"audience a b", fmt.Sprintf(`{"exp":%d,"aud":["x","A"]}`, exp), 0, 401},
		{"issuer https://i.test", fmt.Sprintf(`{"exp":%d,"iss":"https://i.test"}`, exp), 0, 200},
		{"issuer https://i.test", fmt.Sprintf(`{"exp":%d,"iss":"https://I.test"}`, exp), 0, 401},
	} {
		h := must(t, "jwt_auth {\n secret "+secret+"\n "+tc.options+"\n}")
		h.now = func() time.Time { return start.Add(tc.at) }
		for range 2 {
			s := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
			if got := send(t, h, s.sign(t, s.header(), tc.payload)); got != tc.want {
				t.Errorf("%q, %s, at %s: %d", tc.options, tc.payload, tc.at, got)
			}
		}
	}
	payload := fmt.Sprintf(`{"exp":%d}`, exp)
	for _, tc := range []struct {
		options string
		signer  signer
		header  string
		want    int
	}{
		{"", hs(jwt.SigningMethodHS512), "", 200},
		{"algorithms HS256 HS384", hs(jwt.SigningMethodHS384), "", 200},
		{"algorithms HS256 HS384", hs(jwt.SigningMethodHS512), "", 401},
		{"types x+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256","typ":"x+jwt"}`, 200},
		{"types x+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256","typ":"application/X+JWT"}`, 200},
		{"types x+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256","typ":"JWT"}`, 401},
		{"types x+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256"}`, 401},
		{"types at+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256","typ":"at+jwt"}`, 200},
		{"types at+jwt", hs(jwt.SigningMethodHS256), `{"alg":"HS256"}`, 401},
	} {
		h := must(t, "jwt_auth {\n secret "+long+"\n "+tc.options+"\n}")
		if tc.header == "" {
			tc.header = tc.signer.header()
		}
		if got := send(t, h, tc.signer.sign(t, tc.header, payload)); got != tc.want {
			t.Errorf("%q, %s: %d", tc.options, tc.header, got)
		}
	}
	// Secrets in base64, in either alphabet.
	bytes := []byte("\xfb\xff\xfe" + secret)
	for _, text := range []string{base64.StdEncoding.EncodeToString(bytes), base64.RawURLEncoding.EncodeToString(bytes)} {
		h := must(t, "jwt_auth {\n secret "+text+"\n base64\n}")
		s := signer{"HS256", jwt.SigningMethodHS256, bytes}
		if got := send(t, h, s.sign(t, s.header(), payload)); got != 200 {
			t.Errorf("%s: %d", text, got)
		}
		s.key = []byte(text)
		if got := send(t, h, s.sign(t, s.header(), payload)); got != 401 {
			t.Errorf("%s, taken as it is written: %d", text, got)
		}
	}
}

// A provider that asks for nothing but a signature still refuses what is no
// token, and claims of types that they do not have.
func TestMinimalProvider(t *testing.T) {
	h := must(t, "jwt_auth {\n secret "+secret+"\n optional_exp\n}")
	s := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
	for payload, want := range map[string]int{
		`{}`: 200, ` { } `: 200, `{"aud":"x"}`: 200, `{"aud":[]}`: 200, `{"aud":["x","y"]}`: 200, `{"iss":""}`: 200, `{"sub":""}`: 200,
		``: 401, `null`: 401, `[]`: 401, `""`: 401, `0`: 401, `true`: 401, `{}{}`: 401, `{},`: 401, `{} x`: 401,
		`{"aud":1}`: 401, `{"aud":{}}`: 401, `{"aud":null}`: 401, `{"aud":[1]}`: 401, `{"aud":["x",null]}`: 401, `{"aud":false}`: 401,
		`{"iss":1}`: 401, `{"iss":null}`: 401, `{"iss":["x"]}`: 401, `{"sub":1}`: 401, `{"sub":null}`: 401, `{"sub":{}}`: 401,
		`{"exp":"1"}`: 401, `{"exp":[]}`: 401, `{"exp":1e19}`: 401, `{"exp":1e400}`: 401, `{"nbf":1e19}`: 401, `{"nbf":1e300}`: 401, `{"nbf":9223372036854775807}`: 401, `{"nbf":"x"}`: 401, `{"nbf":false}`: 401,
		`{"iat":1e19}`: 401, `{"iat":"x"}`: 401, `{"iat":-1}`: 401, `{"nbf":-1}`: 401, `{"exp":-1}`: 401, `{"a":1,"a":1}`: 401, "{\"a\":\"\xff\"}": 401,
	} {
		for range 2 {
			if got := send(t, h, s.sign(t, s.header(), payload)); got != want {
				t.Errorf("%s: %d", payload, got)
			}
		}
	}
}

// A claim is text: that it looks like a placeholder makes it none.
func TestClaimsAreNoPlaceholders(t *testing.T) {
	t.Setenv("TENTAGATE_TEST_SECRET", "told")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-User"), " ", r.Header.Get("X-Again"))
	}))
	defer service.Close()
	server := servertest.New(t, ":80 {\n jwt_auth "+secret+" {\n forward sub X-User\n}\n header X-Answer {http.auth.user.id}\n reverse_proxy "+strings.TrimPrefix(service.URL, "http://")+" {\n header_up X-Again {http.auth.user.id}\n}\n}")
	for _, sub := range []string{"{env.TENTAGATE_TEST_SECRET}", "{http.vars.tentagate.jwt_auth.verified}", "{http.auth.user.sub}", `\{env.HOME}`, "{{env.HOME}}"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		bearer(mint(t, secret, jwt.MapClaims{"sub": sub}))(r)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := new(strings.Builder)
		_ = resp.Write(body)
		resp.Body.Close()
		if resp.StatusCode != 200 || strings.Contains(body.String(), "told") || !strings.Contains(body.String(), sub+" "+sub) {
			t.Errorf("%s: %s", sub, body)
		}
	}
}

// Trailers come after the fields were checked: a service never gets one in the
// name of a forwarded claim.
func TestTrailersAreNoFields(t *testing.T) {
	seen := make(chan http.Header, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Body.Close()
		all := r.Header.Clone()
		for name, values := range r.Trailer {
			all[name] = append(all[name], values...)
		}
		seen <- all
	}))
	defer service.Close()
	v := &victim{t: t, server: servertest.New(t, ":80 {\n jwt_auth "+secret+" {\n optional\n forward sub X-User\n}\n reverse_proxy "+strings.TrimPrefix(service.URL, "http://")+"\n}")}
	for _, declared := range []string{"Trailer: X-User\r\n", "Trailer: x_user, X-User\r\n", "Trailer: X-Other\r\n", ""} {
		for _, auth := range []string{"", "Authorization: Bearer " + mint(t, secret, jwt.MapClaims{"sub": "ann"}) + "\r\n"} {
			status, _ := v.raw("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\n" + auth + declared + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-User: mallory\r\nx_user: mallory\r\n\r\n")
			if status != 200 {
				t.Fatalf("%q: %d", declared, status)
			}
			got := <-seen
			for name, values := range got {
				if strings.Contains(strings.Join(values, ""), "mallory") {
					t.Errorf("%q: the service got %s %q", declared, name, values)
				}
			}
		}
	}
}
