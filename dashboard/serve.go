package dashboard

import (
	"cmp"
	"net/http"
	"path"
	"slices"
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
	name, below := strings.CutPrefix(r.URL.Path, h.base)
	switch {
	case r.URL.Path+"/" == h.base && h.base != "/":
		if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		// The query is left out: nothing in it means anything here.
		w.Header().Set("Location", path.Base(h.base)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	case !below:
		return next.ServeHTTP(w, r)
	case name == "":
		if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		return servePage(w, r, h.page)
	case name == handlerEvents:
		return h.serveEvents(w, r)
	case h.Actions && strings.HasPrefix(name, handlerBreakers):
		return h.serveAction(w, r)
	}
	return next.ServeHTTP(w, r)
}

func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
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
	if slices.Contains(methods, r.Method) {
		return nil
	}
	accepted := strings.Join(methods, ", ")
	w.Header().Set("Allow", accepted)
	return problem.Error(problem.New(http.StatusMethodNotAllowed, "accepted methods: "+accepted))
}
