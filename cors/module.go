// Package cors answers cross-origin requests (the CORS protocol of the Fetch
// standard) for every service behind the gateway.
package cors

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/cors/origin"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
)

const (
	acAllowOrigin      = "Access-Control-Allow-Origin"
	acAllowCredentials = "Access-Control-Allow-Credentials"
	acAllowMethods     = "Access-Control-Allow-Methods"
	acAllowHeaders     = "Access-Control-Allow-Headers"
	acExposeHeaders    = "Access-Control-Expose-Headers"
	acMaxAge           = "Access-Control-Max-Age"
	acRequestMethod    = "Access-Control-Request-Method"
	acRequestHeaders   = "Access-Control-Request-Headers"
)

const (
	defaultMaxAge = 10 * time.Minute
	maxMaxAge     = 24 * time.Hour // browsers cap it there or below
	// maxRequestHeaders bounds the work on a hostile preflight, in bytes.
	maxRequestHeaders = 4096
)

// defaultMethods and defaultExposed are what a JSON API needs.
var (
	defaultMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	defaultHeaders = []string{"Accept", "Accept-Language", "Authorization", "Content-Language", "Content-Type", "Range", "X-Request-Id", "X-Requested-With"}
	defaultExposed = []string{"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "Cache-Status", "Age"}
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler answers preflight requests and puts the fields of the CORS protocol
// on every other response, an error too, exactly once whatever the service
// sent.
type Handler struct {
	// The origins whose pages may read responses: `*`, exact origins such as
	// `https://app.example.com`, `https://*.example.com` for all subdomains, and
	// `:*` for any port. Required.
	AllowedOrigins []string `json:"allowed_origins,omitempty"`

	// The methods that pages may use. `*` allows all. Default: GET, HEAD, POST,
	// PUT, PATCH, DELETE.
	AllowedMethods []string `json:"allowed_methods,omitempty"`

	// The request header fields that pages may set. `*` allows all. Default:
	// Accept, Accept-Language, Authorization, Content-Language, Content-Type,
	// Range, X-Request-Id, X-Requested-With.
	AllowedHeaders []string `json:"allowed_headers,omitempty"`

	// The response header fields that pages may read. Default: X-Request-Id,
	// Retry-After, RateLimit, RateLimit-Policy, Cache-Status, Age.
	ExposedHeaders []string `json:"exposed_headers,omitempty"`

	// Let pages send cookies and HTTP authentication. Excludes `*`. A token that
	// a page puts into the Authorization field itself needs it not. Default:
	// false.
	AllowCredentials bool `json:"allow_credentials,omitempty"`

	// How long a browser may remember the answer to a preflight, at most 24h.
	// Default: 10m.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	origins    *origin.Set
	methods    map[string]struct{} // nil allows all
	headers    map[string]struct{} // lower case; nil allows all
	methodList string
	exposed    string
	maxAge     string
}

var requests = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "tentagate",
	Subsystem: "cors",
	Name:      "requests_total",
	Help:      "Cross-origin requests, by kind and whether the origin is allowed.",
}, []string{"kind", "allowed"})

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cors",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision prepares the answers.
func (h *Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), requests)
	var err error
	if h.origins, err = origin.Parse(h.AllowedOrigins); err != nil {
		return fmt.Errorf("allowed_origins: %w", err)
	}
	methods := h.AllowedMethods
	if len(methods) == 0 {
		methods = defaultMethods
	}
	if !slices.Contains(methods, "*") {
		h.methods = set(methods)
		h.methodList = strings.Join(methods, ", ")
	}
	names := h.AllowedHeaders
	if len(names) == 0 {
		names = defaultHeaders
	}
	if !slices.Contains(names, "*") {
		h.headers = map[string]struct{}{}
		for _, name := range names {
			h.headers[strings.ToLower(name)] = struct{}{}
		}
	}
	exposed := h.ExposedHeaders
	if len(exposed) == 0 {
		exposed = defaultExposed
	}
	h.exposed = strings.Join(exposed, ", ")
	age := time.Duration(h.MaxAge)
	if age == 0 {
		age = defaultMaxAge
	}
	h.maxAge = strconv.Itoa(int(age / time.Second))
	return nil
}

// Validate refuses what browsers would refuse, or what would give away more
// than it says.
func (h *Handler) Validate() error {
	if len(h.AllowedOrigins) == 0 {
		return errors.New("allowed_origins: missing: " + origin.Accepted)
	}
	if h.AllowCredentials {
		switch {
		case h.origins.Any:
			return errors.New("allow_credentials: not with allowed_origins *: every page on the web could act as the user; name the origins")
		case slices.Contains(h.ExposedHeaders, "*"):
			return errors.New("allow_credentials: browsers read exposed_headers * literally then; name the fields")
		}
	}
	for option, names := range map[string][]string{
		"allowed_methods": h.AllowedMethods, "allowed_headers": h.AllowedHeaders, "exposed_headers": h.ExposedHeaders,
	} {
		for _, name := range names {
			if !isToken(name) {
				return fmt.Errorf("%s: %q is not a name", option, name)
			}
		}
	}
	for _, method := range h.AllowedMethods {
		switch strings.ToUpper(method) {
		case "CONNECT", "TRACE", "TRACK":
			return fmt.Errorf("allowed_methods: browsers never send %s", method)
		}
	}
	if h.MaxAge < 0 || time.Duration(h.MaxAge) > maxMaxAge {
		return fmt.Errorf("max_age: %s is not between 1s and 24h", time.Duration(h.MaxAge))
	}
	return nil
}

