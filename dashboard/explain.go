package dashboard

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// Explain says whether the request is for the dashboard.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	asked := h.askedFor(r)
	if asked == nothing {
		return next.ServeHTTP(w, r)
	}
	if err := asked.allow(w, r); err != nil {
		return t.Refuse(err, "", nil)
	}
	switch asked {
	case action:
		return t.Stop("only a real request can change a circuit breaker", nil)
	case redirect:
		t.Answer(http.StatusPermanentRedirect, "the dashboard", nil)
	default:
		t.Answer(http.StatusOK, "the dashboard", nil)
	}
	return nil
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
