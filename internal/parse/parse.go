// Package parse reads blocks of a Caddyfile. A feature lists the options of its
// block; duplicate, unknown and missing ones, the number of arguments and bad
// values are checked here, with errors that name the option and what it accepts.
package parse

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Handler sets up the handler of a directive from its Caddyfile. It is for
// httpcaddyfile.RegisterHandlerDirective.
func Handler[T any, H interface {
	*T
	caddyhttp.MiddlewareHandler
	caddyfile.Unmarshaler
}](h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := H(new(T))
	if err := NamedRoute(h); err != nil {
		return nil, err
	}
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// Args returns the arguments of the option that the dispenser stands on: at least
// minimum and, unless maximum is negative, at most maximum of them.
func Args(d *caddyfile.Dispenser, minimum, maximum int) ([]string, error) {
	option := d.Val()
	args := d.RemainingArgs()
	switch {
	case len(args) < minimum:
		return nil, d.Errf("%s: missing argument: it takes %s", option, arity(minimum, maximum))
	case maximum == 0 && len(args) > 0:
		return nil, d.Errf("%s: unexpected argument %q: it takes none%s", option, args[0], switchHint(args))
	case maximum > 0 && len(args) > maximum:
		return nil, d.Errf("%s: unexpected argument %q: it takes %s", option, args[maximum], arity(minimum, maximum))
	}
	return args, nil
}

// NoArgs is Args for an option that stands alone.
func NoArgs(d *caddyfile.Dispenser) error {
	_, err := Args(d, 0, 0)
	return err
}

// OneArg is Args for an option with exactly one argument.
func OneArg(d *caddyfile.Dispenser) (string, error) {
	args, err := Args(d, 1, 1)
	if err != nil {
		return "", err
	}
	return args[0], nil
}

// switchHint says what to write instead of on or off after an option that is
// switched on by its name alone.
func switchHint(args []string) string {
	if len(args) != 1 {
		return ""
	}
	const off = ": to switch it off, leave the line out"
	if IsOff(args[0]) {
		return off
	}
	switch args[0] {
	case "no", "false", "none", "disabled":
		return off
	case "on", "yes", "true", "enabled":
		return ": the name alone switches it on"
	}
	return ""
}

func arity(minimum, maximum int) string {
	switch {
	case minimum == maximum:
		return plural(minimum)
	case maximum < 0:
		return "at least " + plural(minimum)
	default:
		return strconv.Itoa(minimum) + " to " + plural(maximum)
	}
}

func plural(n int) string {
	if n == 1 {
		return "1 value"
	}
	return strconv.Itoa(n) + " values"
}
