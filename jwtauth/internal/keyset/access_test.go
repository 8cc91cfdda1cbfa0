package keyset

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A Kubernetes API server: its certificate is of a private authority, and it
// asks for a bearer token that changes from time to time.
func TestPrivateAuthorityAndBearerToken(t *testing.T) {
	var want atomic.Value
	want.Store("Bearer first")
	set := jwks(edJWK("one", ""))
	var server *httptest.Server
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			fmt.Fprintf(w, `{"issuer":"https://kubernetes.default.svc.cluster.local","jwks_uri":"%s/openid/v1/jwks"}`, server.URL)
			return
		}
		_, _ = w.Write(set)
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	write(ca, authority)
	write(token, "first\n")

	fetch := func(o Options) string {
		r := NewRemote(o)
		defer func() { _ = r.Destruct() }()
		_, _, _, err := r.fetchOnce(t.Context())
		if (err == nil) != (r.Keys().Len() == 1) {
			t.Errorf("%v with %d keys", err, r.Keys().Len())
		}
		return fmt.Sprint(err)
	}
	keys := Options{URL: server.URL + "/openid/v1/jwks", CAFile: ca, TokenFile: token}
	without := func(change func(o *Options)) Options { o := keys; change(&o); return o }
	for _, tc := range []struct {
		name    string
		options Options
		want    string
	}{
		{"keys", keys, "<nil>"},
		{"discovery", Options{URL: server.URL, Discovery: true, Issuers: []string{"https://kubernetes.default.svc.cluster.local"}, CAFile: ca, TokenFile: token}, "<nil>"},
		{"no authority", without(func(o *Options) { o.CAFile = "" }), "`ca` names the file of a private authority"},
		{"no token", without(func(o *Options) { o.TokenFile = "" }), "status 401: `token_file` names"},
		{"a missing token", without(func(o *Options) { o.TokenFile += "x" }), "token_file: open"},
		{"a missing authority", without(func(o *Options) { o.CAFile += "x" }), "ca: open"},
		{"an authority without a certificate", without(func(o *Options) { o.CAFile = token }), "no certificate in PEM form"},
		{"another issuer", Options{URL: server.URL, Discovery: true, CAFile: ca, TokenFile: token}, `found "https://kubernetes.default.svc.cluster.local", expected ["` + server.URL + `"]`},
	} {
		got := fetch(tc.options)
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", tc.name, got)
		}
		if strings.Contains(got, "first") {
			t.Errorf("%s: the error contains the token", tc.name)
		}
	}

	// Both files are read again: the token was replaced, then the authority.
	r := NewRemote(keys)
	defer func() { _ = r.Destruct() }()
	again := func() error { _, _, _, err := r.fetchOnce(t.Context()); return err }
	if err := again(); err != nil {
		t.Fatal(err)
	}
	want.Store("Bearer second")
	if err := again(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with the old token: %v", err)
	}
	write(token, "second")
	if err := again(); err != nil {
		t.Errorf("with the new token: %v", err)
	}
	write(ca, "broken")
	if err := again(); err == nil {
		t.Error("an invalid authority was not reported")
	}
	write(ca, authority+"\n")
	if err := again(); err != nil || r.Keys().Len() != 1 {
		t.Errorf("with the new authority: %v", err)
	}
}

// The token goes to nobody else, and never in plain text over a network.
func TestTokenIsSentToTheKeyServerAlone(t *testing.T) {
	for _, tc := range []struct {
		from, ca, to string
		want         bool
	}{
		{"https://a.test", "", "https://a.test/keys", true},
		{"https://a.test", "", "https://b.test/keys", false},
		{"https://a.test", "", "https://a.test:8443/keys", false},
		{"https://a.test", "ca", "https://10.0.0.1:6443/keys", true},
		{"https://a.test", "ca", "http://10.0.0.1/keys", false},
		{"http://a.test", "", "http://a.test/keys", false},
		{"http://127.0.0.1:1", "", "http://127.0.0.1:1/keys", true},
		{"http://127.0.0.1:1", "ca", "http://127.0.0.1:2/keys", false},
	} {
		to, err := url.Parse(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		r := NewRemote(Options{URL: tc.from, CAFile: tc.ca})
		if got := r.mayHaveToken(to); got != tc.want {
			t.Errorf("%s, ca %q, to %s: %v", tc.from, tc.ca, tc.to, got)
		}
	}
	if CheckToken("http://a.test/keys") == nil || CheckToken("https://a.test/keys") != nil || CheckToken("http://[::1]:1/keys") != nil {
		t.Error("CheckToken")
	}
}

func TestCheckAccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	for text, want := range map[string]string{"": "is empty", " \n": "is empty", "two tokens": "takes the token alone", "a\x00b": "takes the token alone", "token\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckAccess("", file); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if CheckAccess("", "") != nil || CheckAccess(file, "") == nil {
		t.Error("CheckAccess")
	}
}

