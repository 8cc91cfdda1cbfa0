package dashboard

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// Explain says whether the request is for the dashboard.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	name, below := strings.CutPrefix(r.URL.Path, h.base)
	status, methods := http.StatusOK, []string{http.MethodGet, http.MethodHead}
	switch {
	case r.URL.Path+"/" == h.base && h.base != "/":
		status = http.StatusPermanentRedirect
	case below && (name == "" || name == handlerEvents):
	case below && h.Actions && strings.HasPrefix(name, handlerBreakers):
		methods = []string{http.MethodPost}
	default:
		return next.ServeHTTP(w, r)
	}
	if err := allow(w, r, methods...); err != nil {
		return t.Refuse(err, "", nil)
	}
	if r.Method == http.MethodPost {
		return t.Stop("only a real request can change a circuit breaker", nil)
	}
	t.Answer(status, "the dashboard", nil)
	return nil
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
