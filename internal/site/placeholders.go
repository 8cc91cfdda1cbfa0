package site

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"
)

// Placeholders returns the names that `map` handlers of the HTTP app which a
// module with this context belongs to give to placeholders. Other than a place
// they can be asked for while the module is provisioned.
func Placeholders(ctx caddy.Context) []string {
	var names []string
	add := func(destinations []string) {
		for _, d := range destinations {
			names = append(names, strings.Trim(d, "{}"))
		}
	}
	var routes func(caddyhttp.RouteList)
	routes = func(list caddyhttp.RouteList) {
		for _, route := range list {
			for _, raw := range route.HandlersRaw {
				mapped(raw, add)
			}
		}
	}
	for _, module := range ctx.Modules() {
		app, ok := module.(*caddyhttp.App)
		if !ok {
			continue
		}
		for _, server := range app.Servers {
			list := server.Routes
			if server.Errors != nil {
				list = append(list[:len(list):len(list)], server.Errors.Routes...)
			}
			for _, route := range server.NamedRoutes {
				list = append(list[:len(list):len(list)], *route)
			}
			routes(list)
			walk(server, list, nil, "", func(_ []step, h caddyhttp.MiddlewareHandler) {
				if m, ok := h.(*maphandler.Handler); ok {
					add(m.Destinations)
				}
			})
			walkRoutes(server, list, routes)
		}
	}
	return names
}

// walkRoutes calls f with the lists of routes inside of handlers.
func walkRoutes(server *caddyhttp.Server, list caddyhttp.RouteList, f func(caddyhttp.RouteList)) {
	walk(server, list, nil, "", func(_ []step, h caddyhttp.MiddlewareHandler) {
		inside(server, h, func(_ string, routes caddyhttp.RouteList) { f(routes) })
	})
}

// mapped calls f with the destinations of the map handlers in JSON that is not
// loaded yet.
func mapped(raw json.RawMessage, f func([]string)) {
	var value any
	if json.Unmarshal(raw, &value) == nil {
		mappedIn(value, f)
	}
}

func mappedIn(value any, f func([]string)) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			mappedIn(v, f)
		}
	case map[string]any:
		if list, ok := value["destinations"].([]any); ok && value["handler"] == "map" {
			var names []string
			for _, name := range list {
				if s, ok := name.(string); ok {
					names = append(names, s)
				}
			}
			f(names)
		}
		for _, v := range value {
			mappedIn(v, f)
		}
	}
}
