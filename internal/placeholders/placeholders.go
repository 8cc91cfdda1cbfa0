// Package placeholders defines the gateway's placeholders in every request. Caddy
// does not replace a placeholder that is not defined, so a service would get the
// text `{http.auth.user.id}` for the name of an anonymous client. Here a placeholder
// without a value is empty.
package placeholders

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// roots are the prefixes of the gateway's placeholders, after `http.`.
var roots = [...]string{"auth.user.", "auth.error.", "ratelimit.", "cache.", "circuit_breaker."}

// varKey is the name of the sources among Caddy's variables of the request.
const varKey = "tentagate.placeholders"

// Provider has the values of some of the gateway's placeholders.
type Provider interface {
	// Placeholder returns the value of a placeholder such as http.auth.user.id, and
	// false if it has none.
	Placeholder(name string) (value any, ok bool)
}

// sources are the providers of a request, the latest first. A copy of the request
// may ask them in another goroutine.
type sources struct {
	repl   *caddy.Replacer
	latest atomic.Pointer[source]

	// Most requests have few providers: these need no allocation.
	room []source
	few  [2]source
}

type source struct {
	Provider
	before *source
}

// String keeps the sources out of {http.vars.*}.
func (*sources) String() string { return "" }

// Known defines all of the gateway's placeholders for the request, empty until a
// source provides a value. It may be called again.
func Known(r *http.Request) { of(r) }

// Provide adds a provider of values. Handlers use it instead of Replacer.Map,
// whose later functions are never asked for a name that is known.
func Provide(r *http.Request, p Provider) {
	s := of(r)
	if s == nil {
		return
	}
	if len(s.room) == 0 {
		s.room = make([]source, 2)
	}
	added := &s.room[0]
	s.room = s.room[1:]
	*added = source{p, s.latest.Load()}
	s.latest.Store(added)
}

// Provided returns the latest provider of a type, which a handler has added for
// the handlers behind it, and false if there is none.
func Provided[P Provider](r *http.Request) (p P, ok bool) {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	s, _ := vars[varKey].(*sources)
	if s == nil || s.repl != r.Context().Value(caddy.ReplacerCtxKey) {
		return p, false
	}
	for at := s.latest.Load(); at != nil; at = at.before {
		if p, ok = at.Provider.(P); ok {
			return p, true
		}
	}
	return p, false
}

// of returns the sources of the request, or nil if it has no replacer.
func of(r *http.Request) *sources {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	// A copy of a request has a replacer of its own.
	if s, ok := vars[varKey].(*sources); ok && s.repl == repl {
		return s
	}
	s := &sources{repl: repl}
	s.room = s.few[:]
	repl.Map(s.answer)
	vars[varKey] = s
	return s
}

func (s *sources) answer(name string) (any, bool) {
	rest, ok := strings.CutPrefix(name, "http.")
	if !ok {
		return nil, false
	}
	for _, root := range roots {
		if !strings.HasPrefix(rest, root) {
			continue
		}
		for at := s.latest.Load(); at != nil; at = at.before {
			if value, ok := at.Placeholder(name); ok {
				return value, true
			}
		}
		// An empty string in text, null in an expression.
		return nil, true
	}
	return nil, false
}
