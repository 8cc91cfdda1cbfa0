// Package guard is the first handler of a gateway: it refuses what could slip
// past the handlers behind it, and gives each request its id.
package guard

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/clientfault"
	sitefields "github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/placeholders"
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

// Handler refuses requests that the gateway and a service could read
// differently, drops what a client may not say about the connection, its own
// address or the proxies in front, ends a connection whose next request could
// be a part of this one's body, and gives each request an id.
type Handler struct {
	// Accept `%2f` in a path. Dot segments around it are still refused.
	// Default: false.
	AllowEncodedSlashes bool `json:"allow_encoded_slashes,omitempty"`

	// Accept `;` in a path, plain and encoded. A servlet server takes what
	// follows it in a segment for parameters (RFC 3986 §3.3): `/adm;x/y`, which
	// no matcher of `/adm/*` sees, is `/adm/y` to it. Default: false.
	AllowPathParameters bool `json:"allow_path_parameters,omitempty"`

	// Accept a path that is percent-encoded twice, such as `/%2561dm`, which is
	// `/adm` to a service that decodes what its server decoded. Encoded slashes,
	// dot segments and control characters in it are refused as if they were
	// encoded once. Default: false.
	AllowDoubleEncoding bool `json:"allow_double_encoding,omitempty"`

	// Keep the fields with which a client may ask for another method or path
	// (X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override, X-Original-URL,
	// X-Rewrite-URL). Handlers decide on the method and the path of the request
	// line, and a service that obeys these fields would do something else.
	// Default: false, they are deleted.
	KeepOverrides bool `json:"keep_overrides,omitempty"`

	// Fields to keep from clients that are no trusted proxies (`trusted_proxies`
	// of the server) among those with which a proxy says what it knows of the
	// client: `Forwarded` (RFC 7239), `X-Forwarded-*`, `X-Real-IP`,
	// `True-Client-IP`, `Client-Cert` (RFC 9440) and the like. A service that
	// reads one believes what it says. Default: none, they are deleted.
	KeepForwarded []string `json:"keep_forwarded,omitempty"`

	// The protocols to which a client may upgrade a connection (RFC 9110 §7.8,
	// and the extended CONNECT of RFC 8441 and RFC 9220), in any case, or `off`
	// for none. What passes over an upgraded connection is seen by no handler:
	// never name `h2c`, with which any request can be sent past them.
	// Default: `websocket`.
	Upgrades []string `json:"upgrades,omitempty"`

	// Where the Caddyfile has this directive, such as `Caddyfile:12`. Errors
	// name it.
	Position string `json:"position,omitempty"`

	upgrades []string        // in lower case
	kept     []string        // KeepForwarded as net/http spells the names
	run      problem.Handler // serve
}

var refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "tentagate",
	Subsystem: "guard",
	Name:      "refused_total",
	Help:      "Requests refused, by reason.",
}, []string{"reason"})

var (
	refusedTarget = refusals.WithLabelValues("path")
	refusedMethod = refusals.WithLabelValues("method")
	refusedFields = refusals.WithLabelValues("fields")
	refusedBody   = refusals.WithLabelValues("body")
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.guard",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision prepares the lists of upgrades and fields and registers the metrics.
func (h *Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), refusals)
	framing.Install(ctx)
	sitefields.Install(ctx)
	problem.Install(ctx)
	protect(ctx)
	if err := h.checkOptions(); err != nil {
		return place.Error(ctx, "guard", h.Position, err)
	}
	given := h.Upgrades
	if len(given) == 0 {
		given = []string{"websocket"}
	}
	h.run = h.serve
	h.upgrades, h.kept = nil, nil
	for _, name := range given {
		if name = strings.ToLower(name); name != noUpgrades {
			h.upgrades = append(h.upgrades, name)
		}
	}
	for _, name := range h.KeepForwarded {
		h.kept = append(h.kept, http.CanonicalHeaderKey(name))
	}
	return nil
}

// checkOptions checks the names of the protocols and fields.
func (h *Handler) checkOptions() error {
	for _, name := range h.Upgrades {
		switch protocol, version, versioned := strings.Cut(name, "/"); {
		case strings.EqualFold(name, noUpgrades) && len(h.Upgrades) > 1:
			return fmt.Errorf("upgrades: %s accepts no protocol, leave the others out", noUpgrades)
		case !httpguts.ValidHeaderFieldName(protocol), versioned && !httpguts.ValidHeaderFieldName(version):
			return fmt.Errorf("upgrades: %q is not a protocol: accepted are names such as websocket, or %s", name, noUpgrades)
		}
	}
	for _, name := range h.KeepForwarded {
		if kindOf(http.CanonicalHeaderKey(name)) != forwarded {
			return fmt.Errorf("keep_forwarded: %q is not dropped without it: accepted are fields such as Forwarded, X-Forwarded-Prefix and X-Real-IP", name)
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
	placeholders.Known(r)
	watch := framing.From(r.Context())
	unwatched := watch == nil && (r.ContentLength != 0 || !r.ProtoAtLeast(1, 1))
	if unwatched {
		// This server has no watch in front.
		watch, r = framing.Watch(w, r)
		w = watch
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
	if unwatched {
		watch.Send(0)
	}
	return err
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !h.acceptsMethod(r) {
		refusedMethod.Inc()
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		return problem.Error(problem.New(http.StatusMethodNotAllowed, "the method "+r.Method+" is not accepted here"))
	}
	if err := h.check(r); err != nil {
		refusedTarget.Inc()
		return badRequest(err)
	}
	if err := h.checkFields(r); err != nil {
		refusedFields.Inc()
		return badRequest(err)
	}
	watch := framing.From(r.Context())
	if watch == nil {
		return ofClient(next.ServeHTTP(w, r), nil)
	}
	if watch.LengthBeside() {
		refusedBody.Inc()
		return badRequest(errBeside)
	}
	watch.KeepTrailers(ordinaryTrailer)
	return ofClient(next.ServeHTTP(w, r), watch)
}

func badRequest(err error) error {
	return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
}

// ofClient returns the error of a handler, or in place of one that blames the
// service what the client did: to the body, or by what cannot be sent on.
func ofClient(err error, watch *framing.Request) error {
	if err == nil {
		return nil
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		switch {
		case he.StatusCode != 0 && he.StatusCode < http.StatusInternalServerError:
			return err
		case clientfault.Refused(he.Err):
			refusedFields.Inc()
			return problem.Error(clientfault.Problem(clientfault.Unsendable(he.Err)))
		}
	}
	if watch == nil {
		return err // there was no body
	}
	switch failure := watch.Failure(); {
	case failure == nil:
		return err
	case framing.Late(failure):
		refusedBody.Inc()
		return problem.Error(problem.New(http.StatusRequestTimeout, "the request body did not arrive in time"))
	default:
		refusedBody.Inc()
		return badRequest(errBody)
	}
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
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
