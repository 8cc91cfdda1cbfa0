package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/requestid"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/site"
)

// guardID is the module whose sites have their errors answered with a problem.
const guardID = "http.handlers.guard"

func init() {
	caddy.RegisterModule(&Fallback{})
}

// Install makes the errors of handlers in front of guard, in its site, answers
// with a problem too where no error route is for them: those of basic_auth, error
// or request_body, which Caddy answers with an empty body. It is for the Provision
// of guard, whose context ctx is.
//
// The server gets a last error route, and so do those routes of its error routes
// that end a request, as those of sites do. There is time for that while the
// routes of the server are provisioned, as its error routes come after them.
func Install(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || !provisioning(server.Routes) {
		return
	}
	if server.Errors == nil {
		server.Errors = new(caddyhttp.HTTPErrorConfig)
	}
	if slices.ContainsFunc(server.Errors.Routes, IsFallback) {
		return
	}
	for i := range server.Errors.Routes {
		if route := &server.Errors.Routes[i]; route.Terminal {
			route.HandlersRaw = append(route.HandlersRaw, json.RawMessage(`{"handler":"problem_fallback"}`))
		}
	}
	server.Errors.Routes = append(server.Errors.Routes, caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{new(Fallback)}})
}

// provisioning reports whether one of the routes still has JSON in it, which
// Caddy forgets when it has loaded all of a route.
func provisioning(routes caddyhttp.RouteList) bool {
	for i := range routes {
		if len(routes[i].HandlersRaw) > 0 {
			return true
		}
	}
	return false
}

// IsFallback reports whether an error route is the one of Install, and not one of
// the operator's.
func IsFallback(route caddyhttp.Route) bool {
	return len(route.Handlers) == 1 && isFallback(route.Handlers[0])
}

func isFallback(handler caddyhttp.MiddlewareHandler) bool {
	_, ok := handler.(*Fallback)
	return ok
}

// Fallback answers errors that no error route has answered, in sites with guard,
// with a problem. guard puts it behind the error routes by itself.
type Fallback struct {
	once sync.Once
	ours []bool // by route of the server
}

// CaddyModule returns the Caddy module information.
func (*Fallback) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.problem_fallback",
		New: func() caddy.Module { return new(Fallback) },
	}
}

func (f *Fallback) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	if !ok {
		return next.ServeHTTP(w, r)
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || he.StatusCode >= http.StatusInternalServerError {
		logError(r, err) // Caddy takes what an error route answers for settled
	}
	if begun(r) || !f.concerns(r) {
		return next.ServeHTTP(w, r)
	}
	identify(w, r)
	return Write(w, r, err)
}

// identify gives a request that failed in front of guard the id that guard would
// have given it, unless telemetry has.
func identify(w http.ResponseWriter, r *http.Request) {
	if len(w.Header()[requestid.Header]) > 0 {
		return
	}
	s := requeststate.Of(r)
	if s == nil || s.Problem.ID.Load() == nil {
		SetRequestID(r, requestid.Of(r.Header))
	}
	w.Header()[requestid.Header] = []string{RequestID(r)}
	accesslog.Add(r, s)
}

// begun reports whether the answer had begun when the error came.
func begun(r *http.Request) bool {
	s := requeststate.Peek(r)
	return s != nil && s.Problem.Begun.Load()
}

// concerns reports whether guard is in the site of the request.
func (f *Fallback) concerns(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return false
	}
	f.once.Do(func() {
		f.ours = make([]bool, len(server.Routes))
		for i, route := range server.Routes {
			for _, h := range site.HandlersOf(server, caddyhttp.RouteList{route}) {
				m, ok := h.(caddy.Module)
				f.ours[i] = f.ours[i] || ok && m.CaddyModule().ID == guardID
			}
		}
	})
	for i, route := range server.Routes {
		if i >= len(f.ours) {
			break
		}
		if match, err := route.MatcherSets.AnyMatchWithError(r); !match || err != nil {
			continue
		}
		if f.ours[i] || route.Terminal {
			return f.ours[i]
		}
	}
	return false
}

// Interface guards
var _ caddyhttp.MiddlewareHandler = (*Fallback)(nil)
