package site

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// CheckReached returns an error if no request can reach the handler that is being
// provisioned, because a handler before it answers every request, or because its matcher
// matches none: a check in such a place is switched off. So may be one whose matcher, or
// that of a block beside it, has a variable without a value. position is that of its
// directive, as in its JSON; without one nothing is checked. Doubtful cases are accepted.
func CheckReached(ctx caddy.Context, position string) error {
	if position == "" {
		return nil
	}
	mark := []byte(Mark(position))
	levels := routesAround(ctx)
	for _, module := range ctx.Modules() {
		if m, ok := module.(interface{ Subroutes() caddyhttp.RouteList }); ok { // those of tentagate
			levels = append(levels, m.Subroutes())
		}
	}
	for _, routes := range levels {
		own, at := find(routes, mark)
		if own < 0 {
			continue // another list of routes is being provisioned
		}
		if matcher := unmatched(routes[own].MatcherSets); matcher != "" {
			return fmt.Errorf("no request reaches it: its matcher, or that of a block around it, matches none: %s", matcher)
		}
		for i, route := range routes[:own+1] {
			if i < own && (route.Group == "" || route.Group != routes[own].Group) {
				continue
			}
			if err := CheckVariables(route.MatcherSets); err != nil {
				return err
			}
		}
		if name := answeredBefore(routes, own, at); name != "" {
			return fmt.Errorf("no request reaches it, so that it would check nothing: the %[1]s in front of it answers every request; move it in front of the %[1]s, or give the %[1]s a matcher", name)
		}
	}
	return nil
}

// routesAround returns the lists of routes in which the handler stands that is being
// provisioned, from the server's on.
func routesAround(ctx caddy.Context) []caddyhttp.RouteList {
	var levels []caddyhttp.RouteList
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		levels = append(levels, server.Routes)
	}
	for _, module := range ctx.Modules() {
		if subroute, ok := module.(*caddyhttp.Subroute); ok {
			levels = append(levels, subroute.Routes)
		}
	}
	return levels
}

// find returns the route and the handler of it in whose JSON mark stands, or -1. While a
// handler is provisioned, its route's matchers and the routes before it have been, and the
// route's handlers are still JSON.
func find(routes caddyhttp.RouteList, mark []byte) (own, at int) {
	for i, route := range routes {
		at = slices.IndexFunc(route.HandlersRaw, func(raw json.RawMessage) bool { return bytes.Contains(raw, mark) })
		if at >= 0 {
			return i, at
		}
	}
	return -1, 0
}

// answeredBefore returns the directive that answers every request before a handler of a
// route, or "".
func answeredBefore(routes caddyhttp.RouteList, own, at int) string {
	before := append(slices.Clone(routes[:own]), caddyhttp.Route{HandlersRaw: routes[own].HandlersRaw[:at]})
	return answeredIn(before)
}

// answeredIn returns the directive in routes that answers every request, or "". Handlers
// are JSON until they are provisioned.
func answeredIn(routes caddyhttp.RouteList) string {
	for _, route := range routes {
		if len(route.MatcherSets) > 0 || len(route.MatcherSetsRaw) > 0 || route.Group != "" {
			continue
		}
		for _, raw := range route.HandlersRaw {
			if name := answersAll(raw); name != "" {
				return name
			}
		}
		for _, handler := range route.Handlers {
			if name := provisionedAnswersAll(handler); name != "" {
				return name
			}
		}
	}
	return ""
}

// answersAll returns the directive of a handler that answers every request which comes to
// it with what a check may be there to protect, or "". A `redir`, `respond` or `error` that
// switches a whole site off protects it too.
func answersAll(raw json.RawMessage) string {
	var h struct {
		Handler        string              `json:"handler"`
		HandleResponse any                 `json:"handle_response"`
		PassThru       any                 `json:"pass_thru"`
		Errors         any                 `json:"errors"`
		Routes         caddyhttp.RouteList `json:"routes"`
	}
	switch err := json.Unmarshal(raw, &h); {
	case err != nil:
	case h.Handler == "reverse_proxy" && h.HandleResponse == nil: // else it may go on, as forward_auth does
		return h.Handler
	case h.Handler == "file_server" && h.PassThru == nil:
		return h.Handler
	case h.Handler == "subroute" && h.Errors == nil: // else its routes for errors may go on
		return answeredIn(h.Routes)
	}
	return ""
}

// provisionedAnswersAll is answersAll for a handler that is no longer JSON.
func provisionedAnswersAll(handler caddyhttp.MiddlewareHandler) string {
	if subroute, ok := handler.(*caddyhttp.Subroute); ok {
		if subroute.Errors != nil {
			return ""
		}
		return answeredIn(subroute.Routes)
	}
	switch name := strings.TrimPrefix(moduleID(handler), "http.handlers."); name {
	case "reverse_proxy", "file_server":
		return answersAll(caddyconfig.JSONModuleObject(handler, "handler", name, nil))
	}
	return ""
}
