package guard

import (
	"bytes"
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// transport distinguishes failures of the client from those of an upstream.
const transport = "tentagate"

// protect makes the proxies behind guard that count failures of their upstreams
// (`fail_duration`) use that transport in place of Caddy's http, all of whose
// options it has. Otherwise a client could take upstreams out of service, by
// requests that break off or cannot be forwarded.
//
// The handlers behind are still JSON when guard is provisioned. Once a proxy is
// provisioned, its health checks run, and its transport cannot be replaced.
func protect(ctx caddy.Context) {
	if _, err := caddy.GetModule("http.reverse_proxy.transport." + transport); err != nil {
		return // a build without it
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return
	}
	lists := []caddyhttp.RouteList{server.Routes}
	for _, module := range ctx.Modules() {
		if subroute, ok := module.(*caddyhttp.Subroute); ok {
			if len(lists) == 1 {
				lists[0] = nil // the other routes of the server belong to other sites
			}
			lists = append(lists, subroute.Routes)
		}
	}
	for _, routes := range lists {
		for i := range routes {
			protectRoute(&routes[i])
		}
	}
	for _, route := range server.NamedRoutes {
		if route != nil {
			protectRoute(route)
		}
	}
}

func protectRoute(route *caddyhttp.Route) {
	for i, raw := range route.HandlersRaw {
		if !bytes.Contains(raw, []byte("fail_duration")) {
			continue
		}
		var value any
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		if decoder.Decode(&value) != nil || !protectAll(value) {
			continue // Caddy reports the error
		}
		if changed, err := json.Marshal(value); err == nil {
			route.HandlersRaw[i] = changed
		}
	}
}

// protectAll changes the proxies in JSON, at any depth, and reports whether there
// were any.
func protectAll(value any) (changed bool) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			changed = protectAll(item) || changed
		}
	case map[string]any:
		for _, item := range v {
			changed = protectAll(item) || changed
		}
		if v["handler"] == "reverse_proxy" && counts(v) {
			changed = protectProxy(v) || changed
		}
	}
	return changed
}

// counts reports whether a proxy counts failures of its upstreams.
func counts(proxy map[string]any) bool {
	checks, _ := proxy["health_checks"].(map[string]any)
	passive, _ := checks["passive"].(map[string]any)
	return passive["fail_duration"] != nil
}

func protectProxy(proxy map[string]any) bool {
	switch given := proxy["transport"].(type) {
	case nil:
		proxy["transport"] = map[string]any{"protocol": transport}
		return true
	case map[string]any:
		if given["protocol"] == "http" {
			given["protocol"] = transport
			return true
		}
	}
	return false
}
