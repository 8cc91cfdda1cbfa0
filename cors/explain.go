package cors

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// Explain says whether a page of the request's origin may read the response.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	from, cross, allowed := h.originOf(r)
	if !cross {
		t.Pass("the request has no Origin", nil)
		return next.ServeHTTP(w, r)
	}
	facts := explain.Facts{"origin_allowed": "false"}
	verdict := "the origin is not allowed: no page can read the response"
	if allowed {
		facts["origin_allowed"], verdict = "true", "the origin is allowed"
	}
	if !isPreflight(r) {
		if allowed {
			h.allow(w.Header(), from)
		}
		t.Pass(verdict, facts)
		return next.ServeHTTP(w, r)
	}
	methodOK := h.methodAllowed(r.Header[acRequestMethod][0])
	headersOK, _ := h.headersAllowed(r.Header[acRequestHeaders])
	switch {
	case !allowed:
	case !methodOK:
		verdict = "the origin is allowed, the method of " + acRequestMethod + " is not"
	case !headersOK:
		verdict = "the origin is allowed, not all fields of " + acRequestHeaders + " are"
	}
	h.preflight(w, r, from, allowed)
	t.Answer(http.StatusNoContent, "preflight: "+verdict, facts)
	return nil
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
