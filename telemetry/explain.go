package telemetry

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/route"
)

// Explain says as what service metrics and logs have the request.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := requeststate.Of(r)
	if s.Decisions.Service == "" {
		s.Decisions.Service = h.serviceOf(r).label
		reason := "metrics and logs have it as one of the service " + s.Decisions.Service
		if s.Decisions.Service == route.Other {
			reason = "metrics and logs have it as one of no service (" + route.Other + ")"
		}
		t.Pass(reason, explain.Facts{"service": s.Decisions.Service})
	}
	return next.ServeHTTP(w, r)
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
