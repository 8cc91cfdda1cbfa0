package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// Only keys that are fetched, or read from files, can be others for a real request.
func TestExplainNote(t *testing.T) {
	h := &Handler{providers: []*Provider{
		{name: "text", Secrets: []string{secret}},
		{name: "variable", Secrets: []string{"{env.SECRET}"}},
		{name: "file", Secrets: []string{"{file./run/secrets/key}"}},
		{name: "set", JWKS: "/run/keys.json"},
		{name: "remote", source: new(keyset.Remote)},
	}}
	for provider, noted := range map[string]bool{"text": false, "variable": false, "file": true, "set": true, "remote": true, "": true} {
		if note := h.noteOf(reasonSignature, provider); (note != "") != noted {
			t.Errorf("provider %q: %q", provider, note)
		}
	}
}

// A dry run neither remembers a proof nor caches a token.
func TestExplainHasNoEffect(t *testing.T) {
	c := newClient(t)
	bound := c.token(t)
	set := withProof(bound, c.proof(t, "GET", here, bound))
	h := must(t, "jwt_auth "+secret+" {\n dpop\n token_cache 3MiB\n}")
	for range 2 {
		r, w := httptest.NewRequest(http.MethodGet, "http://example.com/a?b=1", nil), httptest.NewRecorder()
		set(r)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
		requeststate.Of(r).DryRun = true
		record, passed := new(explain.Record), false
		err := h.Explain(record.Of(h), w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { passed = true; return nil }))
		if err != nil || !passed || len(record.Steps) != 1 || record.Steps[0].Result != explain.Passes {
			t.Fatalf("%v %+v", err, record.Steps)
		}
	}
	if n, _, _ := h.cache.good.Stats(); n != 0 {
		t.Errorf("%d tokens are cached", n)
	}
	if w, seen := through(t, set, h); seen == nil {
		t.Errorf("the first real request: %d", w.Code)
	}
	if w, seen := through(t, set, h); seen != nil {
		t.Errorf("the proof is accepted twice: %d", w.Code)
	}
}

// A dry run reads no file of keys, and so leaves it to the next real request.
func TestExplainReadsNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret)
	h := must(t, "jwt_auth {\n secret {file."+file+"}\n}")
	keys := h.providers[0].source.(*keyset.Reloading)
	one := signer{"HS256", jwt.SigningMethodHS256, []byte(secret)}
	two := signer{"HS256", jwt.SigningMethodHS256, []byte(other)}
	write(other)
	keys.Due()
	for _, tc := range []struct {
		signer
		accepted bool
	}{{one, true}, {two, false}} {
		if _, _, err := h.examine(t.Context(), tc.sign(t, tc.header(), goodPayload(""))); (err == nil) != tc.accepted {
			t.Errorf("by the keys that were read last: %v, want accepted %t", err, tc.accepted)
		}
	}
	if status := send(t, h, two.sign(t, two.header(), goodPayload(""))); status != http.StatusOK {
		t.Errorf("a real request after the dry runs: %d", status)
	}
}
