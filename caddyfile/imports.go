package caddyfile

// What the directive expands to.
import (
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	_ "github.com/pythopus/tentagate/breaker"
	_ "github.com/pythopus/tentagate/cors"
	_ "github.com/pythopus/tentagate/guard"
	_ "github.com/pythopus/tentagate/health"
	_ "github.com/pythopus/tentagate/jwtauth"
	_ "github.com/pythopus/tentagate/ratelimit"
	_ "github.com/pythopus/tentagate/rediscache"
)
