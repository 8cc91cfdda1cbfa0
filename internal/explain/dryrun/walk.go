package dryrun

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/problem"
)

// maxHandlers bounds how many handlers a request passes: named routes may invoke
// themselves.
const maxHandlers = 1000

// Handlers of Caddy are known by their module. All others end the dry run, as it is not
// known whom they ask and what they change.
var (
	// harmless handlers look at the request, change it, or answer by their options alone.
	harmless = []caddy.ModuleID{
		"http.handlers.error", "http.handlers.headers", "http.handlers.map", "http.handlers.request_body", "http.handlers.rewrite",
		"http.handlers.static_response", "http.handlers.vars",
	}
	// passive handlers do nothing before the response comes, or only record.
	passive = []caddy.ModuleID{
		"http.handlers.encode", "http.handlers.intercept", "http.handlers.log_append", "http.handlers.push", "http.handlers.templates",
		"http.handlers.timeouts", "http.handlers.tracing",
	}
)

// walk leads one request through the routes of a server as Caddy does, but calls each
// handler itself: only those that explain themselves, or that are known to be harmless.
type walk struct {
	record   explain.Record
	server   *caddyhttp.Server
	groups   map[string]bool
	handlers int
	// forwarded is set at the reverse_proxy that a real request reaches, and upstreams are
	// its.
	forwarded bool
	upstreams []Upstream
	// failing: the error routes of the server are walked.
	failing bool
}

// run returns when no handler is left, or one has answered or refused the request.
func (k *walk) run(w http.ResponseWriter, r *http.Request) {
	k.record.Through = func(routes caddyhttp.RouteList, w http.ResponseWriter, r *http.Request) error {
		return k.routes(routes, k.end(false)).ServeHTTP(w, r)
	}
	k.groups = map[string]bool{}
	err := k.admit(r)
	if err == nil {
		err = k.routes(k.server.Routes, k.end(false)).ServeHTTP(w, r)
	}
	if err == nil || errors.Is(err, explain.ErrStopped) {
		return
	}
	k.record.Status = 0
	status := explain.StatusOf(err)
	if k.server.Errors != nil && len(k.server.Errors.Routes) > 0 {
		restore(r)
		k.groups, k.failing = map[string]bool{}, true
		err = k.routes(k.server.Errors.Routes, k.end(false)).ServeHTTP(w, k.server.Errors.WithError(r, err))
		if errors.Is(err, explain.ErrStopped) || err == nil && k.record.Status != 0 {
			return // an error route asks a service, or has answered
		}
		// The status is that of the first error even if an error route fails.
	}
	k.record.Status = status
}

// restore gives error routes the request as it was before it was rewritten.
func restore(r *http.Request) {
	if was, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && was.URL != nil {
		r.Method, r.RequestURI, r.RemoteAddr = was.Method, was.RequestURI, was.RemoteAddr
		r.URL = new(url.URL)
		*r.URL = *was.URL
	}
}

// end is behind the last handler, of the server or of a terminal route.
func (k *walk) end(terminal bool) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		if err, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error); ok && (terminal || k.failing) {
			k.record.Status = explain.StatusOf(err) // no error route is for the error
		} else {
			k.record.Status = http.StatusOK // as Go's server answers where no handler does
			k.record.Steps = append(k.record.Steps, explain.Step{
				Handler: "caddy", Result: explain.Answers, Status: http.StatusOK, Reason: "no handler answers the request: the response is empty",
			})
		}
		return nil
	})
}

// routes returns a handler of the routes, with next behind them.
func (k *walk) routes(list caddyhttp.RouteList, next caddyhttp.Handler) caddyhttp.Handler {
	for i := range slices.Backward(list) {
		next = k.route(&list[i], next)
	}
	return next
}

func (k *walk) route(route *caddyhttp.Route, next caddyhttp.Handler) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if route.Group != "" && k.groups[route.Group] {
			return next.ServeHTTP(w, r)
		}
		if match, err := route.MatcherSets.AnyMatchWithError(r); err != nil {
			return err
		} else if !match {
			return next.ServeHTTP(w, r)
		}
		if route.Group != "" {
			k.groups[route.Group] = true
		}
		inner := next
		if route.Terminal {
			inner = k.end(true)
		}
		for _, h := range slices.Backward(route.Handlers) {
			inner = &link{k, h, inner}
		}
		return inner.ServeHTTP(w, r)
	})
}

