// Package placeholders defines the gateway's placeholders in every request. Caddy
// does not replace a placeholder that is not defined, so a service would get the
// text `{http.auth.user.id}` for the name of an anonymous client. Here a placeholder
// without a value is empty.
package placeholders

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// roots are the prefixes of the gateway's placeholders, after `http.`.
var roots = [...]string{"auth.user.", "auth.error.", "ratelimit.", "cache.", "circuit_breaker."}

// Provider has the values of some of the gateway's placeholders.
type Provider interface {
	// Placeholder returns the value of a placeholder such as http.auth.user.id, and
	// false if it has none.
	Placeholder(name string) (value any, ok bool)
}

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
	room := &s.Placeholders
	var added *requeststate.Source
	if room.Used < len(room.Room) {
		added = &room.Room[room.Used]
		room.Used++
	} else {
		added = new(requeststate.Source)
	}
	added.Provider, added.Before = p, room.Latest.Load()
	room.Latest.Store(added)
}

// Provided returns the latest provider of a type, which a handler has added for
// the handlers behind it, and false if there is none.
func Provided[P Provider](r *http.Request) (p P, ok bool) {
	s := requeststate.Peek(r)
	if repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); s == nil || s.Replacer() != repl {
		return p, false
	}
	for at := s.Placeholders.Latest.Load(); at != nil; at = at.Before {
		if p, ok = at.Provider.(P); ok {
			return p, true
		}
	}
	return p, false
}

// of returns the state of the request, which its replacer asks, or nil if it has
// no replacer.
func of(r *http.Request) *requeststate.State {
	s := requeststate.Of(r)
	if s == nil || s.Replacer() == nil {
		return nil
	}
	if !s.Placeholders.Mapped {
		s.Placeholders.Mapped = true
		s.Replacer().Map(func(name string) (any, bool) { return answer(s, name) })
	}
	return s
}

func answer(s *requeststate.State, name string) (any, bool) {
	rest, ok := strings.CutPrefix(name, "http.")
	if !ok {
		return nil, false
	}
	for _, root := range roots {
		if !strings.HasPrefix(rest, root) {
			continue
		}
		for at := s.Placeholders.Latest.Load(); at != nil; at = at.Before {
			if value, ok := at.Provider.Placeholder(name); ok {
				return value, true
			}
		}
		// An empty string in text, null in an expression.
		return nil, true
	}
	return nil, false
}
