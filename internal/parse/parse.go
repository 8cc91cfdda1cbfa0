// Package parse has the checks that every parser of a Caddyfile block makes:
// missing, extra, duplicate, unknown and bad values, with errors that name the
// option and what it accepts.
//
// All functions work on the option that the dispenser stands on.
package parse

import (
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// NoArgs checks that the option stands alone.
func NoArgs(d *caddyfile.Dispenser) error {
	_, err := Args(d, 0, 0)
	return err
}

// OneArg returns the only argument of the option.
func OneArg(d *caddyfile.Dispenser) (string, error) {
	args, err := Args(d, 1, 1)
	if err != nil {
		return "", err
	}
	return args[0], nil
}

// Args returns the arguments of the option: at least minimum and, unless
// maximum is negative, at most maximum of them.
func Args(d *caddyfile.Dispenser, minimum, maximum int) ([]string, error) {
	option := d.Val()
	args := d.RemainingArgs()
	switch {
	case len(args) < minimum:
		return nil, d.Errf("%s: missing argument: it takes %s", option, arity(minimum, maximum))
	case maximum == 0 && len(args) > 0:
		return nil, d.Errf("%s: unexpected argument %q: it takes none%s", option, args[0], instead(args))
	case maximum > 0 && len(args) > maximum:
		return nil, d.Errf("%s: unexpected argument %q: it takes %s", option, args[maximum], arity(minimum, maximum))
	}
	return args, nil
}

// instead says what to write where a switch was given on or off.
func instead(args []string) string {
	if len(args) != 1 {
		return ""
	}
	switch args[0] {
	case off, "no", "false", "none", "disabled":
		return ": leave the line out, which is off"
	case "on", "yes", "true", "enabled":
		return ": the name alone is on"
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

// Seen remembers which options of a block were given.
type Seen map[string]struct{}

// Once fails when the option was given before in the same block.
func (s Seen) Once(d *caddyfile.Dispenser) error {
	return s.OnceAs(d, d.Val())
}

// OnceAs is Once for an option that may be repeated with another name, such as
// `ttl 404 5s` beside `ttl 60s`.
func (s Seen) OnceAs(d *caddyfile.Dispenser, name string) error {
	if _, dup := s[name]; dup {
		return d.Errf("%s: given more than once", name)
	}
	s[name] = struct{}{}
	return nil
}

// Unknown is the error for an option that the block does not have.
func Unknown(d *caddyfile.Dispenser, accepted ...string) error {
	return d.Errf("unknown option %q: accepted are %s", d.Val(), strings.Join(accepted, ", "))
}

// Duration returns the only argument of the option, a duration above zero such
// as 250ms, 30s, 5m or 1d.
func Duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	v, err := caddy.ParseDuration(arg)
	if err != nil || v <= 0 {
		return 0, d.Errf("%s: %q is not a duration above zero, such as 250ms, 30s, 5m or 1d", option, arg)
	}
	return caddy.Duration(v), nil
}

// Int returns the only argument of the option, a whole number in the range.
func Int(d *caddyfile.Dispenser, minimum, maximum int) (int, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(arg)
	if err != nil || v < minimum || v > maximum {
		return 0, d.Errf("%s: %q is not a whole number from %d to %d", option, arg, minimum, maximum)
	}
	return v, nil
}

// Size returns the only argument of the option, a number of bytes above zero
// such as 65536, 512KiB or 1GB.
func Size(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	v, err := humanize.ParseBytes(arg)
	if err != nil || v == 0 || v > math.MaxInt64 {
		return 0, d.Errf("%s: %q is not a size above zero, such as 65536, 512KiB or 1GB", option, arg)
	}
	return int64(v), nil
}

// off is the word with which an option is switched off, as zero does.
const off = "off"

// DurationOrOff is Duration for an option that can be switched off: `off` and
// zero in any unit are 0.
func DurationOrOff(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	if arg == off || arg == "0" {
		return 0, nil
	}
	v, err := caddy.ParseDuration(arg)
	if err != nil || v < 0 {
		return 0, d.Errf("%s: %q is not a duration such as 250ms, 30s, 5m or 1d, nor off", option, arg)
	}
	return caddy.Duration(v), nil
}

// IntOrOff is Int for an option that can be switched off: `off` and 0 are 0.
func IntOrOff(d *caddyfile.Dispenser, maximum int) (int, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	if arg == off {
		return 0, nil
	}
	v, err := strconv.Atoi(arg)
	if err != nil || v < 0 || v > maximum {
		return 0, d.Errf("%s: %q is not a whole number up to %d, nor off", option, arg, maximum)
	}
	return v, nil
}

// SizeOrOff is Size for an option that can be switched off: `off` and 0 are 0.
func SizeOrOff(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	arg, err := OneArg(d)
	if err != nil {
		return 0, err
	}
	if arg == off {
		return 0, nil
	}
	v, err := humanize.ParseBytes(arg)
	if err != nil || v > math.MaxInt64 {
		return 0, d.Errf("%s: %q is not a size such as 65536, 512KiB or 1GB, nor off", option, arg)
	}
	return int64(v), nil
}

// PercentOrOff is Percent for a share that can be switched off: `off`, `0` and
// `0%` are 0.
func PercentOrOff(s string) (float64, bool) {
	switch s {
	case off, "0", "0%":
		return 0, true
	}
	return Percent(s)
}

// Percent reads a share such as 50% and returns it as a fraction, 0.5. It must
// be above 0% and at most 100%.
func Percent(s string) (float64, bool) {
	digits, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(v > 0 && v <= 100) {
		return 0, false
	}
	return v / 100, true
}
