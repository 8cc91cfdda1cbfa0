// Package cors handles cross-origin requests (the CORS protocol of the Fetch
// standard) for every service behind the gateway.
package cors

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/origin"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/problem"
)

const (
	defaultMaxAge = 10 * time.Minute
	maxMaxAge     = 24 * time.Hour // the cap of browsers

	// off in place of a list of names is an empty list.
	off = "off"
)

// The defaults fit a JSON API behind this gateway.
var (
	defaultMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"}
	defaultHeaders = []string{"Accept", "Accept-Language", "Authorization", "Content-Language", "Content-Type", "Range", "X-Request-Id", "X-Requested-With"}
	defaultExposed = []string{"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "Cache-Status", "Age"}
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler answers preflight requests and sets the fields of the CORS protocol on
// every other response, errors included, whatever the service sent.
//
// Placeholders in the options, such as `{env.ALLOWED_ORIGINS}`, are resolved
// when the configuration is loaded; each may stand for several values,
// separated by commas.
//
//	cors https://app.example.com https://*.preview.example.com {
//		allow_credentials
//		max_age 1h
//	}
type Handler struct {
	// The origins whose pages may read responses: `*`, exact origins such as
	// `https://app.example.com`, `https://*.example.com` for all subdomains,
	// `https://pr-*.example.com` for those of one label with that prefix, and `:*` for
	// any port. Required.
	AllowedOrigins []string `json:"allowed_origins,omitempty"`

	// The methods that pages may use, in upper case. `*` allows all. GET, HEAD and
	// POST are CORS-safelisted and always allowed; `off` allows no others. Default: GET, HEAD, POST, PUT, PATCH, DELETE, QUERY.
	AllowedMethods []string `json:"allowed_methods,omitempty"`

	// The request header fields that pages may set, case-insensitive. `*` allows all,
	// `Authorization` included; `off` allows only those that are CORS-safelisted.
	// Default: Accept, Accept-Language, Authorization,
	// Content-Language, Content-Type, Range, X-Request-Id, X-Requested-With.
	AllowedHeaders []string `json:"allowed_headers,omitempty"`

	// The response header fields that pages may read, in addition to X-Request-Id,
	// Retry-After, RateLimit, RateLimit-Policy, Cache-Status and Age. `*` means all
	// and excludes allow_credentials; `off` means none, not even those. Default:
	// those.
	ExposedHeaders []string `json:"exposed_headers,omitempty"`

	// Let pages send cookies and HTTP authentication. Excludes `*`. Not needed for a
	// token that a page sets in the Authorization field itself. Default: false.
	AllowCredentials bool `json:"allow_credentials,omitempty"`

	// How long a browser may cache the response to a preflight, at most 24h.
	// Default: 10m.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Disable preflight caching: max_age is off. Default: false.
	NoMaxAge bool `json:"no_max_age,omitempty"`

	// Where the Caddyfile has this directive. Errors name it.
	Position string `json:"position,omitempty"`

	origins    *origin.Set
	methods    map[string]struct{} // nil allows all
	headers    map[string]struct{} // lower case; nil allows all
	methodList string
	headerList string
	logger     *zap.Logger
	ctx        caddy.Context
	exposed    string
	maxAge     string
	run        problem.Handler // pass
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cors",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision prepares the responses.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx, h.logger = ctx, ctx.Logger()
	return place.Error(ctx, "cors", h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	framing.Install(ctx)
	metrics.Register(ctx.GetMetricsRegistry(), requests)
	h.run = pass

	lists := []struct {
		option   string
		given    []string
		defaults []string
		resolved []string
	}{
		{option: "allowed_origins", given: h.AllowedOrigins},
		{option: "allowed_methods", given: h.AllowedMethods, defaults: defaultMethods},
		{option: "allowed_headers", given: h.AllowedHeaders, defaults: defaultHeaders},
		{option: "exposed_headers", given: h.ExposedHeaders, defaults: defaultExposed},
	}
	for i := range lists {
		list := &lists[i]
		var err error
		if list.resolved, err = resolved(list.option, list.given); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if err := checkNames(list.option, list.resolved); err != nil {
			return err
		}
		switch {
		case len(list.resolved) == 0:
			list.resolved = list.defaults
		case list.resolved[0] == off:
			list.resolved = nil
		case list.option == "exposed_headers" && !slices.Contains(list.resolved, "*"):
			list.resolved = merged(list.defaults, list.resolved)
		}
	}

	if err := h.provisionOrigins(lists[0].resolved, ctx.Logger()); err != nil {
		return fmt.Errorf("allowed_origins: %w", err)
	}
	methods, names, exposed := lists[1].resolved, lists[2].resolved, lists[3].resolved
	if h.AllowCredentials && slices.Contains(exposed, "*") {
		return errors.New("exposed_headers: with allow_credentials browsers take * literally; name the fields")
	}

	h.methods, h.headers = nil, nil
	if !slices.Contains(methods, "*") {
		h.methods = set(methods)
		h.methodList = strings.Join(methods, ", ")
	}
	if !slices.Contains(names, "*") {
		h.headers = set(names, strings.ToLower)
		h.headerList = strings.Join(names, ", ")
	}
	h.exposed = strings.Join(exposed, ", ")
	age := time.Duration(h.MaxAge)
	if age == 0 && !h.NoMaxAge {
		age = defaultMaxAge
	}
	h.maxAge = strconv.Itoa(int(age / time.Second))
	return nil
}

// provisionOrigins parses the allowed origins, and warns of those that are hardly
// intended.
func (h *Handler) provisionOrigins(texts []string, logger *zap.Logger) error {
	if len(texts) == 0 {
		return errors.New("missing: " + origin.Accepted)
	}
	var err error
	if h.origins, err = origin.Parse(texts); err != nil {
		return err
	}
	if h.origins.Any {
		if h.AllowCredentials {
			return errors.New("* excludes allow_credentials: every website could act on behalf of its visitors; name the origins")
		}
		return nil
	}
	for _, text := range texts {
		canonical, _ := origin.Canonical(text) // parsed above
		if canonical != text {
			logger.Warn("an allowed origin is not in canonical form; the corrected form is used",
				zap.String("origin", text), zap.String("corrected", canonical))
		}
		if h.AllowCredentials && strings.HasPrefix(canonical, "http://") && !loopback(canonical) {
			logger.Warn("an allowed origin without TLS may send credentials: an attacker on its network can act on behalf of its visitors",
				zap.String("origin", text))
		}
	}
	for _, domain := range h.origins.PublicSuffixes() {
		if h.AllowCredentials {
			return fmt.Errorf("*.%s excludes allow_credentials: anybody can register a name under %s; name the origins", domain, domain)
		}
		logger.Warn("an allowed origin covers names that anybody can register", zap.String("origin", "*."+domain))
	}
	return nil
}

// loopback reports whether an origin is this machine, as development servers
// are.
func loopback(canonical string) bool {
	_, host, _ := strings.Cut(canonical, "://")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasPrefix(host, "127.") || host == "[::1]"
}

// Validate checks max_age. Provision checks the rest.
func (h *Handler) Validate() error {
	if err := checkMaxAge(h.MaxAge); err != nil {
		return place.Error(h.ctx, "cors", h.Position, err)
	}
	if h.NoMaxAge && h.MaxAge != 0 {
		return place.Error(h.ctx, "cors", h.Position, errors.New("no_max_age: not possible together with max_age"))
	}
	return nil
}

func checkMaxAge(age caddy.Duration) error {
	if age < 0 || time.Duration(age) > maxMaxAge {
		return fmt.Errorf("max_age: %s is not between 0 and 24h", time.Duration(age))
	}
	return nil
}

func set(names []string, convert ...func(string) string) map[string]struct{} {
	s := map[string]struct{}{}
	for _, name := range names {
		for _, f := range convert {
			name = f(name)
		}
		s[name] = struct{}{}
	}
	return s
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