// The configuration may name an issuer that was configured beside the address,
// and no other.
func TestIssuerBesideDiscovery(t *testing.T) {
	for _, tc := range []struct {
		url, issuer string
		issuers     []string
		asked, want string
	}{
		{"http://keycloak.test/realms/a", "https://id.test/realms/a", []string{"https://id.test/realms/a"}, "/realms/a/.well-known/openid-configuration", ""},
		{"http://keycloak.test/realms/a/", "https://id.test/realms/a", []string{"x", "https://id.test/realms/a"}, "/realms/a/.well-known/openid-configuration", ""},
		{"https://b2c.test/t/v2.0?p=sign_in", "https://b2c.test/0000/v2.0/", []string{"https://b2c.test/0000/v2.0/"}, "/t/v2.0/.well-known/openid-configuration?p=sign_in", ""},
		{"https://login.test/common/v2.0", "https://login.test/{tenantid}/v2.0", []string{"https://login.test/{tenantid}/v2.0"}, "/common/v2.0/.well-known/openid-configuration", ""},
		{"https://a.test", "https://a.test", []string{"https://other.test"}, "/.well-known/openid-configuration", ""},
		{"https://a.test", "https://b.test", []string{"https://a.test", "https://c.test", "https://c.test"}, "", `https://a.test/.well-known/openid-configuration: the configuration is of another issuer: found "https://b.test", expected ["https://a.test" "https://c.test"]`},
		{"https://a.test", "https://b.test", nil, "", `https://a.test/.well-known/openid-configuration: the configuration is of another issuer: found "https://b.test", expected ["https://a.test"]`},
		{"https://a.test", "https://a.test/", nil, "", `found "https://a.test/", expected ["https://a.test"]`},
		{"https://a.test", "https://b.test", []string{"https://B.test"}, "", `expected ["https://a.test" "https://B.test"]`},
		{"https://a.test", "", []string{"x"}, "", `found ""`},
	} {
		asked := ""
		r := NewRemote(Options{URL: tc.url, Discovery: true, AllowHTTP: true, Issuers: tc.issuers, Transport: transport(func(q *http.Request) (*http.Response, error) {
			if q.URL.Path == "/keys" {
				return answer(200, jwks(edJWK("one", ""))), nil
			}
			asked = q.URL.RequestURI()
			return answer(200, fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":"https://keys.test/keys"}`, tc.issuer)), nil
		})})
		_, _, _, err := r.fetchOnce(t.Context())
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || tc.asked != "" && asked != tc.asked {
			t.Errorf("%s: asked %s, %v", tc.url, asked, err)
		}
		_ = r.Destruct()
	}
}

// Every error of a fetch names the address, once, and no credentials in it.
func TestErrorsNameTheAddress(t *testing.T) {
	for name, f := range map[string]transport{
		"refused": func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("connection refused") },
		"404":     func(*http.Request) (*http.Response, error) { return answer(404, nil), nil },
		"HTML":    func(*http.Request) (*http.Response, error) { return answer(200, []byte("<html>")), nil },
		"configuration": func(*http.Request) (*http.Response, error) {
			return answer(200, []byte(`{"issuer":"x","jwks_uri":"y"}`)), nil
		},
	} {
		r := NewRemote(Options{URL: "https://a.test/keys?sig=secret", Transport: f})
		_, _, _, err := r.fetchOnce(t.Context())
		if err == nil || strings.Count(err.Error(), "https://a.test/keys?sig=REDACTED") != 1 || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "configuration" && !strings.Contains(err.Error(), "`discovery <issuer>`") {
			t.Errorf("%v", err)
		}
		_ = r.Destruct()
	}
}
