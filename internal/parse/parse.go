// Package parse reads blocks of a Caddyfile. A feature lists the options of its
// block; duplicate, unknown and missing ones, the number of arguments and bad
// values are checked here, with errors that name the option and what it accepts.
package parse

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Handler sets up the handler of a directive from its Caddyfile. It is for Register.
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
		return nil, d.WrapErr(switchHint(args, fmt.Errorf("%s: unexpected argument %q: it takes none", option, args[0])))
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

// OneText is OneArg for a value that is not blank.
func OneText(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	text, err := OneArg(d)
	if err != nil {
		return "", err
	}
	if _, err := Text(text); err != nil {
		return "", d.Errf("%s: %w", option, err)
	}
	return text, nil
}

// switchHint adds to an error what to write instead of on or off after an option that
// is switched on by its name alone.
func switchHint(args []string, err error) error {
	switch {
	case len(args) != 1:
		return err
	case IsOff(args[0]) || slices.Contains(offWords, args[0]):
		return Mend("%w: to switch it off, leave the line out", err)
	case slices.Contains([]string{"on", "yes", "true", "enabled"}, args[0]):
		return fmt.Errorf("%w: the name alone switches it on", err)
	}
	return err
}

// offWords are words that others have for off.
var offWords = []string{"no", "false", "none", "disabled"}

func arity(minimum, maximum int) string {
	switch {
	case minimum == 0:
		return "at most " + plural(maximum)
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
