package nearby

import (
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Proxies says what the servers of the configuration that is being provisioned know about
// the proxies in front of them: whether one trusts proxies, and whether one of these takes
// the first address of X-Forwarded-For for the client's. known is false outside of the
// HTTP app.
func Proxies(ctx caddy.Context) (trusting, first, known bool) {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return false, false, false
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return false, false, false
	}
	for _, server := range app.Servers {
		if trustsProxies(server) {
			trusting = true
			first = first || takesFirst(server)
		}
	}
	return trusting, first, true
}

func trustsProxies(server *caddyhttp.Server) bool {
	if server.TrustedProxiesRaw != nil || server.TrustedProxiesUnix {
		return true
	}
	// Caddy drops the JSON of a module that is loaded, and does not export it.
	f := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	return !f.IsValid() || f.Kind() != reflect.Interface || !f.IsNil()
}

// takesFirst reports whether the first address of X-Forwarded-For is the client's to a
// server that trusts proxies.
func takesFirst(server *caddyhttp.Server) bool {
	return server.TrustedProxiesStrict == 0 && (len(server.ClientIPHeaders) == 0 ||
		slices.ContainsFunc(server.ClientIPHeaders, func(name string) bool { return strings.EqualFold(name, "X-Forwarded-For") }))
}
