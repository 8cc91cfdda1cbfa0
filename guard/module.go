// Package guard is the first handler of a gateway: it refuses requests that could
// bypass the handlers behind it, and gives each request an id.
package guard

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/fieldname"
	sitefields "github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requestid"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/internal/stage"
	"github.com/pythopus/tentagate/internal/typo"
)

// noUpgrades as the only protocol accepts none.
const noUpgrades = "off"

// notUpgraded are protocols by which a connection carries HTTP requests again.
var notUpgraded = []string{"h2c", "http", "tls"}

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler refuses requests that the gateway and a service could interpret
// differently, deletes fields that a client must not send (of the connection, of its
// own address, of the proxies in front), prevents request smuggling, and gives each
// request an id.
//
//	guard {
//		keep_forwarded X-Azure-ClientIP
//	}
type Handler struct {
	// Accept `%2f` in a path. Dot segments around it are still refused.
	// Default: false.
	AllowEncodedSlashes bool `json:"allow_encoded_slashes,omitempty"`

	// Accept `;` in a path, plain and encoded. A servlet container takes what
	// follows it in a segment for parameters (RFC 3986 §3.3): `/adm;x/y`, which
	// does not match `/adm/*`, is `/adm/y` there. Default: false.
	AllowPathParameters bool `json:"allow_path_parameters,omitempty"`

	// Accept a path that is percent-encoded twice, such as `/%2561dm`, which is
	// `/adm` to a service that decodes what its server decoded. Encoded slashes,
	// dot segments and control characters in it are refused as if they were
	// encoded once. Default: false.
	AllowDoubleEncoding bool `json:"allow_double_encoding,omitempty"`

	// Keep the fields that override the method or the path
	// (X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override, X-Original-URL,
	// X-Rewrite-URL). Handlers decide by the request line, and a service that obeys
	// these fields would do something else. Default: false, they are deleted.
	KeepOverrides bool `json:"keep_overrides,omitempty"`

	// Forwarding fields to keep from clients that are not trusted proxies
	// (`trusted_proxies` of the server): `Forwarded` (RFC 7239), `X-Forwarded-*`,
	// `X-Real-IP`, `True-Client-IP`, `Client-Cert` (RFC 9440) and the like. Services
	// trust what they say. Default: none, they are deleted.
	KeepForwarded []string `json:"keep_forwarded,omitempty"`

	// The protocols to which a client may upgrade a connection (RFC 9110 §7.8,
	// and the extended CONNECT of RFC 8441 and RFC 9220), case-insensitive, or `off`
	// for none. Handlers do not see the traffic of an upgraded connection, so that
	// `h2c`, `HTTP` and `TLS`, by which requests would bypass them, are refused.
	// Default: `websocket`.
	Upgrades []string `json:"upgrades,omitempty"`

	// Where the Caddyfile has this directive, such as `Caddyfile:12`. Errors name
	// it.
	Position string `json:"position,omitempty"`

	upgrades []string // in lower case
	kept     []string // KeepForwarded as net/http spells the names
	// clientFields are the server's client_ip_headers as fieldname.Hyphenated returns them.
	clientFields []string
	trailers     func(name string) bool // ordinaryTrailer
	run          problem.Handler        // serve
}

var refusals = metrics.Counters("guard_refused_total", "Requests refused, by reason.", "reason")

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

