package caddyfile

import (
	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/admin"
)

// BinaryName is the name of the program whose help is TentaGate's, and not Caddy's.
const BinaryName = "tentagate"

// LongDescription is what the help of the program begins with.
const LongDescription = `TentaGate is an API gateway: the Caddy web server with JWT authentication, rate
limits, a response cache, circuit breakers, CORS and more.

'tentagate gateway' runs it from environment variables alone; with --demo it
needs nothing at all. 'tentagate run' runs it with a Caddyfile of your own, in the
foreground, until it is stopped; 'tentagate validate' checks one, and 'tentagate
reload' puts a changed one into use without losing a request.

The commands that show or change the state of a running gateway, such as
'tentagate status' or 'tentagate purge', ask its admin API.

All commands, directives and modules of Caddy work as in Caddy.
Documentation: https://github.com/pythopus/tentagate/tree/main/docs`

// attached is a command that Caddy adds to its root command, by which another one
// reaches the root: Caddy has no option for the examples there.
var attached *cobra.Command

// describeRoot gives the root command the examples of TentaGate, if that is the program.
// Each of our commands calls it while Caddy adds them one after the other.
func describeRoot(cmd *cobra.Command) {
	before := attached
	attached = cmd
	if before == nil {
		return
	}
	if root := before.Root(); root != before && caddy.CustomBinaryName == BinaryName {
		root.Example = admin.Example(
			"gateway --demo", "gateway --env-file production.env", "validate --config Caddyfile", "run --config Caddyfile", "reload --config Caddyfile", "status",
		)
	}
}
