package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/servertest"
)

func init() {
	caddy.RegisterModule(new(finder))
	httpcaddyfile.RegisterHandlerDirective("finder", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		f := new(finder)
		h.Next()
		h.NextArg()
		f.Template = h.Val()
		return f, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("finder", httpcaddyfile.Before, "reverse_proxy")
}

// finder knows one template, for all paths.
type finder struct {
	Template string `json:"template"`
}

func (*finder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.finder", New: func() caddy.Module { return new(finder) }}
}

func (*finder) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func (f *finder) FindRoute(r *http.Request) (string, bool) {
	return f.Template, r.Method == http.MethodGet // as requests have it here at first
}

// A request that is refused in front of the handler that knows routes has the one that this
// handler names, that of its own site. Whose path was rewritten, or is malformed, has none.
func TestRouteOfRefused(t *testing.T) {
	site := func(name string) string {
		return "http://" + name + ".test:80 {\n route {\n finder /not-behind /wrong\n telemetry refused-" + name + "\n guard\n metrics /metrics\n error /no 403\n " +
			"uri /rewritten* strip_prefix /rewritten\n error /gone 403\n method /changed POST\n error /changed 405\n finder * /" + name + "/{id}\n respond ok\n }\n}\n"
	}
	handler := servertest.Handler(t, site("one")+site("two"))
	ask := func(host, path string) string {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+".test"+path, nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Body.String()
	}
	for _, host := range []string{"one", "two"} {
		for _, path := range []string{"/no", "/rewritten/gone", "/a%2fb", "/changed", "/fine"} {
			ask(host, path)
		}
	}
	contains(t, ask("one", "/metrics"),
		`tentagate_requests_total{code="403",route="/one/{id}",service="refused-one"} 1`,
		`tentagate_requests_total{code="403",route="_other",service="refused-one"} 1`,
		`tentagate_requests_total{code="400",route="_other",service="refused-one"} 1`,
		`tentagate_requests_total{code="405",route="/one/{id}",service="refused-one"} 1`,
		`tentagate_requests_total{code="200",route="_other",service="refused-one"} 1`,
		`tentagate_requests_total{code="403",route="/two/{id}",service="refused-two"} 1`,
	)
}
