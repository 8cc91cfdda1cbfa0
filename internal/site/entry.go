package site

import (
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// OnEntry has a function called with each request that enters a site of the
// server whose handler is being provisioned, before any handler of that site.
// make returns the function for a site with these handlers, those of its handle_errors
// among them; it is called at the first request, and the function may be called more
// than once with one request.
// Only the first OnEntry of a server counts.
//
// Caddy has no handler in front of a site's routes. But the matchers of a route
// are called with each request. Routes are compiled into the server before named
// routes and error routes are provisioned, and then only sets of matchers that
// are there can still get one more, so those are changed in place.
func OnEntry(ctx caddy.Context, make func(handlers []caddyhttp.MiddlewareHandler) func(*http.Request)) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || slices.ContainsFunc(server.Routes, hasEntry) {
		return
	}
	var open, matched bool
	for i := range server.Routes {
		route := &server.Routes[i]
		sets, e := route.MatcherSets, &entry{server: server, routes: server.Routes, make: make}
		switch {
		case route.Terminal && len(sets) > 0:
			// A site: a request that matches it enters it.
			e.routes = server.Routes[i : i+1]
			for j, set := range sets {
				sets[j] = append(slices.Clip(set), e)
			}
		case route.Terminal:
			e.routes = server.Routes[i : i+1]
			route.MatcherSets = caddyhttp.MatcherSets{{e}}
		case len(sets) > 0 && !matched:
			// The whole server is a site: a request that reaches the first of its routes
			// enters it, whether it matches that route or not.
			open, matched = true, true
			sets[0] = append(caddyhttp.MatcherSet{e}, sets[0]...)
		case len(sets) == 0 && !open:
			// It may be compiled already, so that another gets one too.
			open = true
			route.MatcherSets = caddyhttp.MatcherSets{{e}}
		}
	}
}

// Handlers returns the handlers of each site of the server: a terminal route, or
// else the whole server, is one. It is for when the configuration is complete.
func Handlers(server *caddyhttp.Server) [][]caddyhttp.MiddlewareHandler {
	var sites [][]caddyhttp.MiddlewareHandler
	var rest caddyhttp.RouteList
	for i := range server.Routes {
		if server.Routes[i].Terminal {
			sites = append(sites, HandlersOf(server, server.Routes[i:i+1]))
		} else {
			rest = append(rest, server.Routes[i])
		}
	}
	return append(sites, HandlersOf(server, rest))
}

// entry is a matcher that calls a function, and otherwise changes nothing.
type entry struct {
	server *caddyhttp.Server
	routes caddyhttp.RouteList // of the site
	make   func([]caddyhttp.MiddlewareHandler) func(*http.Request)
	once   sync.Once
	call   func(*http.Request)
}

// MatchWithError calls the function.
func (e *entry) MatchWithError(r *http.Request) (bool, error) {
	e.once.Do(func() {
		e.call = e.make(append(HandlersOf(e.server, e.routes), HandlersOf(e.server, e.errorRoutes())...))
	})
	e.call(r)
	return true, nil
}

// errorRoutes returns the routes of handle_errors of the site: they have its matchers.
func (e *entry) errorRoutes() (routes caddyhttp.RouteList) {
	if e.server.Errors == nil {
		return nil
	}
	one := len(e.routes) == 1 && e.routes[0].Terminal
	for _, route := range e.server.Errors.Routes {
		if !one || canonicalText(matchersOf(e.routes[0])) == canonicalText(matchersOf(route)) {
			routes = append(routes, route)
		}
	}
	return routes
}

func hasEntry(route caddyhttp.Route) bool {
	return slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool { return slices.ContainsFunc(set, isEntry) })
}

func isEntry(matcher any) bool { _, ok := matcher.(*entry); return ok }

// matchersOf returns the matchers of a route that are the operator's.
func matchersOf(route caddyhttp.Route) caddyhttp.MatcherSets {
	if !hasEntry(route) {
		return route.MatcherSets
	}
	var own caddyhttp.MatcherSets
	for _, set := range route.MatcherSets {
		if set = slices.DeleteFunc(slices.Clone(set), isEntry); len(set) > 0 {
			own = append(own, set)
		}
	}
	return own
}

// Interface guard
var _ caddyhttp.RequestMatcherWithError = (*entry)(nil)
