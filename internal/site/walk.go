package site

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// step is a handler in a list of routes, on the way to another.
type step struct {
	// label says how the list belongs to the handler of the step before; it is
	// empty where requests go through it in their course.
	label   string
	routes  caddyhttp.RouteList
	route   int
	handler int
}

func (s step) at() caddyhttp.Route { return s.routes[s.route] }

// earlier returns the routes of the list that a request may have passed when it
// comes to the step: not those where it would have ended, and of a group only
// one.
func (s step) earlier() caddyhttp.RouteList {
	list := make(caddyhttp.RouteList, 0, s.route+1)
	group := s.at().Group
	for _, route := range s.routes[:s.route] {
		if !route.Terminal && (group == "" || route.Group != group) {
			list = append(list, route)
		}
	}
	return list
}

// way is how a request comes to a handler.
type way struct{ steps []step }

// maxDepth bounds how deep handlers are looked for in one another.
const maxDepth = 32

// walk calls f with each handler of the routes and of what is inside of them,
// and the way to it. The way is f's to keep.
func walk(server *caddyhttp.Server, routes caddyhttp.RouteList, before []step, label string, f func([]step, caddyhttp.MiddlewareHandler)) {
	if len(before) > maxDepth {
		return
	}
	for i := range routes {
		for j, h := range routes[i].Handlers {
			steps := append(slices.Clip(before), step{label: label, routes: routes, route: i, handler: j})
			f(steps, h)
			if invokes(before, h) {
				continue // a named route that invokes itself
			}
			inside(server, h, func(label string, routes caddyhttp.RouteList) { walk(server, routes, steps, label, f) })
		}
	}
}

func invokes(steps []step, h caddyhttp.MiddlewareHandler) bool {
	invoke, ok := h.(*caddyhttp.Invoke)
	return ok && slices.ContainsFunc(steps, func(s step) bool {
		other, ok := s.at().Handlers[s.handler].(*caddyhttp.Invoke)
		return ok && other.Name == invoke.Name
	})
}

// Inside calls f with each list of routes that a handler of the server has in it: those
// of a named route that it invokes and of error handlers among them.
func Inside(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler, f func(caddyhttp.RouteList)) {
	inside(server, h, func(_ string, routes caddyhttp.RouteList) { f(routes) })
}

// inside calls f with the lists of routes that a handler has.
func inside(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler, f func(label string, routes caddyhttp.RouteList)) {
	switch h := h.(type) {
	case *caddyhttp.Subroute:
		f("", h.Routes)
		if h.Errors != nil {
			f(labelErrors, h.Errors.Routes)
		}
	case *caddyhttp.Invoke:
		if route := server.NamedRoutes[h.Name]; route != nil {
			f("", caddyhttp.RouteList{*route})
		}
	default:
		fields(reflect.ValueOf(h), "", 0, f)
	}
}

const labelErrors = "errors"

var (
	routeListType = reflect.TypeFor[caddyhttp.RouteList]()
	routeType     = reflect.TypeFor[caddyhttp.Route]()
	handlersType  = reflect.TypeFor[[]caddyhttp.MiddlewareHandler]()
	handlerType   = reflect.TypeFor[caddyhttp.MiddlewareHandler]()
)

// fields looks for routes and handlers in the exported fields of a value.
func fields(v reflect.Value, label string, depth int, f func(string, caddyhttp.RouteList)) {
	if depth > 8 {
		return
	}
	switch {
	case !v.IsValid() || !v.CanInterface():
		return
	case v.Type() == routeListType:
		if v.Len() > 0 {
			f(label, v.Interface().(caddyhttp.RouteList))
		}
		return
	case v.Type() == routeType:
		f(label, caddyhttp.RouteList{v.Interface().(caddyhttp.Route)})
		return
	case v.Type() == handlersType:
		if v.Len() > 0 {
			f(label, caddyhttp.RouteList{{Handlers: v.Interface().([]caddyhttp.MiddlewareHandler)}})
		}
		return
	case v.Type() == handlerType && depth > 0:
		if !v.IsNil() {
			f(label, caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{v.Interface().(caddyhttp.MiddlewareHandler)}}})
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && (v.Elem().Kind() == reflect.Struct || v.Elem().Type() == routeListType) {
			fields(v.Elem(), label, depth+1, f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && mayHaveRoutes(field.Type) {
				fields(v.Field(i), label+"."+field.Name, depth+1, f)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			fields(v.Index(i), label+"."+strconv.Itoa(i), depth+1, f)
		}
	case reflect.Map:
		for _, key := range sortedKeys(v) {
			fields(v.MapIndex(key), label+"."+keyText(key), depth+1, f)
		}
	}
}

// mayHaveRoutes leaves out what cannot have routes in it.
func mayHaveRoutes(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		return t.Elem().Kind() == reflect.Struct || t.Elem() == routeListType
	case reflect.Slice, reflect.Array:
		return t == handlersType || mayHaveRoutes(t.Elem())
	case reflect.Map:
		return mayHaveRoutes(t.Elem())
	case reflect.Struct:
		return true
	case reflect.Interface:
		return t == handlerType
	}
	return false
}

