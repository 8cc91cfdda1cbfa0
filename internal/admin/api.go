package admin

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/running"
)

// Endpoint is a path of the admin API.
type Endpoint struct {
	// Pattern is that of http.ServeMux, such as `/tentagate/breakers/`.
	Pattern string
	// Serve answers requests with the method of one of the Operations, and HEAD where
	// one of them has GET.
	Serve caddy.AdminHandlerFunc
	// Operations describe what the endpoint does, for the OpenAPI document.
	Operations []Operation
}

// api is the module of a feature's endpoints.
type api struct {
	name   string
	routes []caddy.AdminRoute
}

// RegisterAPI adds endpoints to Caddy's admin API, which listens on localhost only
// unless it is configured otherwise, and to its OpenAPI document. name is unique among
// the features. It is called from init. The admin server is set up before the handlers
// are, so that Serve finds what it is about in the pools of the process.
func RegisterAPI(name string, endpoints ...Endpoint) {
	a := &api{name: name}
	for _, e := range endpoints {
		describe(e)
		a.routes = append(a.routes, caddy.AdminRoute{Pattern: e.Pattern, Handler: e.handler()})
	}
	caddy.RegisterModule(a)
}

// CaddyModule returns the Caddy module information.
func (a *api) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  caddy.ModuleID("admin.api.tentagate_" + a.name),
		New: func() caddy.Module { return a },
	}
}

// Routes returns the endpoints.
func (a *api) Routes() []caddy.AdminRoute { return a.routes }

// handler checks the method, and answers errors as application/problem+json.
func (e Endpoint) handler() caddy.AdminHandlerFunc {
	methods := e.methods()
	return func(w http.ResponseWriter, r *http.Request) error {
		if !slices.Contains(methods, r.Method) {
			accepted := strings.Join(methods, ", ")
			w.Header().Set("Allow", accepted)
			return fail(w, r, Error(http.StatusMethodNotAllowed, errors.New("accepted methods: "+accepted)))
		}
		if err := e.Serve(w, r); err != nil {
			return fail(w, r, err)
		}
		return nil
	}
}

// Handler returns what answers requests for all endpoints that are registered, as the
// admin server does, for other servers and for tests.
func Handler() http.Handler {
	mux := http.NewServeMux()
	for route := range allRoutes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) { _ = route.Handler.ServeHTTP(w, r) })
	}
	return mux
}

// ServeAt answers a request by the endpoint with a pattern, whatever the path of the request
// is, and with 404 if no feature has registered that.
func ServeAt(pattern string, w http.ResponseWriter, r *http.Request) error {
	for route := range allRoutes() {
		if route.Pattern == pattern {
			return route.Handler.ServeHTTP(w, r)
		}
	}
	return fail(w, r, Error(http.StatusNotFound, errors.New("there is no endpoint "+pattern)))
}

// allRoutes returns the endpoints of all features.
func allRoutes() iter.Seq[caddy.AdminRoute] {
	return func(yield func(caddy.AdminRoute) bool) {
		for _, m := range caddy.GetModules("admin.api") {
			if a, ok := m.New().(*api); ok {
				for _, route := range a.routes {
					if !yield(route) {
						return
					}
				}
			}
		}
	}
}

// Get returns what the endpoint at a path answers to a GET request, or an error if there is
// none or it fails.
func Get(path string) ([]byte, error) {
	r, err := http.NewRequest(http.MethodGet, path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer := &buffer{header: http.Header{}, status: http.StatusOK}
	if err := ServeAt(path, answer, r); err != nil {
		return nil, err
	}
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %d: %s", path, answer.status, answer.body.String())
	}
	return answer.body.Bytes(), nil
}

// methods returns the methods that the endpoint accepts.
func (e Endpoint) methods() (methods []string) {
	for _, o := range e.Operations {
		methods = append(methods, o.Method)
		if o.Method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// fail answers with an error. One that is not the client's is logged too.
func fail(w http.ResponseWriter, r *http.Request, err error) error {
	status := http.StatusInternalServerError
	if known, ok := errors.AsType[caddy.APIError](err); ok {
		status = known.HTTPStatus
		if known.Err != nil {
			err = known.Err
		}
	}
	if status >= http.StatusInternalServerError {
		running.Logger("tentagate.admin").Error("request to the admin API failed",
			zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", status), zap.Error(err))
	}
	return problem.Write(w, r, problem.New(status, err.Error()))
}

// Interface guard
var _ caddy.AdminRouter = (*api)(nil)
