package registry

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// RuleOptions are the options that UnmarshalOption reads.
var RuleOptions = []string{"window", "trip", "consecutive", "slow", "failure", "open_for", "half_open", "retry_after"}

// UnmarshalOption reads the option that the dispenser stands on, if it is one of
// the rules:
//
//	window      <duration>
//	trip        <percent> [of <minimum>]|off
//	consecutive <number>|off
//	slow        <percent> over <duration>|off
//	failure     <what...>
//	open_for    <duration> [max <duration>|off] [jitter <percent>|off]
//	half_open   <number> [max <duration>]
//	retry_after honor max <duration>|off
//
// Zero means off where off is accepted.
func (r *Rules) UnmarshalOption(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "window":
		r.Window, err = parse.Duration(d)
	case "trip":
		err = r.unmarshalTrip(d)
	case "consecutive":
		r.Consecutive, err = parse.IntOrOff(d, 1_000_000)
	case "slow":
		err = r.unmarshalSlow(d)
	case "failure":
		if r.Failure, err = parse.Args(d, 1, -1); err == nil {
			if _, bad := ParseFailures(r.Failure); bad != nil {
				err = d.Err(bad.Error())
			}
		}
	case "open_for":
		err = r.unmarshalOpenFor(d)
	case "half_open":
		err = r.unmarshalHalfOpen(d)
	case "retry_after":
		err = r.unmarshalRetryAfter(d)
	default:
		return false, nil
	}
	return true, err
}

func (r *Rules) unmarshalTrip(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && isOff(args[0]) {
		r.Ratio, r.NoRatio = 0, true
		return nil
	}
	var ok bool
	if r.Ratio, ok = parse.Percent(args[0]); !ok || len(args) == 2 || len(args) == 3 && args[1] != "of" {
		return d.Err("trip: write it as `trip 50%` or `trip 50% of 20`, with a share above 0% and at most 100%, or as `trip off`")
	}
	if len(args) == 3 {
		if r.MinRequests, err = strconv.Atoi(args[2]); err != nil || r.MinRequests < 1 {
			return d.Errf("trip: %q is not a number of requests of at least 1", args[2])
		}
	}
	return nil
}

func (r *Rules) unmarshalSlow(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if isOff(args[0]) {
		return nil
	}
	if len(args) < 3 {
		return d.Err("slow: missing argument: write it as `slow 80% over 2s`, or as `slow off`")
	}
	var ok bool
	r.SlowRatio, ok = parse.Percent(args[0])
	over, err := caddy.ParseDuration(args[2])
	if !ok || args[1] != "over" || err != nil || over <= 0 {
		return d.Err("slow: write it as `slow 80% over 2s`, or as `slow off`")
	}
	r.SlowOver = caddy.Duration(over)
	return nil
}

func (r *Rules) unmarshalOpenFor(d *caddyfile.Dispenser) error {
	const form = "open_for: write it as `open_for 30s`, with `max 5m` and `jitter 20%` behind it as you like"
	args, err := parse.Args(d, 1, 5)
	if err != nil {
		return err
	}
	if isOff(args[0]) {
		return d.Err("open_for: a circuit that opens is open for some time, such as 30s: to refuse nothing, write `mode observe` in circuit_breaker")
	}
	first, err := caddy.ParseDuration(args[0])
	if err != nil || first <= 0 || len(args)%2 == 0 {
		return d.Err(form)
	}
	r.OpenFor = caddy.Duration(first)
	seen := parse.Seen{}
	for i := 1; i < len(args); i += 2 {
		if seen.OnceAs(d, args[i]) != nil {
			return d.Errf("open_for: %s is given more than once", args[i])
		}
		switch args[i] {
		case "max":
			if isOff(args[i+1]) {
				r.OpenMax = r.OpenFor
				continue
			}
			most, err := caddy.ParseDuration(args[i+1])
			if err != nil || most < first {
				return d.Errf("open_for: max %q is not a duration of at least %s", args[i+1], args[0])
			}
			r.OpenMax = caddy.Duration(most)
		case "jitter":
			var ok bool
			if r.Jitter, ok = parse.PercentOrOff(args[i+1]); !ok {
				return d.Errf("open_for: jitter %q is not a share such as 20%%, nor off", args[i+1])
			}
		default:
			return d.Err(form)
		}
	}
	return nil
}

func (r *Rules) unmarshalHalfOpen(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if r.HalfOpen, err = strconv.Atoi(args[0]); err != nil || r.HalfOpen < 1 || len(args) == 2 || len(args) == 3 && args[1] != "max" {
		return d.Err("half_open: write it as `half_open 3` or `half_open 3 max 30s`, with at least one probe")
	}
	if len(args) == 3 {
		most, err := caddy.ParseDuration(args[2])
		if err != nil || most <= 0 {
			return d.Errf("half_open: max %q is not a duration above zero", args[2])
		}
		r.HalfOpenMax = caddy.Duration(most)
	}
	return nil
}

func (r *Rules) unmarshalRetryAfter(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && isOff(args[0]) {
		return nil
	}
	if len(args) < 3 {
		return d.Err("retry_after: missing argument: write it as `retry_after honor max 5m`, or as `retry_after off`")
	}
	if args[0] == "honor" && args[1] == "max" && isOff(args[2]) {
		return nil
	}
	most, err := caddy.ParseDuration(args[2])
	if strings.Join(args[:2], " ") != "honor max" || err != nil || most <= 0 {
		return d.Err("retry_after: write it as `retry_after honor max 5m`, or as `retry_after off`")
	}
	r.RetryAfterMax = caddy.Duration(most)
	return nil
}

// isOff reports whether a word switches an option off: `off`, or zero in any
// unit.
func isOff(word string) bool {
	if share, ok := parse.PercentOrOff(word); ok {
		return share == 0
	}
	d, err := caddy.ParseDuration(word)
	return err == nil && d == 0
}
