// Command tentagate is the Caddy web server with TentaGate. Besides Caddy's
// subcommands it has gateway, token, healthcheck, limits, breakers, purge and revoke
// (docs/commands.md).
package main

import (
	"cmp"
	_ "time/tzdata" // an image from scratch has none

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/pythopus/tentagate"
	"github.com/pythopus/tentagate/caddyfile"
	_ "github.com/pythopus/tentagate/internal/heapprofile"
	"github.com/pythopus/tentagate/internal/version"
)

func main() {
	paceGC()
	caddy.CustomBinaryName, caddy.CustomLongDescription = caddyfile.BinaryName, caddyfile.LongDescription
	caddy.CustomVersion = cmp.Or(caddy.CustomVersion, version.Long())
	caddycmd.Main()
}
