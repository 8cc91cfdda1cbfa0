// Package apidocs shows the OpenAPI documents of all services as one, with a page
// to read it and to try it out.
package apidocs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	pathpkg "path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/resource"
)

// directive is the name of the handler in a Caddyfile, in errors and in metrics.
const directive = "api_docs"

// The defaults of the options.
const (
	defaultUI      = "/docs"
	defaultJSON    = "/openapi.json"
	defaultYAML    = "/openapi.yaml"
	defaultTitle   = "API"
	defaultPrefix  = "/api/"
	defaultRefresh = 5 * time.Minute
	defaultTimeout = 10 * time.Second

	defaultBodySize = 1 << 20
	maxBodySize     = 16 << 20
)

// off disables a page.
const off = "off"

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler serves one OpenAPI document that is merged of those of all services, and
// a page that shows it. Other requests pass.
//
// The services' documents are fetched in the background. One that cannot be fetched
// is used as it was when it could, and a service without one is described by its
// path alone.
//
//	api_docs {
//		title "Example API"
//		service users http://users:8000
//	}
type Handler struct {
	// Path of the page, or `off`. Default: `/docs`.
	UI string `json:"ui,omitempty"`

	// Path of the merged document in JSON, or `off`, which needs `ui` to be off too.
	// Default: `/openapi.json`.
	JSON string `json:"json,omitempty"`

	// Path of the merged document in YAML, or `off`. Default: `/openapi.yaml`.
	YAML string `json:"yaml,omitempty"`

	// Title of the merged document and of the page. Default: `API`.
	Title string `json:"title,omitempty"`

	// What the paths of the services begin with at this gateway; the name of the
	// service follows. It begins and ends with a slash. Default: `/api/`.
	Prefix string `json:"prefix,omitempty"`

	// The services. At least one is required.
	Services []*Service `json:"services,omitempty"`

	// Requests to the services need a bearer token: the document says so, and the
	// security schemes of the services that use the Authorization field are left out
	// of it. Default: false.
	Bearer bool `json:"bearer,omitempty"`

	// Paths at the gateway that need no token although `bearer` is set, with * at
	// the end for all that begin so. Default: none.
	Public []string `json:"public,omitempty"`

	// The requests that get this handler's answers need a token, by a handler in
	// front: the page asks for one. Default: false.
	AskToken bool `json:"ask_token,omitempty"`

	// Time between two fetches of a document, from 1s to 7d. Default: 5m.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// Time from the start of the gateway to the first fetch, unless somebody asks for
	// the merged document earlier, at most 1h. A reload does not wait. Default: none.
	Delay caddy.Duration `json:"delay,omitempty"`

	// How long one fetch may take, from 1s to 5m. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Validation of requests to the services against their documents. With `observe`,
	// requests that are not as described are counted and logged at debug level; with
	// `enforce`, they are refused. Default: `off`.
	Validate string `json:"validate,omitempty"`

	// The largest body in JSON that is validated, in bytes. Larger ones pass as they
	// are. Default: 1 MiB. The most is 16 MiB.
	ValidateBodySize int64 `json:"validate_body_size,omitempty"`

	// Where the Caddyfile has this directive. Errors name it.
	Position string `json:"position,omitempty"`

	ctx     caddy.Context
	logger  *zap.Logger
	page    map[string]*resource.Resource // what the page is made of, by path
	prefix  string                        // Prefix in lower case
	byName  map[string]*Service           // by name in lower case
	started sync.Once
	merged  variants
	run     problem.Handler // serve
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + directive,
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and describes the sources of the documents. It fetches
// none.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx, h.logger, h.run = ctx, ctx.Logger(), h.serve
	return place.Error(ctx, directive, h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.UI, h.JSON, h.YAML = cmp.Or(h.UI, defaultUI), cmp.Or(h.JSON, defaultJSON), cmp.Or(h.YAML, defaultYAML)
	h.Title, h.Prefix = cmp.Or(h.Title, defaultTitle), cmp.Or(h.Prefix, defaultPrefix)
	h.Refresh, h.Timeout = cmp.Or(h.Refresh, caddy.Duration(defaultRefresh)), cmp.Or(h.Timeout, caddy.Duration(defaultTimeout))
	h.ValidateBodySize = cmp.Or(h.ValidateBodySize, defaultBodySize)
	var err error
	if h.Title, err = resolve.AtLoad("title", h.Title); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	for _, s := range h.Services {
		if err := s.provision(ctx, h); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	h.page = h.pageResources()
	h.prefix, h.byName = strings.ToLower(h.Prefix), make(map[string]*Service, len(h.Services))
	for _, s := range h.Services {
		h.byName[strings.ToLower(s.Name)] = s
	}
	a.OnStart(h.start)
	return nil
}

// start begins to fetch the documents.
func (h *Handler) start() {
	h.started.Do(func() {
		for _, s := range h.Services {
			s.start()
		}
	})
}

// firstWait is the longest that a request for the merged document waits for the first
// fetches.
const firstWait = 2 * time.Second

// fetchFirst fetches the documents that were not fetched yet.
func (h *Handler) fetchFirst(ctx context.Context) {
	h.start()
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	var fetches sync.WaitGroup
	for _, s := range h.Services {
		if s.ref != nil && s.status().Result == "" {
			fetches.Go(func() { s.ref.Value.First(ctx) })
		}
	}
	fetches.Wait()
}

// check checks the options.
func (h *Handler) check() error {
	taken := map[string]string{}
	for _, page := range []struct{ option, path string }{{"ui", h.UI}, {"json", h.JSON}, {"yaml", h.YAML}} {
		if page.path == off {
			continue
		}
		if err := checkPath(page.option, page.path); err != nil {
			return err
		}
		if other, ok := taken[page.path]; ok {
			return fmt.Errorf("%s: %q is the path of %s", page.option, page.path, other)
		}
		taken[page.path] = page.option
		if err := h.checkFree(page.option, page.path); err != nil {
			return err
		}
	}
	if h.UI != off && h.JSON == off {
		return errors.New("json: off: the page shows the document in JSON; set `ui off` too")
	}
	if !strings.HasPrefix(h.Prefix, "/") || !strings.HasSuffix(h.Prefix, "/") || strings.ContainsAny(h.Prefix, "*?#{}") {
		return fmt.Errorf("prefix: %q: it begins and ends with a slash and has no wildcards, query or placeholders, such as /api/", h.Prefix)
	}
	for _, path := range h.Public {
		if !strings.HasPrefix(path, "/") || strings.Contains(strings.TrimSuffix(path, "*"), "*") {
			return fmt.Errorf("public: %q is not a path: it begins with a slash and may end with *", path)
		}
	}
	if len(h.Public) > 0 && !h.Bearer {
		return errors.New("public: it has no effect without bearer")
	}
	return cmp.Or(
		parse.Between("refresh", time.Duration(h.Refresh), time.Second, 7*24*time.Hour),
		parse.Between("timeout", time.Duration(h.Timeout), time.Second, 5*time.Minute),
		parse.Between("delay", time.Duration(h.Delay), 0, time.Hour),
		parse.Between("validate_body_size", h.ValidateBodySize, 1, maxBodySize),
		checkMode(h.Validate),
		h.checkServices(),
	)
}

// checkFree refuses a path that is one of a service, or a file of the page.
func (h *Handler) checkFree(option, path string) error {
	lower := strings.ToLower(path) + "/" // as Caddy compares paths
	for _, s := range h.Services {
		if strings.HasPrefix(lower, strings.ToLower(h.Prefix+s.Name+"/")) {
			return fmt.Errorf("%s: %q is a path of the service %s: write another, or off", option, path, s.Name)
		}
	}
	if name, below := strings.CutPrefix(path, h.UI+"/"); below && h.UI != off && assets()[name] != nil {
		return fmt.Errorf("%s: %q is a file of the page: write another", option, path)
	}
	return nil
}

// checkMode accepts what validate may be.
func checkMode(mode string) error {
	if !slices.Contains([]string{"", off, modeObserve, modeEnforce}, mode) {
		return fmt.Errorf("validate: %q: accepted are observe, enforce and off", mode)
	}
	return nil
}

func (h *Handler) checkServices() error {
	if len(h.Services) == 0 {
		return errors.New("no services: give it lines `service <name> <url>`")
	}
	names := map[string]bool{}
	for _, s := range h.Services {
		if err := checkName(s.Name); err != nil {
			return err
		}
		if err := checkMode(s.Validate); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		if lower := strings.ToLower(s.Name); names[lower] {
			return fmt.Errorf("service %s: given more than once", s.Name)
		} else {
			names[lower] = true
		}
	}
	return nil
}

func checkPath(option, path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("%s: %q is not a path: it begins with a slash, or is off", option, path)
	case path == "/" || strings.HasSuffix(path, "/"):
		return fmt.Errorf("%s: %q ends with a slash: write it without", option, path)
	case strings.ContainsAny(path, "*?#{}\"<>% ") || strings.Contains(path, "//"):
		return fmt.Errorf("%s: %q is not a plain path: it has no wildcards, query, escapes or placeholders", option, path)
	case path != pathpkg.Clean(path):
		return fmt.Errorf("%s: %q has a dot segment: resolve it", option, path)
	}
	return nil
}

// checkName accepts a name that is one segment of a path.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte("-_.", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("service name %q: accepted are 1 to 64 letters, digits, dashes, underscores and dots, a letter or digit first", name)
	}
	return nil
}

// Cleanup ends the use of the documents. They are kept while another configuration
// uses them.
func (h *Handler) Cleanup() error {
	var err error
	for _, s := range h.Services {
		err = errors.Join(err, s.release())
	}
	return err
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
