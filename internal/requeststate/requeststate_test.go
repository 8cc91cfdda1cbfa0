package requeststate

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func request(vars map[string]any) (*http.Request, *caddy.Replacer) {
	repl := caddy.NewReplacer()
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", nil), repl, httptest.NewRecorder(), &caddyhttp.Server{})
	maps.Copy(r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any), vars)
	return r, repl
}

func TestOf(t *testing.T) {
	bare := httptest.NewRequest(http.MethodGet, "/", nil)
	if Of(bare) != nil || Peek(bare) != nil {
		t.Error("a request without variables has a state")
	}
	r, repl := request(nil)
	if Peek(r) != nil {
		t.Error("a state that nobody asked for")
	}
	s := Of(r)
	if s == nil || Of(r) != s || Peek(r) != s || s.Replacer() != repl {
		t.Error("not one state for the request")
	}
	if got := repl.ReplaceKnown("{http.vars."+varKey+"}", ""); got != "" {
		t.Errorf("{http.vars.%s} is %q", varKey, got)
	}
}

// A copy of a request knows who asks, but what is written to it is its own.
func TestCopy(t *testing.T) {
	r, _ := request(nil)
	s := Of(r)
	id := "id"
	s.Identity, s.Token, s.Private = 1, 2, true
	s.Problem.Taken.Store(true)
	s.Problem.Begun.Store(true)
	s.Problem.ID.Store(&id)
	s.Circuit.Refused.Store(true)
	s.Placeholders.Latest.Store(new(Source))

	copied, repl := request(r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any))
	c := Of(copied)
	if c == s || c.Replacer() != repl || Of(copied) != c || Of(r) != s {
		t.Fatal("the copy has the state of the request")
	}
	if c.Identity != 1 || c.Token != 2 || !c.Private || !c.Problem.Taken.Load() || !c.Problem.Begun.Load() || *c.Problem.ID.Load() != id {
		t.Error("the copy does not know the client or the id")
	}
	if c.Circuit.Refused.Load() || c.Placeholders.Latest.Load() != nil || c.Guard.ID != "" {
		t.Error("the copy has what handlers behind write")
	}
	if c.Private = false; !s.Private {
		t.Error("the copy changes the request")
	}
}
