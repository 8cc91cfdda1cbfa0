package dashboard

import (
	"cmp"
	"net/http"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// What the handler serves below its path.
const (
	handlerEvents   = "events"
	handlerBreakers = "breakers/"
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.run)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	asked := h.askedFor(r)
	if asked == nothing {
		return next.ServeHTTP(w, r)
	}
	if err := asked.allow(w, r); err != nil {
		return err
	}
	switch asked {
	case redirect:
		// The query is left out: nothing in it means anything here.
		w.Header().Set("Location", path.Base(h.base)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	case events:
		return h.serveEvents(w, r)
	case action:
		return h.serveAction(w, r)
	default:
		return servePage(w, r, h.page)
	}
}

// asked is what a request asks the handler for.
type asked uint8

const (
	nothing asked = iota
	redirect
	page
	events
	action
)

func (h *Handler) askedFor(r *http.Request) asked {
	name, below := strings.CutPrefix(r.URL.Path, h.base)
	switch {
	case r.URL.Path+"/" == h.base && h.base != "/":
		return redirect
	case !below:
		return nothing
	case name == "":
		return page
	case name == handlerEvents:
		return events
	case h.Actions && strings.HasPrefix(name, handlerBreakers):
		return action
	}
	return nothing
}

// allow refuses requests with other methods.
func (a asked) allow(w http.ResponseWriter, r *http.Request) error {
	if a == action {
		return allow(w, r, http.MethodPost)
	}
	return allow(w, r, http.MethodGet, http.MethodHead)
}

func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if !serveEvents(w, r, addressOf(r), h.ctx.Done()) {
		w.Header().Set("Retry-After", retryAfter)
		return problem.Error(problem.New(http.StatusServiceUnavailable, tooMany))
	}
	return nil
}

// addressOf returns the address of the client, by the server's option trusted_proxies.
func addressOf(r *http.Request) string {
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return cmp.Or(client, "unknown")
}

// allow refuses requests with other methods.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) error {
	return problem.Allow(w, r, "accepted methods: "+strings.Join(methods, ", "), methods...)
}
