package jwtauth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// A source that keeps failing is logged every 30 seconds, and at once if the reason
// changes.
func TestFailuresAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{provider: "a"}
		logged := 0
		observe := func(err error) {
			before := w.logged
			w.observe("error", nil, err)
			if w.logged != before {
				logged++
			}
			time.Sleep(5 * time.Second)
		}
		for range 24 {
			observe(errors.New("connection refused"))
		}
		if logged != 4 {
			t.Errorf("logged %d times in two minutes", logged)
		}
		logged = 0
		observe(errors.New("another issuer"))
		observe(errors.New("another issuer"))
		if logged != 1 {
			t.Errorf("another reason was logged %d times", logged)
		}
		w.observe("ok", nil, nil)
		if w.failure != "" {
			t.Error("a failure that is over")
		}
	})
}

// The keys of a file that are left out are logged with the reason; those for
// encryption are no warning.
func TestKeysLeftOutOfAFileAreLogged(t *testing.T) {
	one := newNamed(t, "1")
	file := filepath.Join(t.TempDir(), "keys.json")
	set := published(one.jwk(), `{"kty":"RSA","kid":"w","n":"AQAB","e":"AQAB"}`, `{"kty":"RSA","kid":"e","use":"enc","n":"AQAB","e":"AQAB"}`)
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	p := &Provider{JWKS: file}
	if err := p.provision("files", zap.New(core)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.cleanup() }()
	for range 3 { // the file stays as it is
		p.source.(*keyset.Reloading).Due()
		_ = p.source.Keys()
	}
	var lines []string
	for _, entry := range logs.All() {
		lines = append(lines, fmt.Sprint(entry.Level, " ", entry.ContextMap()["error"]))
	}
	if got := strings.Join(lines, "\n"); got != "warn key 2: an RSA key of 17 bits: accepted are 2048 to 8192\ndebug key 3: by its use it is for encryption, not for signatures" {
		t.Errorf("%s", got)
	}
}

// The operator sees which issuer a token has, and which ones are accepted; the
// client does not.
func TestIssuersInTheLog(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	h := must(t, "jwt_auth {\n secret "+secret+"\n issuer https://a.test https://b.test\n}")
	h.providers[0].logger = zap.New(core)
	w := answered(t, h, mint(t, secret, jwt.MapClaims{"iss": "https://c.test"}))
	if w.Code != 401 || strings.Contains(w.Body.String()+fmt.Sprint(w.Header()), "https://a.test") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	lines := logs.FilterMessage("issuer not accepted").All()
	if len(lines) != 1 || fmt.Sprint(lines[0].ContextMap()) != "map[expected:[https://a.test https://b.test] found:https://c.test provider:main]" {
		t.Errorf("%v", lines)
	}
}
