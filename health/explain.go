package health

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// Explain says whether the request is a probe.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if !h.isProbe(path) {
		return next.ServeHTTP(w, r)
	}
	if err := checkMethod(w, r); err != nil {
		return t.Refuse(err, "", nil)
	}
	switch path {
	case h.ReadyPath:
		status, _ := h.readiness(r)
		t.Answer(status, "readiness probe", nil)
	case h.LivePath:
		t.Answer(http.StatusOK, "liveness probe", nil)
	default:
		t.Answer(http.StatusOK, "health check", nil)
	}
	return nil
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
