// Package caddyfile is the whole gateway as one directive, `tentagate`, with
// the environment it reads, the plain handlers it expands to, the Caddyfile
// that is built in, and the subcommands of the binary: `gateway`, which runs
// that Caddyfile, `token`, which makes tokens for development, and
// `healthcheck`, which asks a gateway whether it is healthy.
package caddyfile
