// Package running finds the apps and the logs of the configuration that is in use.
package running

import "github.com/caddyserver/caddy/v2"

// App returns an app of the running configuration, and false if that does not have it.
func App[T any](name string) (app T, ok bool) {
	found, err := caddy.ActiveContext().AppIfConfigured(name)
	if err != nil {
		return app, false
	}
	app, ok = found.(T)
	return app, ok
}