// Provision prepares the lists of upgrades and fields, and registers the metrics.
func (h *Handler) Provision(ctx caddy.Context) error {
	metrics.Register(ctx.GetMetricsRegistry(), refusals)
	framing.Install(ctx)
	sitefields.Install(ctx)
	problem.Install(ctx)
	protect(ctx)
	h.clientFields, h.trailers = nil, h.ordinaryTrailer
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		for _, name := range server.ClientIPHeaders {
			h.clientFields = append(h.clientFields, fieldname.Hyphenated(http.CanonicalHeaderKey(name)))
		}
	}
	if err := cmp.Or(site.CheckReached(ctx, h.Position), h.checkOptions()); err != nil {
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

// upgradable are names of protocols, in lower case, one of which a mistyped one was meant
// to be. Others are accepted too.
var upgradable = []string{"websocket", "connect-udp", "connect-ip", "connect-tcp", noUpgrades}

// checkOptions checks the names of the protocols and fields.
func (h *Handler) checkOptions() error {
	for _, name := range h.Upgrades {
		switch protocol, version, versioned := strings.Cut(name, "/"); {
		case len(h.Upgrades) == 1 && slices.Contains([]string{"on", "true", "yes"}, strings.ToLower(name)):
			return fmt.Errorf("upgrades: %q is not the name of a protocol: websocket is accepted by default: remove the line, or name protocols", name)
		case strings.EqualFold(name, noUpgrades) && len(h.Upgrades) > 1:
			return fmt.Errorf("upgrades: %s cannot be combined with protocols", noUpgrades)
		case slices.ContainsFunc(notUpgraded, func(other string) bool { return strings.EqualFold(protocol, other) }):
			return fmt.Errorf("upgrades: %s is not accepted: the requests in such a connection bypass every handler, and so authentication and limits", name)
		case strings.Contains(name, "*"), !httpguts.ValidHeaderFieldName(protocol), versioned && !httpguts.ValidHeaderFieldName(version):
			return fmt.Errorf("upgrades: %q is not a protocol name such as websocket, nor %s", name, noUpgrades)
		}
		if known := strings.ToLower(name); !slices.Contains(upgradable, known) {
			if meant := typo.Nearest(known, upgradable, len(known)/4); meant != "" {
				return fmt.Errorf("upgrades: %q is not a protocol that is known: did you mean %s?", name, meant)
			}
		}
	}
	for _, name := range h.KeepForwarded {
		if strings.Contains(name, "*") || kindOf(http.CanonicalHeaderKey(name)) != forwarded {
			return fmt.Errorf("keep_forwarded: %q is not a field that guard deletes: accepted are fields such as Forwarded, X-Forwarded-Prefix and X-Real-IP", name)
		}
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	id := requestid.Of(r.Header)
	s := requeststate.Of(r)
	accesslog.Add(r, s)
	if s != nil {
		s.Decisions.Stages.Enter(stage.Guard)
	}
	if s == nil || s.Guard.Writer.ResponseWriter != nil {
		s = new(requeststate.State) // another guard in front has the room
	}
	// The request and the response have the id in slices of their own, so that a
	// handler that edits one in place does not change the other.
	s.Guard.ID, s.Guard.ForService[0], s.Guard.ForClient[0] = id, id, id
	r.Header[requestid.Header] = s.Guard.ForService[:]
	w.Header()[requestid.Header] = s.Guard.ForClient[:]
	problem.SetRequestID(r, id)
	placeholders.Known(r)
	watch := framing.From(r.Context())
	unwatched := watch == nil && (r.ContentLength != 0 || !r.ProtoAtLeast(1, 1))
	if unwatched {
		// This server has no front.
		watch, r = framing.Watch(w, r)
		w = watch
	}
	x := &s.Guard.Writer
	x.Init(w, (*exchange)(s))
	err := problem.Serve(x, r, next, h.run)
	if err != nil {
		// The error is answered without this writer.
		x.Send(0)
	}
	if unwatched {
		watch.Send(0)
	}
	return err
}

// exchange is a request and its response.
type exchange requeststate.State

// BeforeHeader restores the id that the client gets, as a service may have
// answered with one of its own.
func (x *exchange) BeforeHeader(fields http.Header, _ int) {
	if now := fields[requestid.Header]; len(now) != 1 || now[0] != x.Guard.ID {
		fields[requestid.Header] = []string{x.Guard.ID}
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if refused, err := h.decide(w, r); err != nil {
		refused.Inc()
		return refuse(r, err)
	}
	watch := framing.From(r.Context())
	if watch != nil {
		watch.KeepTrailers(h.trailers)
	}
	err := next.ServeHTTP(w, r)
	if err == nil {
		return nil
	}
	if fault := clientError(err, watch); fault != nil {
		return refuse(r, fault)
	}
	return err
}

// refuse notes that it is guard that refuses the request, and returns err.
func refuse(r *http.Request, err error) error {
	if s := requeststate.Peek(r); s != nil {
		s.Decisions.ByGuard = true
	}
	return err
}

// decide returns the error that refuses a request, and the counter of such errors.
func (h *Handler) decide(w http.ResponseWriter, r *http.Request) (refused prometheus.Counter, err error) {
	if !h.acceptsMethod(r) {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		return refusedMethod, problem.Error(problem.New(http.StatusMethodNotAllowed, "the method "+r.Method+" is not allowed"))
	}
	if err := h.check(r); err != nil {
		return refusedTarget, badRequest(err)
	}
	if err := h.checkFields(r); err != nil {
		return refusedFields, badRequest(err)
	}
	if watch := framing.From(r.Context()); watch != nil && watch.LengthBeside() {
		return refusedBody, badRequest(errLengths)
	}
	return nil, nil
}

func badRequest(err error) error {
	return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
}

// clientError returns the 4xx that takes the place of the error of a handler where the
// client caused it: by its body, or by a field that cannot be forwarded. Else it is nil.
func clientError(err error, watch *framing.Request) error {
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		switch {
		case he.StatusCode != 0 && he.StatusCode < http.StatusInternalServerError:
			return nil
		case clientfault.Refused(he.Err):
			refusedFields.Inc()
			return problem.Error(clientfault.Problem(clientfault.Unsendable(he.Err)))
		}
	}
	if watch == nil {
		return nil // there was no body
	}
	switch failure := watch.Failure(); {
	case failure == nil:
		return nil
	case framing.Late(failure):
		refusedBody.Inc()
		return problem.Error(problem.New(http.StatusRequestTimeout, "the request body did not arrive in time"))
	default:
		refusedBody.Inc()
		return badRequest(errBody)
	}
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
	_ explain.Handler             = (*Handler)(nil)
)
