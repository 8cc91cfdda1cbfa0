package health

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// Explain says whether the request is a probe.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch path := r.URL.Path; {
	case path != h.Path && path != h.LivePath && path != h.ReadyPath:
		return next.ServeHTTP(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return t.Refuse(notProbe(w), "", nil)
	case path == h.ReadyPath:
		status, _ := h.readiness(r)
		t.Answer(status, "readiness probe", nil)
	case path == h.LivePath:
		t.Answer(http.StatusOK, "liveness probe", nil)
	default:
		t.Answer(http.StatusOK, "health check", nil)
	}
	return nil
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
