package apidocs

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.run)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if !h.isOwn(path) {
		return h.pass(w, r, next)
	}
	if err := checkMethod(w, r); err != nil {
		return err
	}
	setSecurity(w.Header())
	switch page := h.page[path]; {
	case path == h.UI+"/":
		// The query is left out: nothing in it means anything here.
		w.Header().Set("Location", relative(path, h.UI))
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	case page != nil:
		w.Header().Set("Cache-Control", "no-cache")
		return page.Serve(w, r)
	}
	return h.serveDocument(w, r, path == h.YAML)
}

// isOwn reports whether a path is one of the documentation.
func (h *Handler) isOwn(path string) bool {
	return h.page[path] != nil || path == h.JSON || path == h.YAML || path == h.UI+"/"
}

// serveDocument answers with the merged document.
func (h *Handler) serveDocument(w http.ResponseWriter, r *http.Request, yaml bool) error {
	h.fetchFirst(r.Context())
	w.Header().Set("Cache-Control", h.cacheControl())
	if h.isPersonal() {
		w.Header().Add("Vary", "Authorization")
	}
	merged, err := h.document(r, yaml)
	if err != nil {
		return err
	}
	return merged.Serve(w, r)
}

// cacheControl says who may store the document. What not everybody may see is for
// nobody else.
func (h *Handler) cacheControl() string {
	if h.isPersonal() {
		return "private, no-cache"
	}
	return "no-cache"
}

// isPersonal reports whether the document is not the same for everybody.
func (h *Handler) isPersonal() bool {
	for _, s := range h.Services {
		if len(s.visible) > 0 {
			return true
		}
	}
	return h.AskToken
}

// policy allows the page what it is made of, and nothing of another origin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func setSecurity(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// checkMethod refuses requests that are not GET or HEAD.
func checkMethod(w http.ResponseWriter, r *http.Request) error {
	return problem.Allow(w, r, "the API documentation is read with GET or HEAD", http.MethodGet, http.MethodHead)
}
