package resolve

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync/atomic"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// names are the placeholders that handlers of an HTTP app define.
type names struct {
	set  map[string]bool // by `map`
	vars map[string]bool // by `vars`

	// copies are the placeholders that `vars` copies, by the name of the variable: ""
	// for another text, or for different ones.
	copies map[string]string

	// anyVar: the name of a variable is itself a placeholder.
	anyVar bool

	// foreign: there is a handler or a matcher that is neither Caddy's nor ours,
	// and may define any name.
	foreign bool

	// errors: there are error routes.
	errors bool
}

// latest remembers the names of the app that is being provisioned: it has many
// handlers, and what they define is the same for all.
var latest atomic.Pointer[appNames]

type appNames struct {
	app   weak.Pointer[caddyhttp.App]
	names *names
}

// definedIn finds what the HTTP app of a module defines. While the app is being
// provisioned some of its handlers are loaded and the others are still JSON.
func definedIn(ctx caddy.Context) *names {
	n := &names{set: make(map[string]bool), vars: make(map[string]bool), copies: make(map[string]string)}
	modules := ctx.Modules()
	if len(modules) == 0 {
		n.foreign = true // nothing is known of what stands around the handler
		return n
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		n.foreign = true
		return n
	}
	if known := latest.Load(); known != nil && known.app.Value() == app {
		return known.names
	}
	for _, server := range app.Servers {
		n.routes(server.Routes)
		if server.Errors != nil {
			n.errorRoutes(server.Errors.Routes)
		}
		for _, route := range server.NamedRoutes {
			if route != nil {
				n.routes(caddyhttp.RouteList{*route})
			}
		}
	}
	latest.Store(&appNames{weak.Make(app), n})
	return n
}

func (n *names) errorRoutes(routes caddyhttp.RouteList) {
	for _, route := range routes {
		n.errors = n.errors || !problem.IsFallback(route)
	}
	n.routes(routes)
}

func (n *names) routes(routes caddyhttp.RouteList) {
	for i := range routes {
		route := &routes[i]
		for _, set := range route.MatcherSetsRaw {
			for name := range set {
				n.module("http.matchers." + name)
			}
		}
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				if m, ok := matcher.(caddy.Module); ok {
					n.typ(reflect.TypeOf(m))
				}
			}
		}
		for _, raw := range route.HandlersRaw {
			var value any
			if json.Unmarshal(raw, &value) == nil {
				n.raw(value)
			}
		}
		for _, handler := range route.Handlers {
			n.handler(handler)
		}
	}
}

// raw looks for handlers in JSON, at any depth.
func (n *names) raw(value any) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			n.raw(item)
		}
	case map[string]any:
		switch name, _ := v["handler"].(string); name {
		case "":
		case "map":
			destinations, _ := v["destinations"].([]any)
			for _, d := range destinations {
				n.destination(d)
			}
			return
		case "vars":
			for key, value := range v {
				if key != "handler" {
					n.variable(key, value)
				}
			}
			return
		default:
			n.module("http.handlers." + name)
		}
		for key, item := range v {
			if key == "errors" {
				n.errors = true
			}
			if sets, ok := item.([]any); ok && key == "match" {
				for _, set := range sets {
					matchers, _ := set.(map[string]any)
					for name := range matchers {
						n.module("http.matchers." + name)
					}
				}
			}
			n.raw(item)
		}
	}
}

// handler looks at a handler that is loaded, and at the routes within it.
func (n *names) handler(handler any) {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		n.routes(h.Routes)
		if h.Errors != nil {
			n.errorRoutes(h.Errors.Routes)
		}
		return
	case *caddyhttp.VarsMiddleware:
		for key, value := range *h {
			n.variable(key, value)
		}
		return
	}
	v := reflect.Indirect(reflect.ValueOf(handler))
	if v.Kind() != reflect.Struct {
		n.typ(v.Type())
		return
	}
	if m, ok := handler.(caddy.Module); ok && m.CaddyModule().ID == "http.handlers.map" {
		if f := v.FieldByName("Destinations"); f.IsValid() {
			destinations, _ := reflect.TypeAssert[[]string](f)
			for _, d := range destinations {
				n.destination(d)
			}
		}
		return
	}
	n.typ(v.Type())
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		switch f := v.Field(i).Interface().(type) {
		case caddyhttp.RouteList:
			n.routes(f)
		case map[string]caddyhttp.RouteList:
			for _, routes := range f {
				n.routes(routes)
			}
		case []caddyhttp.ResponseHandler: // of reverse_proxy and intercept
			for j := range f {
				n.routes(f[j].Routes)
			}
		}
	}
}

func (n *names) destination(d any) {
	if text, ok := d.(string); ok {
		n.set[strings.Trim(text, "{}")] = true
	}
}

func (n *names) variable(key string, value any) {
	if strings.Contains(key, "{") {
		n.anyVar = true
	}
	text, _ := value.(string)
	of := ""
	if list := Placeholders(text); len(list) == 1 && text == "{"+list[0]+"}" {
		of = list[0]
	}
	if n.vars[key] && n.copies[key] != of {
		of = ""
	}
	n.vars[key], n.copies[key] = true, of
}

// module notes whether a module that is not loaded yet is a third party's.
func (n *names) module(id string) {
	if info, err := caddy.GetModule(id); err == nil {
		n.typ(reflect.TypeOf(info.New()))
	}
}

func (n *names) typ(t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, own := range []string{"github.com/caddyserver/caddy/v2/", "github.com/pythopus/tentagate/"} {
		if strings.HasPrefix(t.PkgPath()+"/", own) {
			return
		}
	}
	n.foreign = true
}
