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
// provisioned, because a handler before it answers every request: a check in such a place is
// switched off. position is that of its directive, as in its JSON; without one nothing is
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
		if name := answeredBefore(routes, mark); name != "" {
			return fmt.Errorf("no request reaches it: %s before it answers every request; put it before that, as in the default order of directives, or give that a matcher", name)
		}
	}
	return nil
}

// answeredBefore returns the directive that answers every request before the handler in whose
// JSON mark stands, or "". While a handler is provisioned, the routes before its own have
// been, and its own is still JSON.
func answeredBefore(routes caddyhttp.RouteList, mark []byte) string {
	own, at := -1, 0
	for i, route := range routes {
		at = slices.IndexFunc(route.HandlersRaw, func(raw json.RawMessage) bool { return bytes.Contains(raw, mark) })
		if at >= 0 {
			own = i
			break
		}
	}
	if own < 0 {
		return "" // another list of routes is being provisioned
	}
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
// it, or "".
func answersAll(value map[string]any) string {
	status := fmt.Sprint(value["status_code"])
	switch value["handler"] {
	case "reverse_proxy":
		// With routes for responses it may go on, as forward_auth does.
		if value["handle_response"] == nil {
			return "reverse_proxy"
		}
	case "static_response":
		// 103 goes on.
		if !strings.Contains(status, "103") && !strings.Contains(status, "{") {
			return "respond"
		}
	case "error":
		return "error"
	case "file_server":
		if value["pass_thru"] == nil {
			return "file_server"
		}
	case "subroute":
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
