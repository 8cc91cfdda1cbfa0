// Package route passes the route of a request to metrics, logs and traces: the template
// of its path, such as `/items/{id}`, from the description of its service.
package route

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// Other is the route of a request whose path has no template, and the service of one
// for none of the configured services.
const Other = "_other"

// Set names the route of the request: its path behind the service's own prefix, as the
// template says it. It takes effect for everything that is recorded when the handlers
// have returned, so that a handler may call it before or after the others.
//
// The template becomes the value of a label. It must be one of those that a
// configuration or an OpenAPI document names, never a part of a request.
func Set(r *http.Request, template string) {
	if s := requeststate.Of(r); s != nil {
		s.Decisions.Route = template
	}
}

// Of returns the route of the request, or "".
func Of(r *http.Request) string {
	if s := requeststate.Peek(r); s != nil {
		return s.Decisions.Route
	}
	return ""
}

// Below returns what the path of the request has behind prefix, which is in lower case
// and ends with a slash. Paths are compared as Caddy's path matcher does: in lower case,
// without dot segments and empty ones.
func Below(r *http.Request, prefix string) (rest string, ok bool) {
	return strings.CutPrefix(caddyhttp.CleanPath(strings.ToLower(r.URL.Path), true), prefix)
}

// Finder is a handler that knows the templates of paths.
type Finder interface {
	// FindRoute returns the template of the path of a request that has not reached the
	// handler, and false if it knows none. It changes nothing.
	FindRoute(r *http.Request) (template string, ok bool)
}
