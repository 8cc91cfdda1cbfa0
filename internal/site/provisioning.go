package site

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Configured is a handler of a configuration that is being provisioned.
type Configured struct {
	// JSON is the handler as it is configured.
	JSON map[string]any

	// Path names the matchers on the way to it, and the addresses that its server
	// listens on without their ports.
	Path string

	// Listen are the addresses that its server listens on.
	Listen []string
}

// AllConfigured returns the handlers of one kind in the HTTP app that the module
// of ctx belongs to, in an order that depends on the configuration alone. It is
// for the Provision of the first of them, when all are still JSON: those that are
// loaded already are missing.
func AllConfigured(ctx caddy.Context, handler string) []Configured {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return nil
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return nil
	}
	var found []Configured
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		c := &canonical{}
		for _, s := range socketsOf(server) {
			c.text(s.where())
		}
		s := search{ctx: ctx, handler: handler, listen: server.Listen, found: &found}
		s.routes(server.Routes, string(c.b))
		if server.Errors != nil {
			s.routes(server.Errors.Routes, string(c.b)+labelErrors)
		}
		for _, route := range slices.Sorted(maps.Keys(server.NamedRoutes)) {
			if server.NamedRoutes[route] != nil {
				s.routes(caddyhttp.RouteList{*server.NamedRoutes[route]}, string(c.b)+"&"+route)
			}
		}
	}
	return found
}

type search struct {
	ctx     caddy.Context
	handler string
	listen  []string
	found   *[]Configured
}

func (s *search) routes(routes caddyhttp.RouteList, path string) {
	for i := range routes {
		c := &canonical{b: []byte(path)}
		if len(routes[i].MatcherSets) > 0 {
			c.text("if")
			c.value(reflect.ValueOf(routes[i].MatcherSets))
		} else if len(routes[i].MatcherSetsRaw) > 0 {
			c.text("if")
			c.value(reflect.ValueOf(s.load(routes[i].MatcherSetsRaw)))
		}
		for _, raw := range routes[i].HandlersRaw {
			var value any
			if json.Unmarshal(raw, &value) == nil {
				s.value(value, string(c.b))
			}
		}
	}
}

// load makes of the matchers of a server whose turn has not come what those of
// the others are, so that the order of turns does not matter. What fails here
// will fail there too.
func (s *search) load(raw caddyhttp.RawMatcherSets) (sets caddyhttp.MatcherSets) {
	for _, texts := range raw {
		set := make(caddyhttp.MatcherSet, 0, len(texts))
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			if m, err := s.ctx.LoadModuleByID("http.matchers."+name, texts[name]); err == nil {
				set = append(set, m)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// value looks for handlers in JSON, at any depth.
func (s *search) value(value any, path string) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			s.value(item, path)
		}
	case map[string]any:
		if v["handler"] == s.handler {
			*s.found = append(*s.found, Configured{JSON: v, Path: path, Listen: s.listen})
			return
		}
		if sets, ok := v["match"].([]any); ok && len(sets) > 0 {
			// One site of a server has its routes in the list of the server, and one
			// of several in a list of its own: both must read alike.
			var raw caddyhttp.RawMatcherSets
			text, err := json.Marshal(sets)
			if err == nil && json.Unmarshal(text, &raw) == nil {
				c := &canonical{b: []byte(path)}
				c.text("if")
				c.value(reflect.ValueOf(s.load(raw)))
				path = string(c.b)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			switch v[key].(type) {
			case []any, map[string]any:
				at := path
				if key != "routes" && key != "handle" && key != "match" {
					at += "." + key
				}
				s.value(v[key], at)
			}
		}
	}
}
