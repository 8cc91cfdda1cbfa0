package rediscache

import (
	"crypto/sha256"
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

// findHostMade reads the handlers in front.
func findHostMade(before []caddyhttp.MiddlewareHandler) (made hostMade) {
	eachMade(before, func() int { return len(made) }, func(name string, value any) {
		if text, ok := value.(string); ok && made.in(text) {
			made.add(name)
		}
	}, func(name string, h *maphandler.Handler) {
		if made.in(h.Source) || slices.ContainsFunc(h.Defaults, made.in) || slices.ContainsFunc(h.Mappings, func(m maphandler.Mapping) bool {
			return slices.ContainsFunc(m.Outputs, func(output any) bool { text, ok := output.(string); return ok && made.in(text) })
		}) {
			made.add(name)
		}
	})
	slices.Sort(made)
	return made
}

// eachMade calls vars with the placeholder and the value of each variable that handlers in
// front set, and mapped with each placeholder of a `map`. One may use what another one
// sets: they are called again as long as known grows.
func eachMade(before []caddyhttp.MiddlewareHandler, known func() int, vars func(name string, value any), mapped func(name string, h *maphandler.Handler)) {
	for last := -1; last < known(); {
		last = known()
		for _, h := range before {
			switch h := h.(type) {
			case *caddyhttp.VarsMiddleware:
				for name, value := range *h {
					vars("http.vars."+name, value)
				}
			case *maphandler.Handler:
				for _, name := range h.Destinations {
					mapped(strings.Trim(name, "{}"), h)
				}
			}
		}
	}
}

// hostSources are how placeholders begin by which services may tell hosts apart, beside
// that of the request: what regular expressions of matchers capture, the name in the TLS
// handshake, and the address that the client connected to.
var hostSources = []string{"http.regexp.", "http.request.tls.server_name", "http.request.local"}

func (m *hostMade) add(name string) {
	if !slices.Contains(*m, name) {
		*m = append(*m, name)
	}
}

// in reports whether a text is made of the host.
func (m hostMade) in(text string) bool {
	return strings.Contains(text, "{http.request.host") || strings.Contains(text, "{http.request.port}") ||
		slices.ContainsFunc(hostSources, func(prefix string) bool { return strings.Contains(text, "{"+prefix) }) ||
		slices.ContainsFunc(m, func(name string) bool { return strings.Contains(text, "{"+name+"}") })
}

// variables returns those whose values handlers behind use, of their names, and those of
// hostSources. What `map` sets is not a variable: it is made when it is read, behind the
// cache of the host in its normal form.
func (m hostMade) variables(behind []string) (names []string) {
	for _, name := range behind {
		isSource := slices.ContainsFunc(hostSources, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if isSource || strings.HasPrefix(name, "http.vars.") && slices.Contains(m, name) {
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
		if value != "" && strings.HasPrefix(name, "http.regexp.") { // it may be of a token, and keys are shown
			sum := sha256.Sum256([]byte(value))
			value = string(sum[:])
		}
		b = cachekey.AppendPart(cachekey.AppendPart(append(b, 'h'), name), value)
	}
	return b
}
