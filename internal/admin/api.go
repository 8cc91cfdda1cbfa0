package admin

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"mime"
	"net/http"
	"net/url"
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

// handler checks the method and, of requests that change something, the parameters and the
// type of the body. Errors are answered as application/problem+json.
func (e Endpoint) handler() caddy.AdminHandlerFunc {
	methods := e.methods()
	return func(w http.ResponseWriter, r *http.Request) error {
		if !slices.Contains(methods, r.Method) {
			accepted := strings.Join(methods, ", ")
			w.Header().Set("Allow", accepted)
			return fail(w, r, Error(http.StatusMethodNotAllowed, errors.New("accepted methods: "+accepted)))
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if err := e.check(r); err != nil {
				return fail(w, r, err)
			}
		}
		if err := e.Serve(w, r); err != nil {
			return fail(w, r, err)
		}
		return nil
	}
}

// check refuses what no operation with the method has: a misspelled `key` would change more
// than one circuit.
func (e Endpoint) check(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Error(http.StatusBadRequest, fmt.Errorf("the query: %w", err))
	}
	known, body := map[string]bool{}, false
	for _, o := range e.Operations {
		if o.Method != r.Method {
			continue
		}
		body = body || o.Body != nil
		for name := range o.Query {
			known[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !known[name] {
			return Error(http.StatusBadRequest, ErrUnknown("query parameter", name, slices.Sorted(maps.Keys(known))))
		}
	}
	if kind := r.Header.Get("Content-Type"); body && kind != "" && !isJSON(kind) {
		return Error(http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want application/json", kind))
	}
	return nil
}

// isJSON reports whether a body may be JSON by its Content-Type. `curl -d` says that
// everything is a form.
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "application/x-www-form-urlencoded")
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
