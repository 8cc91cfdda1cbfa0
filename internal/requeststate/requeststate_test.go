package requeststate

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/framing"
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

// The state answers as the context that it took the place of, also for values that
// a handler behind puts in front.
func TestContext(t *testing.T) {
	r, repl := request(nil)
	_, r = framing.Watch(httptest.NewRecorder(), r)
	before := r.Context()
	vars := before.Value(caddyhttp.VarsCtxKey)
	s := Of(r)
	if r.Context() != context.Context(s) {
		t.Fatal("the state is not the context of the request")
	}
	for _, key := range []any{
		caddy.ReplacerCtxKey, caddyhttp.ServerCtxKey, caddyhttp.ExtraLogFieldsCtxKey, caddyhttp.ErrorCtxKey, framing.Key{}, "other",
	} {
		if got, want := s.Value(key), before.Value(key); got != want {
			t.Errorf("%v: %v, before %v", key, got, want)
		}
	}
	if got := s.Value(caddyhttp.VarsCtxKey).(map[string]any); len(got) != len(vars.(map[string]any)) || got[varKey] != any(s) {
		t.Errorf("the variables are %v", got)
	}
	other := caddy.NewReplacer()
	behind := r.WithContext(context.WithValue(context.WithValue(r.Context(), caddyhttp.ErrorCtxKey, 1), caddyhttp.VarsCtxKey, vars))
	if Of(behind) != s || Peek(behind) != s {
		t.Error("a request with more values has another state")
	}
	if copied := r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, other)); Of(copied) == s || Of(copied).Replacer() != other {
		t.Error("a request with another replacer has the state")
	}
	if Of(r) != s || s.Replacer() != repl {
		t.Error("the request lost its state")
	}
	// A request that is canceled is so behind the state.
	ctx, cancel := context.WithCancel(before)
	r = r.WithContext(ctx)
	delete(vars.(map[string]any), varKey)
	behindState, stop := context.WithCancel(Of(r))
	defer stop()
	cancel()
	<-behindState.Done()
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