// link is a handler with the one behind it.
type link struct {
	walk    *walk
	handler caddyhttp.MiddlewareHandler
	next    caddyhttp.Handler
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	k := l.walk
	t := k.record.Of(l.handler)
	if k.handlers++; k.handlers > maxHandlers {
		return t.Stop("the request passes more than 1000 handlers", nil)
	}
	switch h := l.handler.(type) {
	case explain.Handler:
		return h.Explain(t, w, r, l.next)
	case *caddyhttp.Subroute:
		return l.subroute(h, w, r)
	case *caddyhttp.Invoke:
		if route := k.server.NamedRoutes[h.Name]; route != nil {
			return k.route(route, l.next).ServeHTTP(w, r)
		}
		return errors.New("the named route does not exist")
	case *problem.Fallback:
		return nil // the error is answered with its status
	case *reverseproxy.Handler:
		return k.proxy(t, h, r)
	case caddyauth.Authentication:
		if onlyBasicAuth(&h) {
			return l.run(t, w, r)
		}
	case *caddyauth.Authentication:
		if onlyBasicAuth(h) {
			return l.run(t, w, r)
		}
	}
	switch id := moduleID(l.handler); {
	case slices.Contains(harmless, id):
		return l.run(t, w, r)
	case slices.Contains(passive, id):
		return l.next.ServeHTTP(w, r)
	}
	return t.Stop("only a real request can tell what this handler does: a dry run ends in front of it", nil)
}

// subroute is what a Subroute does.
func (l *link) subroute(h *caddyhttp.Subroute, w http.ResponseWriter, r *http.Request) error {
	err := l.walk.routes(h.Routes, l.next).ServeHTTP(w, r)
	if err == nil || errors.Is(err, explain.ErrStopped) || h.Errors == nil {
		return err
	}
	return l.walk.routes(h.Errors.Routes, l.next).ServeHTTP(w, h.Errors.WithError(r, err))
}

// run runs a harmless handler, and records what it decided.
func (l *link) run(t *explain.Trace, w http.ResponseWriter, r *http.Request) (err error) {
	passed := false
	before := r.URL.EscapedPath()
	answer := &header{fields: w.Header()}
	defer func() {
		// static_response closes the connection so, where it is told to.
		p := recover()
		if p == nil {
			return
		}
		if reason, ok := p.(error); !ok || !errors.Is(reason, http.ErrAbortHandler) {
			panic(p)
		}
		t.Answer(0, "it closes the connection", nil)
		err = nil
	}()
	err = l.handler.ServeHTTP(answer, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		passed = true
		switch after := r.URL.EscapedPath(); {
		case after != before:
			t.Pass("it rewrites the path to "+after, nil)
		case moduleID(l.handler) == "http.handlers.authentication":
			t.Pass("the user is authenticated", nil)
		}
		return l.next.ServeHTTP(w, r)
	}))
	switch {
	case passed:
	case err != nil:
		return t.Refuse(err, "", nil)
	default:
		t.Answer(max(answer.status, http.StatusOK), "", nil)
	}
	return err
}

// onlyBasicAuth reports whether nobody else is asked who the user is.
func onlyBasicAuth(h *caddyauth.Authentication) bool {
	for _, p := range h.Providers {
		switch p.(type) {
		case caddyauth.HTTPBasicAuth, *caddyauth.HTTPBasicAuth:
		default:
			return false
		}
	}
	return true
}

func moduleID(h caddyhttp.MiddlewareHandler) caddy.ModuleID {
	if m, ok := h.(caddy.Module); ok {
		return m.CaddyModule().ID
	}
	return ""
}

// header is a response of which only the header is kept.
type header struct {
	fields http.Header
	status int
}

func (h *header) Header() http.Header { return h.fields }

func (h *header) WriteHeader(status int) {
	if h.status == 0 && status >= http.StatusOK {
		h.status = status
	}
}

func (h *header) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return len(p), nil
}
