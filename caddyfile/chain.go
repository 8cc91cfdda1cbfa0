package caddyfile

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// compile puts routes into one handler, once. Caddy compiles the routes of a
// subroute anew for each request, as each has its own next handler; here, no
// request goes on behind the last route. Routes that need what only Caddy's own
// compilation has (groups, terminal routes, the trace log) are left to it.
func compile(ctx caddy.Context, routes caddyhttp.RouteList) caddyhttp.Handler {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	simple := server == nil || server.Logs == nil || !server.Logs.Trace
	for i := range routes {
		simple = simple && routes[i].Group == "" && !routes[i].Terminal
	}
	if !simple {
		return perRequest(routes)
	}
	next := nothing
	for i := range slices.Backward(routes) {
		rest := next
		for j := range slices.Backward(routes[i].Handlers) {
			next = &link{faster(ctx, routes[i].Handlers[j]), next}
		}
		if len(routes[i].MatcherSets) > 0 {
			next = &branch{sets: routes[i].MatcherSets, match: next, otherwise: rest}
		}
	}
	return next
}

// nothing is after the last route. It sets the variable that Caddy's own last handler
// sets for the access log.
var nothing caddyhttp.Handler = caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
	caddyhttp.SetVar(r.Context(), "unhandled", true)
	return nil
})

// link is a handler with the one behind it.
type link struct {
	handler caddyhttp.MiddlewareHandler
	next    caddyhttp.Handler
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	return l.handler.ServeHTTP(w, r, l.next)
}

// branch is a route with matchers.
type branch struct {
	sets             caddyhttp.MatcherSets
	match, otherwise caddyhttp.Handler
}

func (b *branch) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	ok, err := b.sets.AnyMatchWithError(r)
	switch {
	case err != nil:
		return err
	case ok:
		return b.match.ServeHTTP(w, r)
	}
	return b.otherwise.ServeHTTP(w, r)
}

// perRequest are routes that Caddy compiles for each request.
type perRequest caddyhttp.RouteList

func (p perRequest) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	return caddyhttp.RouteList(p).Compile(nothing).ServeHTTP(w, r)
}

// below returns what the request's path has after prefix, which ends with a
// slash, in lower case. Paths are compared as Caddy's strip_path_prefix does, which
// makes the path for the service: without dot segments and empty ones, and without regard
// to the case of ASCII letters. Other letters are never equal to those: Unicode has a
// sign for the Kelvin that in lower case is a k.
func below(r *http.Request, prefix string) (rest string, ok bool) {
	path := lower(r.URL.Path)
	if !isClean(path) {
		path = caddyhttp.CleanPath(path, true)
	}
	return strings.CutPrefix(path, prefix)
}

// lower returns a text with its ASCII letters in lower case.
func lower(text string) string {
	for i := range len(text) {
		if !isUpper(text[i]) {
			continue
		}
		b := []byte(text)
		for j := i; j < len(b); j++ {
			if isUpper(b[j]) {
				b[j] += 'a' - 'A'
			}
		}
		return string(b)
	}
	return text
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// spelled returns a path as the configuration spells it, if it begins with the prefix
// and one of the names, by lower case, in any spelling, else "". The path is escaped,
// and so is the result.
func spelled(path, prefix string, names map[string]string) string {
	rest, ok := strings.CutPrefix(path, prefix)
	if ok {
		name, _, _ := strings.Cut(rest, "/")
		if names[lower(name)] == name && name != "" && !strings.Contains(path, "//") {
			return path
		}
	}
	clean := caddyhttp.CleanPath(path, true)
	for depth := strings.Count(prefix, "/"); depth > 0; depth-- {
		_, clean, _ = strings.Cut(clean, "/")
	}
	segment, rest, more := strings.Cut(clean, "/")
	decoded, err := url.PathUnescape(segment)
	name := names[lower(decoded)]
	switch {
	case err != nil || name == "":
		return ""
	case more:
		return prefix + name + "/" + rest
	}
	return prefix + name
}
