package apidocs

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/apidocs/internal/contract"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/route"
)

// Explain says whether the request is for the documents, or as the document of its
// service says.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if !h.isOwn(path) {
		return h.explainPass(t, w, r, next)
	}
	if err := checkMethod(w, r); err != nil {
		return t.Refuse(err, "", nil)
	}
	if path == h.UI+"/" {
		t.Answer(http.StatusPermanentRedirect, "the documentation page", nil)
	} else {
		t.Answer(http.StatusOK, "the documentation of the services", nil)
	}
	return nil
}

// explainPass is pass without its counters.
func (h *Handler) explainPass(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s, rest, escaped := h.find(r)
	if s == nil || s.ref == nil {
		return next.ServeHTTP(w, r)
	}
	known := s.ref.Value.current.Load()
	if known == nil {
		return next.ServeHTTP(w, r)
	}
	var m contract.Match
	known.Find(&m, r.Method, rest, escaped)
	facts := explain.Facts{}
	if m.Path != nil {
		route.Set(r, m.Path.Template)
		facts["route"] = m.Path.Template
	}
	reason := "the request is one of the route " + facts["route"]
	if m.Path == nil {
		reason = "the document of the service has no such path"
	}
	if s.checks && known.Checks() {
		if _, found := h.examine(r, known, &m); found != nil && found.result == resultBody {
			reason += "; its body, which a dry run does not have, is checked too"
		} else if found != nil {
			if s.refuses(known, &m, found) {
				return t.Refuse(found.problem(w, r.Method), "", facts)
			}
			reason += "; the document does not allow it: " + found.text()
		}
	}
	t.Pass(reason, facts)
	return next.ServeHTTP(w, r)
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
