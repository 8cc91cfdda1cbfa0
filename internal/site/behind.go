package site

import (
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// authenticating are the directives of handlers that refuse clients which they do not know.
var authenticating = map[string]string{"jwt_auth": "jwt_auth", "authentication": "basic_auth"}

// AuthenticatesBehind returns the directive of a handler that authenticates every client
// behind the handler that is being provisioned, in the same list of routes or one around
// it, or "": what stands behind a handler that answers every request does not count.
// position is that of its directive; without one nothing is looked at.
func AuthenticatesBehind(ctx caddy.Context, position string) string {
	if position == "" {
		return ""
	}
	for _, routes := range slices.Backward(routesAround(ctx)) {
		own, at := find(routes, []byte(Mark(position)))
		if own < 0 {
			continue
		}
		for i, route := range routes[own:] {
			raws := route.HandlersRaw
			if i == 0 {
				raws = raws[at+1:]
			} else if len(route.MatcherSets)+len(route.MatcherSetsRaw) > 0 || route.Group != "" {
				continue
			}
			for _, raw := range raws {
				var handler struct {
					Handler string `json:"handler"`
				}
				switch err := json.Unmarshal(raw, &handler); {
				case err != nil:
				case authenticating[handler.Handler] != "":
					return authenticating[handler.Handler]
				case handler.Handler == "static_response", handler.Handler == "error", answersAll(raw) != "":
					return ""
				}
			}
		}
	}
	return ""
}
