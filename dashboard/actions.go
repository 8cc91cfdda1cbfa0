package dashboard

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/problem"
)

// actionField is sent with each action. Pages of other origins cannot send it without a
// preflight request, which is not answered.
const actionField = "X-Tentagate-Dashboard"

// adminBreakers is the endpoint of the circuit breakers.
const adminBreakers = "/tentagate/breakers/"

// crossOrigin refuses what a browser sends for a page of another origin.
var crossOrigin = http.NewCrossOriginProtection()

// serveAction forces the state of a circuit breaker, by the endpoint of the admin API.
func (h *Handler) serveAction(w http.ResponseWriter, r *http.Request) error {
	if crossOrigin.Check(r) != nil {
		return problem.Error(problem.New(http.StatusForbidden, "the request comes from a page of another origin"))
	}
	if r.Header.Get(actionField) == "" {
		return problem.Error(problem.New(http.StatusForbidden, "the header field "+actionField+" is missing; programs use the admin API"))
	}
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), h.base+handlerBreakers)
	if !ok {
		return problem.Error(problem.New(http.StatusBadRequest, "the path of the dashboard must not be escaped"))
	}
	target, err := url.Parse(adminBreakers + below)
	if err != nil {
		return problem.Error(problem.New(http.StatusBadRequest, "the path is malformed"))
	}
	target.RawQuery = r.URL.RawQuery
	inner := r.Clone(r.Context())
	inner.URL, inner.RequestURI = target, target.RequestURI()
	return admin.ServeAt(adminBreakers, w, inner)
}
