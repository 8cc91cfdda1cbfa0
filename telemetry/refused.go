package telemetry

import (
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/site"
)

// finders are the handlers of the site that know the templates of paths. They are looked for
// at the first request that is refused in front of them.
type finders struct {
	once sync.Once
	list []route.Finder
}

// of returns those that stand behind a handler in its site.
func (f *finders) of(h *Handler, server *caddyhttp.Server) []route.Finder {
	f.once.Do(func() {
		for _, r := range server.Routes {
			handlers := site.HandlersOf(server, caddyhttp.RouteList{r})
			own := slices.Index(handlers, caddyhttp.MiddlewareHandler(h))
			if own < 0 {
				continue
			}
			for _, other := range handlers[own+1:] {
				if finder, ok := other.(route.Finder); ok {
					f.list = append(f.list, finder)
				}
			}
		}
	})
	return f.list
}

// findRoute finds the route of a request that the gateway refused in front of the handler
// that names it, as for its token or a limit. The path is that of the client still; the
// method may be another.
func (o *observation) findRoute() {
	d, r := &o.state.Decisions, o.request
	if d.Route != "" || d.Detail == "" || d.ByGuard || r.URL.Path != o.path || r.URL.RawPath != o.rawPath {
		return
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return
	}
	if r.Method != o.method {
		sent := *r
		sent.Method = o.method
		r = &sent
	}
	for _, finder := range o.handler.finders.of(o.handler, server) {
		if template, ok := finder.FindRoute(r); ok {
			d.Route = template
			return
		}
	}
}
