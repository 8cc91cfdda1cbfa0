package problem

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/requeststate"
)

// requestID returns the id that guard gave the request or, without guard,
// Caddy's {http.request.uuid} where something asked for it, else a new one. The access
// log has it as well.
func requestID(s *requeststate.State, r *http.Request) string {
	if id := s.Problem.ID.Load(); id != nil {
		return *id
	}
	id := uuid.NewString()
	if known, ok := caddyhttp.GetVar(r.Context(), "uuid").(fmt.Stringer); ok {
		id = known.String()
	}
	s.Problem.ID.Store(&id)
	accesslog.Add(r, s)
	return id
}

// Handler is the part of a handler that Serve runs.
type Handler func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error

// Serve runs serve. If the calling handler is the outermost of TentaGate's in
// this request, an error that reaches it is answered as problem+json, be it
// TentaGate's own or that of another handler (a 502 of reverse_proxy, a 413 of
// request_body). It is passed on instead when the server has error routes for
// this request, so that handle_errors keeps the last word, and when the answer
// has already begun.
func Serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, serve Handler) error {
	s := requeststate.Of(r)
	if s == nil || s.Problem.Taken.Swap(true) {
		return serve(w, r, next)
	}
	answer := &s.Problem.Answer
	answer.Request, answer.Late = r, false
	answer.Init(w, answer)
	err := serve(answer, r, next)
	if !answer.Sent() {
		if err == nil {
			err = corrected(answer)
		} else if lateBody(r, err) {
			err = Error(Standard(http.StatusRequestTimeout))
		}
	}
	// The next run of the handler chain for this request (an error route that
	// leads through TentaGate again) has an outermost handler of its own.
	s.Problem.Taken.Store(false)
	if err != nil && answer.Sent() {
		s.Problem.Begun.Store(true)
	}
	if err == nil || answer.Sent() {
		return err
	}
	s.Decisions.Detail = from(err).Error()
	if hasErrorRoute(r, err) {
		return err
	}
	logError(r, err)
	return Write(w, r, err)
}

// corrected returns the error to answer with where the handlers have not
// answered, or nil.
func corrected(answer *requeststate.Answer) error {
	switch {
	case answer.Late:
		return Error(Standard(http.StatusRequestTimeout))
	case DroppedUpgrade(answer.Request):
		return Error(Standard(http.StatusBadGateway))
	}
	return nil
}

// lateBody reports whether an error that reads as the service's is that of a
// request body which did not arrive in time.
func lateBody(r *http.Request, err error) bool {
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok || he.StatusCode != http.StatusBadGateway && he.StatusCode != http.StatusGatewayTimeout {
		return false
	}
	watch := framing.From(r.Context())
	if watch == nil {
		return false
	}
	failure := watch.Failure()
	return failure != nil && framing.Late(failure)
}

// DroppedUpgrade reports whether reverse_proxy has a 101 (Switching Protocols)
// that it did not pass on, as the client asked for no such upgrade (RFC 9110
// §15.2.2). It returns without an answer then, which would be an empty 200.
func DroppedUpgrade(r *http.Request) bool {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	status, _ := repl.Get("http.reverse_proxy.status_code")
	return status == http.StatusSwitchingProtocols
}

// Write answers with err as application/problem+json. Headers set before are
// kept, but those that describe another body.
func Write(w http.ResponseWriter, r *http.Request, err error) error {
	p := from(err)
	body := p.encode(RequestID(r), traceID(r))
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified", "Accept-Ranges", "Content-Range", "Trailer"} {
		h.Del(name)
	}
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		// A client that is gone is not an error of the handler.
		_, _ = w.Write(body)
	}
	return nil
}

// from finds the problem in err, or makes one of its status alone: the text of
// a foreign error may name hosts and addresses that are nobody's business.
func from(err error) *Problem {
	status := http.StatusInternalServerError
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if he.StatusCode != 0 {
			status = he.StatusCode
		}
	}
	return Standard(status)
}

// details are the explanations of the statuses that other handlers return most.
var details = map[int]string{
	http.StatusRequestEntityTooLarge: "the request body is larger than this server accepts",
	http.StatusRequestTimeout:        "the request body did not arrive in time",
	http.StatusBadGateway:            "the service behind the gateway could not be reached or did not answer properly",
	http.StatusServiceUnavailable:    "the service behind the gateway is not available at the moment",
	http.StatusGatewayTimeout:        "the service behind the gateway did not answer in time",
	http.StatusNotFound:              "there is nothing at this path",
	http.StatusInternalServerError:   "the gateway could not process the request",
}

// traceID returns the id of the trace that the request belongs to, or "" if there is none.
// It is 32 hexadecimal digits, whatever a client sent.
func traceID(r *http.Request) string {
	if span := trace.SpanContextFromContext(r.Context()); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

// The extension members that every problem has, if it is known what they are.
const (
	requestIDMember = "request_id"
	traceIDMember   = "trace_id"
)

// encode writes the problem. The id of the request is its instance too (RFC 9457 §3.1.5).
func (p *Problem) encode(requestID, traceID string) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	member := func(name string, value any) {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			encoded = []byte("null")
		}
		b.WriteString(strconv.Quote(name))
		b.WriteByte(':')
		b.Write(encoded)
	}
	member("type", cmp.Or(p.Type, blankType))
	member("title", p.title())
	member("status", p.Status)
	if p.Detail != "" {
		member("detail", p.Detail)
	}
	if requestID != "" {
		member("instance", requestID)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Ext)) {
		if name != requestIDMember && name != traceIDMember {
			member(name, p.Ext[name])
		}
	}
	if requestID != "" {
		member(requestIDMember, requestID)
	}
	if traceID != "" {
		member(traceIDMember, traceID)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// hasErrorRoute reports whether one of the server's error routes is for this
// request and this error. Routes of other sites on the same server do not
// count, nor do those of `handle_errors` for other statuses.
func hasErrorRoute(r *http.Request, err error) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return false
	}
	// Matchers of error routes look at {http.error.*}.
	return answers(server.Errors.Routes, server.Errors.WithError(r, err))
}

// answers reports whether a handler of the routes is reached. The Caddyfile
// wraps the error routes of a site into a route that all its requests match.
func answers(routes caddyhttp.RouteList, r *http.Request) bool {
	for _, route := range routes {
		if match, err := route.MatcherSets.AnyMatchWithError(r); err != nil {
			return true
		} else if !match {
			continue
		}
		if len(route.Handlers) == 0 {
			return true
		}
		for _, handler := range route.Handlers {
			if isFallback(handler) {
				continue
			}
			sub, ok := handler.(*caddyhttp.Subroute)
			if !ok || answers(sub.Routes, r) {
				return true
			}
		}
	}
	return false
}
