package app

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app/availability"
)

// budgetVar is the name under which a request's budget is kept in Caddy's
// variables.
const budgetVar = "tentagate.redis_budget"

// requestBudget is the budget of the request that has the replacer. A copy of
// the request that goes on in the background has the same variables, but not the
// same replacer: it needs a budget of its own.
type requestBudget struct {
	availability.Budget
	replacer any
}

// String keeps the budget out of {http.vars.*}.
func (*requestBudget) String() string { return "" }

// WaitBudget returns how long the request has waited for Redis, which all
// features of the request share.
func WaitBudget(r *http.Request) *availability.Budget {
	replacer := r.Context().Value(caddy.ReplacerCtxKey)
	b, ok := caddyhttp.GetVar(r.Context(), budgetVar).(*requestBudget)
	if !ok || b.replacer != replacer {
		b = &requestBudget{replacer: replacer}
		caddyhttp.SetVar(r.Context(), budgetVar, b)
	}
	return &b.Budget
}
