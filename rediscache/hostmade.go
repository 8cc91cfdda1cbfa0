package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"

	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
)

// hostMade are the placeholders that handlers in front make of the host, with `vars` and
// `map`. The key has the host in its normal form, and they have it as it was sent.
type hostMade []string

// findHostMade reads the handlers in front. One may use what another one sets.
func findHostMade(before []caddyhttp.MiddlewareHandler) (made hostMade) {
	for known := -1; known < len(made); {
		known = len(made)
		for _, h := range before {
			switch h := h.(type) {
			case *caddyhttp.VarsMiddleware:
				for name, value := range *h {
					if text, ok := value.(string); ok && made.in(text) {
						made.add("http.vars." + name)
					}
				}
			case *maphandler.Handler:
				if made.in(h.Source) || slices.ContainsFunc(h.Defaults, made.in) || slices.ContainsFunc(h.Mappings, func(m maphandler.Mapping) bool {
					return slices.ContainsFunc(m.Outputs, func(output any) bool { text, ok := output.(string); return ok && made.in(text) })
				}) {
					for _, name := range h.Destinations {
						made.add(strings.Trim(name, "{}"))
					}
				}
			}
		}
	}
	slices.Sort(made)
	return made
}

func (m *hostMade) add(name string) {
	if !slices.Contains(*m, name) {
		*m = append(*m, name)
	}
}

// in reports whether a text is made of the host.
func (m hostMade) in(text string) bool {
	return strings.Contains(text, "{http.request.host") || strings.Contains(text, "{http.request.port}") ||
		strings.Contains(text, "{http.regexp.") || // it may be of the host
		slices.ContainsFunc(m, func(name string) bool { return strings.Contains(text, "{"+name+"}") })
}

// variables returns those whose values handlers behind use, of their names. What `map`
// sets is not a variable: it is made when it is read, behind the cache of the host in its
// normal form.
func (m hostMade) variables(behind []string) (names []string) {
	for _, name := range m {
		if strings.HasPrefix(name, "http.vars.") && slices.Contains(behind, name) {
			names = append(names, name)
		}
	}
	return names
}

// appendValues appends placeholders and their values to a key.
func appendValues(b []byte, names []string, r *http.Request) []byte {
	if len(names) == 0 {
		return b
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, name := range names {
		value := ""
		if repl != nil {
			value, _ = repl.GetString(name)
		}
		b = cachekey.AppendPart(cachekey.AppendPart(append(b, 'h'), name), value)
	}
	return b
}
