package resolve

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/hostname"
)

// Host returns a reader of the normal form of a host's placeholder, and false for any
// other placeholder. A variable that `vars` copies from such a placeholder is one too.
func Host(ctx caddy.Context, name string) (hostname.Reader, bool) {
	if reader, ok := hostname.Placeholder(name); ok {
		return reader, true
	}
	if !strings.HasPrefix(name, "http.vars.") {
		return nil, false
	}
	of := name
	for range 8 { // a variable may be copied from another one
		variable, ok := strings.CutPrefix(of, "http.vars.")
		if !ok {
			break
		}
		of = definedIn(ctx).copies[variable]
	}
	form, ok := hostname.Form(of)
	if !ok {
		return nil, false
	}
	return func(r *http.Request) string {
		repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if !ok {
			return ""
		}
		value, _ := repl.GetString(name)
		return form(value)
	}, true
}
