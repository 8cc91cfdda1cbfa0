package ratelimit

import (
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// groupCache caches which ratelimit handlers directly follow a handler in the
// routes of its server, as they are decided together. The routes of a running
// server do not change.
type groupCache struct {
	found atomic.Pointer[group]
}

type group struct {
	server *caddyhttp.Server
	runs   []run
}

// run are consecutive handlers under the same matchers.
type run struct {
	matchers caddyhttp.MatcherSets
	handlers []*Handler
}

// members returns h and the ratelimit handlers that will run directly after it
// for this request. A handler that is not found in the server's routes (it is in
// a named route, or within another handler) is alone.
func (g *groupCache) members(r *http.Request, h *Handler) []*Handler {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil {
		return []*Handler{h}
	}
	found := g.found.Load()
	if found == nil || found.server != server {
		found = &group{server: server}
		if !findGroup(server.Routes, h, found) {
			found.runs = []run{{handlers: []*Handler{h}}}
		}
		g.found.Store(found)
	}
	members := found.runs[0].handlers
	for _, run := range found.runs[1:] {
		match, err := run.matchers.AnyMatchWithError(r)
		if err != nil {
			break
		}
		if match {
			// Copied on append: the slice belongs to the cache.
			members = append(slices.Clip(members), run.handlers...)
		}
	}
	return members
}

// findGroup searches the routes for h, nested ones included.
func findGroup(routes caddyhttp.RouteList, h *Handler, g *group) bool {
	for i := range routes {
		for j, handler := range routes[i].Handlers {
			if handler == caddyhttp.MiddlewareHandler(h) {
				g.runs = follow(routes[i:], j)
				return true
			}
			if findGroup(subroutes(handler), h, g) {
				return true
			}
		}
	}
	return false
}

// subroutes returns the routes that a request goes through in a handler.
func subroutes(handler caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case interface{ Subroutes() caddyhttp.RouteList }:
		return h.Subroutes()
	}
	return nil
}

// follow collects the handlers from the j-th of the first route on, up to the
// first that is not a ratelimit handler or depends on more than its matchers.
func follow(routes caddyhttp.RouteList, j int) []run {
	var runs []run
	for i := range routes {
		handlers := routes[i].Handlers
		if i == 0 {
			handlers = handlers[j:]
		} else if routes[i].Group != "" {
			return runs
		}
		limits := make([]*Handler, 0, len(handlers))
		for _, handler := range handlers {
			h, ok := handler.(*Handler)
			if !ok {
				break
			}
			limits = append(limits, h)
		}
		if len(limits) > 0 {
			runs = append(runs, run{routes[i].MatcherSets, limits})
		}
		if len(limits) < len(handlers) || routes[i].Terminal {
			return runs
		}
	}
	return runs
}
