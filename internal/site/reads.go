package site

import (
	"context"
	"net/http"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Reads is what the response of the handlers after a place depends on, beyond scheme,
// host, path, query and method of a request: which of them serve it, from which
// service, and what they answer themselves. Requests that are equal in all of it get
// equal responses.
//
// What is sent to a service is not included: the service names in Vary what its
// response depends on, also if `header_up` or `request_header` set it. The Host field
// is included, as it selects a service.
type Reads struct {
	// Unknown: what they depend on is not known yet when the place is reached.
	Unknown bool

	// Asks: they authenticate the client, or ask another service about it.
	Asks bool

	// Query: they depend on single parameters of the query.
	Query bool

	// Changes: they may change the fields of the request itself, as request_header does.
	Changes bool

	// Authenticators are the handlers that authenticate the client.
	Authenticators []caddyhttp.MiddlewareHandler

	// Trusted are the proxies that a reverse_proxy believes, by its trusted_proxies.
	Trusted []netip.Prefix

	values   []string // names of placeholders
	matchers []deciding
	// made are the request fields that services get with values in which requests
	// differ, but that are not there yet when the place is reached: the placeholders
	// that each is made of.
	made map[string][]string
}

// deciding is a matcher that looks at what clients choose.
type deciding struct {
	matcher any
	name    string // of what it is, as configured
	// sets: it sets placeholders.
	sets bool
}

// Decides reports whether responses depend on the placeholder, so that Append has it.
func (x *Reads) Decides(placeholder string) bool {
	return x != nil && slices.Contains(x.values, placeholder)
}

// None reports whether responses depend on no placeholder and no matcher.
func (x *Reads) None() bool { return x == nil || len(x.values) == 0 && len(x.matchers) == 0 }

// Append appends what the responses to a request depend on: the matchers that match, and
// the placeholders that have a value. ok is false if a matcher fails.
func (x *Reads) Append(b []byte, r *http.Request) (_ []byte, ok bool) {
	if x.None() {
		return b, true
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	aside := r
	for i := range x.matchers {
		m := &x.matchers[i]
		asked := r
		if m.sets {
			if aside == r && repl != nil {
				aside = aside.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, reader(repl)))
			}
			asked = aside
		}
		fits, err := match(m.matcher, asked)
		if err != nil {
			return b, false
		}
		if fits {
			b = append(append(b, 'm'), m.name...)
		}
	}
	if repl == nil {
		return b, true
	}
	for _, name := range x.values {
		value, known := repl.Get(name)
		if text := caddy.ToString(value); known && text != "" {
			b = append(appendUint(append(append(b, 'v'), name...), uint64(len(text))), ':')
			b = append(b, text...)
		}
	}
	return b, true
}

// AppendNames appends the names of these matchers and placeholders.
func (x *Reads) AppendNames(b []byte) []byte {
	if x.None() {
		return b
	}
	for _, m := range x.matchers {
		b = append(append(b, 'm'), m.name...)
	}
	for _, name := range x.values {
		b = append(append(b, 'v'), name...)
	}
	return b
}

// reader returns a replacer with the values of another, which can be written to
// for itself.
func reader(repl *caddy.Replacer) *caddy.Replacer {
	own := caddy.NewEmptyReplacer()
	own.Map(repl.Get)
	return own
}

func match(m any, r *http.Request) (bool, error) {
	switch m := m.(type) {
	case caddyhttp.RequestMatcherWithError:
		return m.MatchWithError(r)
	case caddyhttp.RequestMatcher: //nolint:staticcheck // matchers of others may have no other
		return m.Match(r), nil
	}
	return false, nil
}
