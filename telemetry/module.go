// Package telemetry observes requests: metrics of each service and route, the fields of
// the access log that say what the gateway decided, and the spans of Caddy's tracing.
package telemetry

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain/past"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/route"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// maxName is the length that the name of a service may have in labels, in bytes.
const maxName = 256

// Handler observes the requests that pass it. It changes neither requests nor responses.
//
//	telemetry users
//	reverse_proxy users:8000
type Handler struct {
	// What metrics, logs and traces call the service behind this handler, and all
	// requests that are for none of Services. Default: `_other`.
	Service string `json:"service,omitempty"`

	// What stands in front of the name of a service in the path of a request, such as
	// `/api/`. It ends with a slash and is compared in any case. Required with Services.
	Path string `json:"path,omitempty"`

	// The services that the first segment behind Path may name, in any case. Default:
	// none.
	Services []string `json:"services,omitempty"`

	// Put behind the names of Services, as `users@api.example.com`, to tell services of
	// the same name at several sites apart. Default: none.
	Site string `json:"site,omitempty"`

	// Where the Caddyfile has this directive, such as `Caddyfile:12`. Errors name
	// it.
	Position string `json:"position,omitempty"`

	prefix   string              // Path in lower case
	services map[string]*service // by name in lower case
	other    *service
	refs     []*pool.Ref[*service]
	finders  finders
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.telemetry",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision looks up the series of the services, and registers the metrics.
func (h *Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), collectors...)
	past.Start()
	for _, o := range []struct {
		name string
		text *string
	}{{"service", &h.Service}, {"site", &h.Site}} {
		if *o.text == "" {
			continue
		}
		var err error
		if *o.text, err = resolve.AtLoad(o.name, *o.text); err != nil {
			return place.Error(ctx, "telemetry", h.Position, err)
		}
	}
	if err := h.check(); err != nil {
		return place.Error(ctx, "telemetry", h.Position, err)
	}
	var err error
	name := cmp.Or(h.Service, route.Other)
	if h.other, err = h.acquire(name, ""); err != nil {
		return err
	}
	h.prefix, h.services = strings.ToLower(h.Path), make(map[string]*service, len(h.Services))
	for _, name := range h.Services {
		label := name
		if h.Site != "" {
			label += "@" + h.Site
		}
		if h.services[strings.ToLower(name)], err = h.acquire(label, h.Path+name); err != nil {
			return err
		}
	}
	return nil
}

// acquire returns the series of a service, which all handlers with one of that name
// share.
func (h *Handler) acquire(label, base string) (*service, error) {
	ref, err := services.Acquire(label, func() (*service, error) { return newService(label, base), nil })
	if err != nil {
		return nil, err
	}
	h.refs = append(h.refs, ref)
	return ref.Value, nil
}

// check checks the options.
func (h *Handler) check() error {
	if err := checkName("service", h.Service); err != nil {
		return err
	}
	if err := checkName("site", h.Site); err != nil {
		return err
	}
	switch {
	case len(h.Services) == 0 && h.Path == "":
		return nil
	case len(h.Services) == 0:
		return fmt.Errorf("services: no names: it takes a path such as /api/ and the names that may follow it")
	case !strings.HasPrefix(h.Path, "/") || !strings.HasSuffix(h.Path, "/"):
		return fmt.Errorf("services: the path %q must begin and end with a slash, as /api/ does", h.Path)
	}
	seen := make(map[string]bool, len(h.Services))
	for _, name := range h.Services {
		if err := checkName("services", name); err != nil {
			return err
		}
		if name == "" || strings.ContainsAny(name, "/{} ") {
			return fmt.Errorf("services: %q is not a segment of a path", name)
		}
		if key := strings.ToLower(name); seen[key] {
			return fmt.Errorf("services: %q is given twice: names are compared in any case", name)
		} else {
			seen[key] = true
		}
	}
	return nil
}

func checkName(option, name string) error {
	switch {
	case name == route.Other:
		return fmt.Errorf("%s: %s is reserved for requests that are for no service", option, name)
	case !utf8.ValidString(name) || len(name) > maxName:
		return fmt.Errorf("%s: %.40q... is not a name: at most %d bytes of UTF-8 are accepted", option, name, maxName)
	}
	return nil
}

// Cleanup gives the series back. Those of a service that no configuration has any more
// are deleted.
func (h *Handler) Cleanup() error {
	for _, ref := range h.refs {
		if err := ref.Release(); err != nil {
			return err
		}
	}
	return nil
}

// serviceOf returns the service that a request is for.
func (h *Handler) serviceOf(r *http.Request) *service {
	if len(h.services) == 0 {
		return h.other
	}
	rest, ok := route.Below(r, h.prefix)
	if !ok {
		return h.other
	}
	name, _, _ := strings.Cut(rest, "/")
	if s, ok := h.services[name]; ok {
		return s
	}
	return h.other
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
