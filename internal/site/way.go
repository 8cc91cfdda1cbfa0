package site

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// changesMatched reports whether handlers on the way, behind a matcher on it, change
// request fields or variables that the matcher looks at: matches would have another
// result than the matcher had.
func (w *way) changesMatched(server *caddyhttp.Server) bool {
	for i, s := range w.steps {
		matchers := strings.ToLower(canonicalText(matchersOf(s.at())))
		if len(matchersOf(s.at())) == 0 {
			continue
		}
		for j, later := range w.steps[i:] {
			own := s.at()
			routes := caddyhttp.RouteList{}
			if j > 0 {
				own, routes = later.at(), later.earlier()
			}
			own.Handlers = own.Handlers[:later.handler]
			for _, h := range HandlersOf(server, append(routes, own)) {
				for _, name := range changedBy(h) {
					if strings.Contains(name, "*") || strings.Contains(matchers, strings.ToLower(name)) {
						return true
					}
				}
			}
		}
	}
	return false
}

// changedBy returns the names of request fields and variables that a handler changes.
func changedBy(h caddyhttp.MiddlewareHandler) (names []string) {
	if h, ok := h.(*headers.Handler); ok {
		if h.Request == nil {
			return nil
		}
		names = append(names, h.Request.Delete...)
		for _, fields := range []http.Header{h.Request.Set, h.Request.Add} {
			for name := range fields {
				names = append(names, name)
			}
		}
		for name := range h.Request.Replace {
			names = append(names, name)
		}
		return names
	}
	if moduleID(h) == "http.handlers.vars" {
		for _, key := range sortedKeys(reflect.Indirect(reflect.ValueOf(h))) {
			names = append(names, keyText(key))
		}
	}
	return names
}
