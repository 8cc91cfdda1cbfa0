package guard

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requestid"
)

// Explain refuses what ServeHTTP refuses, but for what only a connection shows: framing,
// and bodies that do not come.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	id := requestid.Of(r.Header)
	r.Header[requestid.Header] = []string{id}
	problem.SetRequestID(r, id)
	placeholders.Known(r)
	if _, err := h.decide(w, r); err != nil {
		return t.Refuse(err, "", nil)
	}
	t.Pass("method, target, host and fields are accepted", nil)
	return next.ServeHTTP(w, r)
}
