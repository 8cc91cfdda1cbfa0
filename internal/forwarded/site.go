package forwarded

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/site"
)

// cleanKey is the variable of a request that was cleaned.
const cleanKey = "tentagate.forwarded"

// Install removes, from each request that enters a site of the server whose
// handler is being provisioned, the fields that any handler of that site
// forwards, and makes the gateway's placeholders known. It does so before all
// handlers of the site, so that what they set stays.
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

// clean removes the fields, once in a request: a matcher may be asked again,
// when handlers have set them.
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
