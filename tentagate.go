// Package tentagate turns Caddy into an API gateway: JWT authentication, rate
// limiting, response caching, circuit breaking, CORS, health and metrics, as
// handlers around Caddy's own reverse_proxy, and a storage for certificates.
//
// It only imports the modules, so that one line plugs in all of them:
//
//	xcaddy build --with github.com/pythopus/tentagate
//
// Each feature can also be had alone, such as
// github.com/pythopus/tentagate/ratelimit.
package tentagate

import (
	_ "github.com/pythopus/tentagate/apidocs"
	_ "github.com/pythopus/tentagate/app"
	_ "github.com/pythopus/tentagate/breaker"
	_ "github.com/pythopus/tentagate/caddyfile"
	_ "github.com/pythopus/tentagate/certstore"
	_ "github.com/pythopus/tentagate/cors"
	_ "github.com/pythopus/tentagate/dashboard"
	_ "github.com/pythopus/tentagate/discovery"
	_ "github.com/pythopus/tentagate/guard"
	_ "github.com/pythopus/tentagate/health"
	_ "github.com/pythopus/tentagate/internal/explain/dryrun" // the command explain
	_ "github.com/pythopus/tentagate/jwtauth"
	_ "github.com/pythopus/tentagate/ratelimit"
	_ "github.com/pythopus/tentagate/rediscache"
	_ "github.com/pythopus/tentagate/telemetry"
)