func set(names []string) map[string]struct{} {
	s := map[string]struct{}{}
	for _, name := range names {
		s[name] = struct{}{}
	}
	return s
}

// isToken reports whether s is a token (RFC 9110 §5.6.2); `*` is one.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	from, cross := requestOrigin(r)
	allowed := cross && h.origins.Allows(from)
	if cross && r.Method == http.MethodOptions && len(r.Header[acRequestMethod]) == 1 {
		count("preflight", allowed)
		h.preflight(w, r, from, allowed)
		return nil
	}
	if cross {
		count("actual", allowed)
	}
	apply := func(fields http.Header, _ int) { h.apply(fields, from, allowed) }
	answer := headers.Before(w, apply)
	err := problem.Serve(answer, r, next, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		return next.ServeHTTP(w, r)
	})
	if err != nil {
		// The error is answered past this writer, by an outer handler or by the
		// server: a page must be able to read a 401 or 429 too.
		answer.Send(0)
	}
	return err
}

func count(kind string, allowed bool) {
	requests.WithLabelValues(kind, strconv.FormatBool(allowed)).Inc()
}

// requestOrigin returns the Origin of a cross-origin request. Two Origin fields
// are nobody's origin.
func requestOrigin(r *http.Request) (string, bool) {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return "", false
	}
	if len(values) > 1 {
		return "", true
	}
	return values[0], true
}

// apply replaces what the service said about CORS.
func (h *Handler) apply(fields http.Header, from string, allowed bool) {
	for name := range fields {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(fields, name)
		}
	}
	if !h.origins.Any {
		// Also where there was no Origin: a cache must not give this answer to
		// a page.
		addVary(fields, "Origin")
	}
	if !allowed {
		return
	}
	h.allow(fields, from)
	fields[acExposeHeaders] = []string{h.exposed}
}

// allow names the origin. Values are always new slices: Caddy's header
// directive edits them in place.
func (h *Handler) allow(fields http.Header, from string) {
	if h.origins.Any {
		fields[acAllowOrigin] = []string{"*"}
		return
	}
	fields[acAllowOrigin] = []string{from}
	if h.AllowCredentials {
		fields[acAllowCredentials] = []string{"true"}
	}
}

// preflight answers a preflight request. A refusal has no CORS field at all, so
// that a page learns nothing of what others may do.
func (h *Handler) preflight(w http.ResponseWriter, r *http.Request, from string, allowed bool) {
	fields := w.Header()
	for _, name := range []string{"Origin", acRequestMethod, acRequestHeaders} {
		addVary(fields, name)
	}
	method := r.Header.Get(acRequestMethod)
	asked := r.Header[acRequestHeaders]
	if allowed && h.methodAllowed(method) && h.headersAllowed(asked) {
		h.allow(fields, from)
		list := h.methodList
		if h.methods == nil {
			list = method
		}
		fields[acAllowMethods] = []string{list}
		if len(asked) > 0 {
			fields[acAllowHeaders] = []string{strings.Join(asked, ", ")}
		}
		fields[acMaxAge] = []string{h.maxAge}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) methodAllowed(method string) bool {
	if !isToken(method) {
		return false
	}
	if h.methods == nil {
		return true
	}
	// The Fetch standard lets pages use these without being asked.
	if method == http.MethodGet || method == http.MethodHead || method == http.MethodPost {
		return true
	}
	_, ok := h.methods[method]
	return ok
}

func (h *Handler) headersAllowed(values []string) bool {
	total := 0
	for _, value := range values {
		if total += len(value); total > maxRequestHeaders {
			return false
		}
		for name := range strings.SplitSeq(value, ",") {
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			if !isToken(name) {
				return false
			}
			if h.headers == nil {
				continue
			}
			if _, ok := h.headers[strings.ToLower(name)]; !ok {
				return false
			}
		}
	}
	return true
}

// addVary adds a name to Vary unless it is there.
func addVary(fields http.Header, name string) {
	for _, value := range fields["Vary"] {
		for listed := range strings.SplitSeq(value, ",") {
			if listed = strings.Trim(listed, " \t"); listed == "*" || strings.EqualFold(listed, name) {
				return
			}
		}
	}
	fields["Vary"] = append(slices.Clip(slices.Clone(fields["Vary"])), name)
}

// ParseList reads a comma-separated list of origins, as the ALLOWED_ORIGINS
// variable has it. Empty places are skipped. Errors name the position.
func ParseList(text string) ([]string, error) {
	var list []string
	for i, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if _, err := origin.Parse([]string{item}); err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
		list = append(list, item)
	}
	if slices.Contains(list, "*") {
		return []string{"*"}, nil
	}
	return list, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
