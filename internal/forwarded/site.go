package forwarded

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/site"
)

// cleanKey is the variable that marks a request whose fields were removed.
const cleanKey = "tentagate.forwarded"

// Install makes each site of the server that is being provisioned remove the fields
// that any of its handlers forwards, and define the gateway's placeholders, before its
// first handler runs. ctx is that of Provision.
func Install(ctx caddy.Context) {
	site.OnEntry(ctx, func(handlers []caddyhttp.MiddlewareHandler) func(*http.Request) {
		var fields *Fields
		for _, h := range handlers {
			if f, ok := h.(Forwarder); ok {
				fields = Join(fields, f.ForwardedFields())
			}
		}
		return func(r *http.Request) {
			placeholders.Known(r)
			clean(r, fields)
		}
	})
}

// clean removes the fields, once per request: matchers may be evaluated again after
// handlers have set them.
func clean(r *http.Request, fields *Fields) {
	if fields == nil {
		return
	}
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok || vars[cleanKey] != nil {
		return
	}
	vars[cleanKey] = cleaned{}
	fields.Remove(r)
}

// cleaned is the value of the variable. String keeps it out of {http.vars.*}.
type cleaned struct{}

func (cleaned) String() string { return "" }
