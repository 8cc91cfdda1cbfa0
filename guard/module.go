// Package guard is the first handler of a gateway: it refuses what could slip
// past the handlers behind it, and gives each request its id.
package guard

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
)

// RequestIDHeader carries the request's id, to the service and to the client.
const RequestIDHeader = "X-Request-Id"

// maxRequestID is the longest id taken over from a client, in characters.
const maxRequestID = 128

// noUpgrades is the value of the option that accepts no protocol.
const noUpgrades = "off"

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

	// The protocols to which a client may upgrade a connection (RFC 9110 §7.8,
	// and the extended CONNECT of RFC 8441 and RFC 9220), in any case, or `off`
	// for none. What passes over an upgraded connection is seen by no handler:
	// never name `h2c`, with which any request can be sent past them.
	// Default: `websocket`.
	Upgrades []string `json:"upgrades,omitempty"`

	upgrades []string        // in lower case
	run      problem.Handler // serve
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

// Provision prepares the list of upgrades and registers the metrics.
func (h *Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), refusals)
	given := h.Upgrades
	if len(given) == 0 {
		given = []string{"websocket"}
	}
	h.run = h.serve
	h.upgrades = nil
	for _, name := range given {
		if name = strings.ToLower(name); name != noUpgrades {
			h.upgrades = append(h.upgrades, name)
		}
	}
	return nil
}

// Validate checks the names of the protocols.
func (h *Handler) Validate() error {
	for _, name := range h.Upgrades {
		switch protocol, version, versioned := strings.Cut(name, "/"); {
		case strings.EqualFold(name, noUpgrades) && len(h.Upgrades) > 1:
			return fmt.Errorf("upgrades: %s accepts no protocol, leave the others out", noUpgrades)
		case !httpguts.ValidHeaderFieldName(protocol), versioned && !httpguts.ValidHeaderFieldName(version):
			return fmt.Errorf("upgrades: %q is not a protocol: accepted are names such as websocket, or %s", name, noUpgrades)
		}
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	id := requestID(r.Header)
	// Each use has a slice of its own, so that a later handler that edits one in
	// place does not change another.
	ids := &[2]string{id, id}
	r.Header[RequestIDHeader] = ids[0:1:1]
	w.Header()[RequestIDHeader] = ids[1:2:2]
	problem.SetRequestID(r, id)
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("request_id", id))
	}
	// A service may answer with an id of its own; the client gets this one.
	answer := headers.Before(w, func(fields http.Header, _ int) {
		if now := fields[RequestIDHeader]; len(now) != 1 || now[0] != id {
			fields[RequestIDHeader] = []string{id}
		}
	})
	err := problem.Serve(answer, r, next, h.run)
	if err != nil {
		// The error is answered past this writer.
		answer.Send(0)
	}
	return err
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !h.acceptsMethod(r) {
		refusedMethod.Inc()
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		return problem.Error(problem.New(http.StatusMethodNotAllowed, "the method "+r.Method+" is not accepted here"))
	}
	if err := h.checkTarget(r); err != nil {
		refusedPath.Inc()
		return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
	}
	if !h.KeepOverrides {
		for _, name := range overrides {
			delete(r.Header, name)
		}
	}
	h.reduceConnection(r.Header)
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

// accepts reports whether a client may upgrade to the protocol.
func (h *Handler) accepts(protocol string) bool {
	for _, accepted := range h.upgrades {
		if strings.EqualFold(protocol, accepted) {
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
