package placeholders_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/placeholders"
)

func request(t testing.TB) (*http.Request, *caddy.Replacer) {
	t.Helper()
	repl := caddy.NewReplacer()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	return caddyhttp.PrepareRequest(r, repl, httptest.NewRecorder(), &caddyhttp.Server{}), repl
}

func TestKnown(t *testing.T) {
	names := []string{
		"{http.auth.user.id}", "{http.auth.user.a.b}", "{http.auth.error.reason}", "{http.ratelimit.zone.remaining}",
		"{http.cache.status}", "{http.circuit_breaker.state}",
	}
	r, repl := request(t)
	for _, name := range names {
		if got := repl.ReplaceKnown(name, ""); got != name {
			t.Errorf("%s: %q before anybody knew it", name, got)
		}
	}
	placeholders.Known(r)
	for _, name := range names {
		if got := repl.ReplaceKnown(name, ""); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	// In an expression they are null, as before: `!= null` means somebody.
	anybody := &caddyhttp.MatchExpression{Expr: "{http.auth.user.id} != null"}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := anybody.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if matches, err := anybody.MatchWithError(r); err != nil || matches {
		t.Errorf("nobody is somebody in an expression: %v, %v", matches, err)
	}
	repl.Set("http.auth.user.id", "ann")
	if matches, err := anybody.MatchWithError(r); err != nil || !matches {
		t.Errorf("somebody in an expression: %v, %v", matches, err)
	}
	for _, name := range []string{"{http.auth.other.id}", "{http.authority}", "{other}", "{http.cached}"} {
		if got := repl.ReplaceKnown(name, ""); got != name {
			t.Errorf("%s, which is none of ours: %q", name, got)
		}
	}
}

// one is the provider of one placeholder.
type one struct{ name, value string }

func (o one) Placeholder(name string) (any, bool) { return o.value, name == o.name }

// A name that is given a value later has it, whatever made the names known before.
func TestProvide(t *testing.T) {
	r, repl := request(t)
	placeholders.Known(r)
	placeholders.Provide(r, one{"http.auth.user.id", "ann"})
	placeholders.Provide(r, one{"http.ratelimit.z.tier", "pro"})
	placeholders.Known(r)
	repl.Set("http.cache.status", "hit")
	got := repl.ReplaceKnown("{http.auth.user.id} {http.ratelimit.z.tier} {http.cache.status} {http.auth.user.name}.", "")
	if got != "ann pro hit ." {
		t.Errorf("got %q", got)
	}
	placeholders.Provide(r, one{"http.auth.user.id", "bob"})
	if got := repl.ReplaceKnown("{http.auth.user.id}", ""); got != "bob" {
		t.Errorf("the latest is %q", got)
	}
	if got, ok := placeholders.Provided[one](r); !ok || got.value != "bob" {
		t.Errorf("the latest provider is %v, %v", got, ok)
	}
	if got, ok := placeholders.Provided[placeholders.Provider](httptest.NewRequest(http.MethodGet, "/", nil)); ok {
		t.Errorf("a request without variables has the provider %v", got)
	}
	// What another handler sets goes before.
	repl.Set("http.auth.user.id", "eve")
	if got := repl.ReplaceKnown("{http.auth.user.id}", ""); got != "eve" {
		t.Errorf("set by another: %q", got)
	}
	// A copy of the request with the variables of the first.
	copied, other := request(t)
	caddyhttp.SetVar(copied.Context(), "tentagate", caddyhttp.GetVar(r.Context(), "tentagate"))
	if got, ok := placeholders.Provided[one](copied); ok {
		t.Errorf("a copy has the provider %v", got)
	}
	placeholders.Known(copied)
	if got := other.ReplaceKnown("{http.auth.user.id}", ""); got != "" {
		t.Errorf("in a copy: %q", got)
	}
	if got := repl.ReplaceKnown("{http.vars.tentagate}", ""); got != "" {
		t.Errorf("the sources are seen: %q", got)
	}
}

func BenchmarkKnown(b *testing.B) {
	r, _ := request(b)
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	b.ReportAllocs()
	for b.Loop() {
		delete(vars, "tentagate")
		placeholders.Known(r)
	}
}
