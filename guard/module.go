// Package guard is the first handler of a gateway: it refuses what could slip
// past the handlers behind it, and gives each request its id.
package guard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/guard/path"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
)

// RequestIDHeader carries the request's id, to the service and to the client.
const RequestIDHeader = "X-Request-Id"

const maxRequestID = 128

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler refuses request paths that the gateway and a service could read
// differently, reduces what a client may say about the connection, so that it
// cannot delete header fields that later handlers set, and gives each request
// an id.
type Handler struct {
	// Accept `%2f` in a path. Dot segments around it are still refused.
	// Default: false.
	AllowEncodedSlashes bool `json:"allow_encoded_slashes,omitempty"`

	// Keep the fields with which a client may ask for another method or path
	// (X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override, X-Original-URL,
	// X-Rewrite-URL). Handlers decide on the method and the path of the request
	// line, and a service that obeys these fields would do something else.
	// Default: false, they are deleted.
	KeepOverrides bool `json:"keep_overrides,omitempty"`
}

var refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "tentagate",
	Subsystem: "guard",
	Name:      "refused_total",
	Help:      "Requests refused, by reason.",
}, []string{"reason"})

var (
	refusedPath   = refusals.WithLabelValues("path")
	refusedMethod = refusals.WithLabelValues("method")
)

// overrides are the fields with which some frameworks let a client replace the
// method or the path.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.guard",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision registers the metrics.
func (*Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), refusals)
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	id := requestID(r.Header)
	// One slice for both directions would let a later handler that edits the
	// one in place change the other.
	r.Header[RequestIDHeader] = []string{id}
	w.Header()[RequestIDHeader] = []string{id}
	problem.SetRequestID(r, id)
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.String("request_id", id))
	}
	// A service may answer with an id of its own; the client gets one.
	answer := headers.Before(w, func(fields http.Header, _ int) {
		fields[RequestIDHeader] = []string{id}
	})
	return problem.Serve(answer, r, next, h.serve)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method == http.MethodTrace || r.Method == "TRACK" {
		refusedMethod.Inc()
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		return problem.Error(problem.New(http.StatusMethodNotAllowed, "the method "+r.Method+" is not accepted here"))
	}
	if err := path.Check(r.URL.EscapedPath(), h.AllowEncodedSlashes); err != nil {
		refusedPath.Inc()
		return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
	}
	if !h.KeepOverrides {
		for _, name := range overrides {
			delete(r.Header, name)
		}
	}
	reduceConnection(r)
	return next.ServeHTTP(w, r)
}

// requestID returns the client's id if it is the only one and has nothing in it
// that could confuse a log, and otherwise a new UUIDv7 (RFC 9562 §5.7), which
// sorts by time.
func requestID(h http.Header) string {
	if given := h[RequestIDHeader]; len(given) == 1 && validRequestID(given[0]) {
		return given[0]
	}
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New() // panics where the system has no randomness, as all of TLS would
	}
	return id.String()
}

func validRequestID(s string) bool {
	if len(s) == 0 || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// reduceConnection leaves of the Connection field (RFC 9110 §7.6.1) only what
// speaks about the connection. A proxy deletes every field that it names, also
// those that handlers of this gateway set to tell a service who asks.
func reduceConnection(r *http.Request) {
	upgrade := r.Header["Upgrade"]
	websocket := len(upgrade) == 1 && strings.EqualFold(strings.TrimSpace(upgrade[0]), "websocket")
	if upgrade != nil && !websocket {
		delete(r.Header, "Upgrade")
		delete(r.Header, "Http2-Settings")
	}
	given := r.Header["Connection"]
	if given == nil {
		return
	}
	var kept []string
	for _, value := range given {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			allowed := name == "close" || name == "keep-alive" || name == "te" || name == "upgrade" && websocket
			if allowed && !slices.Contains(kept, name) {
				kept = append(kept, name)
			}
		}
	}
	if kept == nil {
		delete(r.Header, "Connection")
		return
	}
	r.Header["Connection"] = []string{strings.Join(kept, ", ")}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
