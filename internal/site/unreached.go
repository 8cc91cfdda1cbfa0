package site

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// CheckReached returns an error if no request can reach the handler that is being
// provisioned, because a handler before it answers every request, or because its matcher
// matches none: a check in such a place is switched off. position is that of its directive, as in its JSON; without one nothing is
// checked. Doubtful cases are accepted.
func CheckReached(ctx caddy.Context, position string) error {
	if position == "" {
		return nil
	}
	var levels []caddyhttp.RouteList
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		levels = append(levels, server.Routes)
	}
	for _, module := range ctx.Modules() {
		if subroute, ok := module.(*caddyhttp.Subroute); ok {
			levels = append(levels, subroute.Routes)
		}
	}
	mark := []byte(`"position":` + strconv.Quote(position))
	for _, routes := range levels {
		own, at := find(routes, mark)
		if own < 0 {
			continue // another list of routes is being provisioned
		}
		if matcher := unmatched(routes[own].MatcherSets); matcher != "" {
			return fmt.Errorf("no request reaches it: its matcher, or that of a block around it, matches none: %s", matcher)
		}
		if name := answeredBefore(routes, own, at); name != "" {
			return fmt.Errorf("no request reaches it, so that it would check nothing: the %[1]s in front of it answers every request; move it in front of the %[1]s, or give the %[1]s a matcher", name)
		}
	}
	return nil
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
	for i, route := range routes[:own+1] {
		if i != own && (len(route.MatcherSets) > 0 || len(route.MatcherSetsRaw) > 0 || route.Group != "") {
			continue
		}
		raws := route.HandlersRaw
		if i == own {
			raws = raws[:at]
		}
		for _, raw := range raws {
			var value map[string]any
			if json.Unmarshal(raw, &value) == nil {
				if name := answersAll(value); name != "" {
					return name
				}
			}
		}
		if i < own {
			for _, handler := range route.Handlers {
				if name := provisionedAnswersAll(handler); name != "" {
					return name
				}
			}
		}
	}
	return ""
}

// answersAll returns the directive of a handler that answers every request which comes to
// it with what a check may be there to protect, or "". A `redir`, `respond` or `error` that
// switches a whole site off protects it too.
func answersAll(value map[string]any) string {
	switch value["handler"] {
	case "reverse_proxy":
		// With routes for responses it may go on, as forward_auth does.
		if value["handle_response"] == nil {
			return "reverse_proxy"
		}
	case "file_server":
		if value["pass_thru"] == nil {
			return "file_server"
		}
	case "subroute":
		if value["errors"] != nil {
			return "" // its routes for errors may go on
		}
		routes, _ := value["routes"].([]any)
		for _, item := range routes {
			route, _ := item.(map[string]any)
			if route["match"] != nil || route["group"] != nil {
				continue
			}
			handlers, _ := route["handle"].([]any)
			for _, handler := range handlers {
				inner, _ := handler.(map[string]any)
				if name := answersAll(inner); name != "" {
					return name
				}
			}
		}
	}
	return ""
}

// provisionedAnswersAll is answersAll for a handler that is no longer JSON.
func provisionedAnswersAll(handler caddyhttp.MiddlewareHandler) string {
	if subroute, ok := handler.(*caddyhttp.Subroute); ok {
		if subroute.Errors != nil {
			return ""
		}
		for _, route := range subroute.Routes {
			if len(route.MatcherSets) > 0 || route.Group != "" {
				continue
			}
			for _, inner := range route.Handlers {
				if name := provisionedAnswersAll(inner); name != "" {
					return name
				}
			}
		}
		return ""
	}
	text, err := json.Marshal(handler)
	if err != nil {
		return ""
	}
	value := map[string]any{}
	if json.Unmarshal(text, &value) != nil {
		return ""
	}
	value["handler"] = strings.TrimPrefix(moduleID(handler), "http.handlers.")
	return answersAll(value)
}