// before returns the handlers that a request may have passed on the way.
func (w *way) before(server *caddyhttp.Server) []caddyhttp.MiddlewareHandler {
	var list []caddyhttp.MiddlewareHandler
	add := func(_ []step, h caddyhttp.MiddlewareHandler) { list = append(list, h) }
	for i, s := range w.steps {
		walk(server, w.passed(server, i), nil, "", add)
		own := s.at()
		own.Handlers = own.Handlers[:s.handler]
		walk(server, append(s.earlier(), own), nil, "", add)
		list = append(list, s.at().Handlers[s.handler]) // on the last step the handler itself
	}
	return list[:max(len(list)-1, 0)]
}

// passed returns the routes that a request may have passed before it comes to the list of
// a step that it does not come to in its course: those of a site before its
// handle_errors, and those behind an `intercept` before what that does with the response.
func (w *way) passed(server *caddyhttp.Server, i int) (routes caddyhttp.RouteList) {
	s := w.steps[i]
	switch {
	case s.label == "":
		return nil
	case i == 0: // the server's routes for errors, which have the matchers of their site
		site := canonicalText(matchersOf(s.at()))
		for _, route := range server.Routes {
			if !route.Terminal || canonicalText(matchersOf(route)) == site {
				routes = append(routes, route)
			}
		}
		return routes
	}
	outer := w.steps[i-1]
	switch h := outer.at().Handlers[outer.handler].(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case *reverseproxy.Handler:
		return nil // it has its answer before anything behind it is asked
	}
	(&way{steps: w.steps[:i]}).after(func(route caddyhttp.Route) bool {
		routes = append(routes, route)
		return false
	})
	return routes
}

// isOfErrors reports whether the way leads through routes for errors.
func (w *way) isOfErrors() bool {
	return slices.ContainsFunc(w.steps, func(s step) bool { return s.label == labelErrors })
}

// allPass reports whether every request that comes this way has passed the handler.
func (w *way) allPass(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler) (all bool) {
	isConditional := func(s step) bool { return s.label != "" || len(s.at().MatcherSets) > 0 || s.at().Group != "" }
	for _, s := range w.steps {
		own := caddyhttp.Route{Handlers: s.at().Handlers[:s.handler]}
		walk(server, append(s.earlier(), own), nil, "", func(steps []step, other caddyhttp.MiddlewareHandler) {
			all = all || pointer(other) && other == h && !slices.ContainsFunc(steps, isConditional)
		})
	}
	return all
}

// matches reports whether the request may have come this way, by the matchers on
// it: of the request as it is now, or as it was before it was rewritten.
func (w *way) matches(r *http.Request) bool {
	var first *http.Request
	for _, s := range w.steps {
		if s.label == labelErrors && r.Context().Value(caddyhttp.ErrorCtxKey) == nil {
			return false
		}
		sets := s.at().MatcherSets
		if len(sets) == 0 {
			continue
		}
		if ok, err := sets.AnyMatchWithError(r); ok && err == nil {
			continue
		}
		if first == nil {
			first = original(r)
		}
		if ok, err := sets.AnyMatchWithError(first); !ok || err != nil {
			return false
		}
	}
	return true
}

func original(r *http.Request) *http.Request {
	was, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || was.URL == nil {
		return r
	}
	first := new(http.Request)
	*first = *r
	first.URL = new(url.URL)
	*first.URL = *was.URL
	if was.Method != "" {
		first.Method = was.Method
	}
	if was.RequestURI != "" {
		first.RequestURI = was.RequestURI
	}
	return first
}
