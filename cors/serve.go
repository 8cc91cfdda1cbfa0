package cors

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
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

	// acPrefix begins all of them, and what other versions of the protocol added.
	acPrefix = "Access-Control-"
)

// maxRequestHeaders bounds Access-Control-Request-Headers, in bytes.
const maxRequestHeaders = 4096

var requests = metrics.Counters("cors_requests_total", "Requests with an Origin, by kind and whether the origin is allowed.", "kind", "allowed")

var (
	preflightAllowed = requests.WithLabelValues("preflight", "true")
	preflightRefused = requests.WithLabelValues("preflight", "false")
	actualAllowed    = requests.WithLabelValues("actual", "true")
	actualRefused    = requests.WithLabelValues("actual", "false")
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	from, cross, allowed := h.originOf(r)
	if cross {
		if isPreflight(r) {
			count(preflightAllowed, preflightRefused, allowed)
			decided(r, "preflight_allowed", "preflight_refused", allowed)
			h.preflight(w, r, from, allowed)
			return nil
		}
		count(actualAllowed, actualRefused, allowed)
		decided(r, "allowed", "refused", allowed)
	}
	x := &exchange{h: h, origin: from, allowed: allowed}
	x.Init(w, x)
	err := problem.Serve(x, r, next, h.run)
	if err != nil {
		// The error is answered without this writer, by an outer handler or by the
		// server: a page must be able to read a 401 or 429 too.
		x.Send(0)
	}
	return err
}

// originOf returns the Origin of a request, if it has one, and whether it is allowed.
func (h *Handler) originOf(r *http.Request) (from string, cross, allowed bool) {
	from, cross = requestOrigin(r)
	return from, cross, h.origins.Any || cross && h.origins.Allows(from)
}

// isPreflight reports whether a request with an Origin is a preflight: an OPTIONS with
// this field; the service answers any other OPTIONS.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header[acRequestMethod]) == 1
}

// exchange is a request that is not a preflight, and its response.
type exchange struct {
	headers.Writer
	h       *Handler
	origin  string
	allowed bool
	vary    [1]string
}

// BeforeHeader replaces what the service said about CORS.
func (x *exchange) BeforeHeader(fields http.Header, _ int) {
	for name := range fields {
		if len(name) > len(acPrefix) && strings.EqualFold(name[:len(acPrefix)], acPrefix) {
			delete(fields, name)
		}
	}
	switch {
	case x.h.origins.Any:
	case len(fields["Vary"]) > 0:
		addVary(fields, "Origin")
	default:
		// Also where the request has no Origin: a cache must not give this response
		// to a page.
		x.vary[0] = "Origin"
		fields["Vary"] = x.vary[:]
	}
	if x.allowed {
		x.h.allow(fields, x.origin)
		if x.h.exposed != "" {
			fields[acExposeHeaders] = []string{x.h.exposed}
		}
	}
}

func pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func count(yes, no prometheus.Counter, allowed bool) {
	if allowed {
		yes.Inc()
	} else {
		no.Inc()
	}
}

// decided notes what was decided about the request.
func decided(r *http.Request, yes, no string, allowed bool) {
	s := requeststate.Of(r)
	switch {
	case s == nil:
	case allowed:
		s.Decisions.CORS = yes
	default:
		s.Decisions.CORS = no
	}
}

// requestOrigin returns the Origin of a request. Two Origin fields match no
// origin.
func requestOrigin(r *http.Request) (from string, cross bool) {
	switch values := r.Header["Origin"]; len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	default:
		return "", true
	}
}

// allow sets the allowed origin. If every origin is allowed, the response is the
// same with and without an Origin, so that a cache can use it for both. Values are
// always new slices, as Caddy's header directive edits them in place.
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

// preflight answers a preflight request. For an origin that is not allowed the
// response has no CORS fields, so that it reveals nothing of what others may do; if
// an allowed one requests too much, the response lists what is allowed.
func (h *Handler) preflight(w http.ResponseWriter, r *http.Request, from string, allowed bool) {
	fields := w.Header()
	if !h.origins.Any {
		addVary(fields, "Origin")
	}
	addVary(fields, acRequestMethod)
	addVary(fields, acRequestHeaders)
	method := r.Header[acRequestMethod][0]
	requested := r.Header[acRequestHeaders]
	methodOK := h.methodAllowed(method)
	headersOK, valid := h.headersAllowed(requested)
	if allowed && valid && httpguts.ValidHeaderFieldName(method) {
		h.allow(fields, from)
		list := h.methodList
		if h.methods == nil && methodOK {
			// With credentials browsers take * literally.
			list = method
		}
		if list != "" {
			fields[acAllowMethods] = []string{list}
		}
		switch {
		case !headersOK && h.headerList != "":
			fields[acAllowHeaders] = []string{h.headerList}
		case headersOK && len(requested) > 0:
			fields[acAllowHeaders] = []string{strings.Join(requested, ", ")}
		}
		if methodOK && headersOK {
			fields[acMaxAge] = []string{h.maxAge}
		}
	}
	if !allowed || !methodOK || !headersOK {
		h.logRefusal(from, method, requested, allowed)
	}
	w.WriteHeader(http.StatusNoContent)
}

// logRefusal logs what a preflight requested and what is allowed.
func (h *Handler) logRefusal(from, method string, requested []string, allowed bool) {
	entry := h.logger.Check(zapcore.DebugLevel, "preflight refused")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("origin", from), zap.Bool("origin_allowed", allowed),
		zap.String("method", method), zap.String("allowed_methods", listOf(h.methodList, h.methods == nil)),
		zap.Strings("headers", requested), zap.String("allowed_headers", listOf(h.headerList, h.headers == nil)),
	}
	entry.Write(fields...)
}

func listOf(names string, all bool) string {
	if all {
		return "*"
	}
	return names
}

func (h *Handler) methodAllowed(method string) bool {
	if !httpguts.ValidHeaderFieldName(method) { // it is a token too
		return false
	}
	if h.methods == nil {
		return true
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return true // safelisted: browsers ignore a refusal
	}
	_, ok := h.methods[method]
	return ok
}

// headersAllowed reports whether a page may send the fields, and whether they are
// valid names.
func (h *Handler) headersAllowed(values []string) (allowed, valid bool) {
	total := 0
	allowed = true
	for _, value := range values {
		if total += len(value); total > maxRequestHeaders {
			return false, false
		}
		for name := range strings.SplitSeq(value, ",") {
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			if !httpguts.ValidHeaderFieldName(name) {
				return false, false
			}
			if h.headers == nil {
				continue
			}
			if _, ok := h.headers[strings.ToLower(name)]; !ok {
				allowed = false
			}
		}
	}
	return allowed, true
}

// addVary adds a name to Vary unless it is there.
func addVary(fields http.Header, name string) {
	given := fields["Vary"]
	for _, value := range given {
		for listed := range strings.SplitSeq(value, ",") {
			if listed = strings.Trim(listed, " \t"); listed == "*" || strings.EqualFold(listed, name) {
				return
			}
		}
	}
	fields["Vary"] = append(slices.Clip(given), name)
}
