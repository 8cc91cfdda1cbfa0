// Package order registers where TentaGate's directives stand among Caddy's
// own, so that a Caddyfile needs no `order` option and is safe without one.
//
// The whole table is here, and every feature package imports it, because
// Caddy keeps the order in which directives are registered against one
// anchor: were each feature to register its own, the result would depend on
// the order of package initialisation, and with it whether a cached response is
// sent to a client that was never authenticated.
package order

import "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

// first are the directives in front of everything of Caddy's but tracing, whose span they
// belong to. telemetry observes all others; they refuse malformed requests and answer
// preflights and health checks, which have no token.
var first = []string{"telemetry", "guard", "cors", "health"}

// gate are the directives between the standard request manipulation and encode:
// authentication, rate limits, the API docs and the dashboard, which may be for
// authenticated clients alone, and the cache, which stores the variants that encode
// compresses.
var gate = []string{"jwt_auth", "ratelimit", "api_docs", "dashboard", "http_cache"}

// last are the directives directly in front of reverse_proxy. The circuit
// breaker is innermost, so that its 503 passes through the cache, which may serve
// stale instead.
var last = []string{"tentagate", "circuit_breaker"}

func init() {
	// Caddy keeps registration order for several directives before one anchor.
	for _, table := range []struct {
		directives []string
		before     string
	}{
		{first, "map"},
		{gate, "encode"},
		{last, "reverse_proxy"},
	} {
		for _, directive := range table.directives {
			httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, table.before)
		}
	}
}
