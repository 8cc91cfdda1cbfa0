package registry

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// Options are the rules as options of a block:
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
func (r *Rules) Options() []parse.Option {
	return []parse.Option{
		parse.Value("window", &r.Window, parse.Duration),
		parse.Func("trip", r.unmarshalTrip),
		parse.Value("consecutive", &r.Consecutive, parse.IntOrOff(1_000_000)),
		parse.Func("slow", r.unmarshalSlow),
		parse.List("failure", &r.Failure).Then(func() error {
			_, err := parseFailures(r.Failure)
			return err
		}),
		parse.Func("open_for", r.unmarshalOpenFor),
		parse.Func("half_open", r.unmarshalHalfOpen),
		parse.Func("retry_after", r.unmarshalRetryAfter),
	}
}

func (r *Rules) unmarshalTrip(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && parse.IsOff(args[0]) {
		r.Ratio, r.NoRatio = 0, true
		return nil
	}
	if r.Ratio, err = parse.Percent(args[0]); err != nil || len(args) == 2 || len(args) == 3 && args[1] != "of" {
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
	if parse.IsOff(args[0]) {
		return nil
	}
	if len(args) < 3 {
		return d.Err("slow: missing argument: write it as `slow 80% over 2s`, or as `slow off`")
	}
	ratio, badRatio := parse.Percent(args[0])
	over, badOver := parse.Duration(args[2])
	if badRatio != nil || args[1] != "over" || badOver != nil {
		return d.Err("slow: write it as `slow 80% over 2s`, or as `slow off`")
	}
	r.SlowRatio, r.SlowOver = ratio, over
	return nil
}

func (r *Rules) unmarshalOpenFor(d *caddyfile.Dispenser) error {
	const form = "open_for: write it as `open_for 30s`, optionally followed by `max 5m` and `jitter 20%`"
	args, err := parse.Args(d, 1, 5)
	if err != nil {
		return err
	}
	if parse.IsOff(args[0]) {
		return d.WrapErr(parse.Mend("open_for: a circuit opens for some time, such as 30s; to refuse nothing, write `mode observe` in circuit_breaker"))
	}
	if r.OpenFor, err = parse.Duration(args[0]); err != nil || len(args)%2 == 0 {
		return d.Err(form)
	}
	for i := 1; i < len(args); i += 2 {
		if i == 3 && args[3] == args[1] {
			return d.Errf("open_for: %s is given more than once", args[3])
		}
		switch text := args[i+1]; args[i] {
		case "max":
			if r.OpenMax = r.OpenFor; parse.IsOff(text) {
				continue
			}
			if r.OpenMax, err = parse.Duration(text); err != nil || r.OpenMax < r.OpenFor {
				return d.Errf("open_for: max %q is not a duration of at least %s", text, args[0])
			}
		case "jitter":
			if r.Jitter, err = parse.PercentOrOff(text); err != nil {
				return d.Errf("open_for: jitter %w", err)
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
		if r.HalfOpenMax, err = parse.Duration(args[2]); err != nil {
			return d.Errf("half_open: max %w", err)
		}
	}
	return nil
}

func (r *Rules) unmarshalRetryAfter(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && parse.IsOff(args[0]) {
		return nil
	}
	if len(args) < 3 {
		return d.Err("retry_after: missing argument: write it as `retry_after honor max 5m`, or as `retry_after off`")
	}
	if r.RetryAfterMax, err = parse.DurationOrOff(args[2]); err != nil || args[0] != "honor" || args[1] != "max" {
		return d.Err("retry_after: write it as `retry_after honor max 5m`, or as `retry_after off`")
	}
	return nil
}
