package breaker

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
)

func init() {
	httpcaddyfile.RegisterDirective("circuit_breaker", parseCaddyfile)
}

// openBlock are the handlers of an `open` block, which only a helper can parse.
type openBlock struct{ d *caddyfile.Dispenser }

// parseCaddyfile reads the directive. The name stands before the matcher, so
// the matcher is read here and not by Caddy.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	handler := new(Handler)
	h.Next() // the directive's name
	if !h.NextArg() {
		return nil, h.Err("circuit_breaker: missing name: it takes a name, for metrics and administration, and perhaps a matcher")
	}
	handler.Name = h.Val()
	given := h.CountRemainingArgs() > 0
	matcher, ok, err := h.MatcherToken()
	if err != nil {
		return nil, err
	}
	if given && !ok {
		return nil, h.Errf("circuit_breaker: %q is no matcher: it takes a name and perhaps a matcher (*, /path or @name)", h.Val())
	}
	if err := handler.unmarshalOptions(h.Dispenser); err != nil {
		return nil, err
	}
	if handler.openSegment != nil {
		sub, err := httpcaddyfile.ParseSegmentAsSubroute(h.WithDispenser(handler.openSegment.d))
		if err != nil {
			return nil, err
		}
		handler.Open = sub.(*caddyhttp.Subroute).Routes
		if len(handler.Open) == 0 {
			return nil, h.Err("open: missing handlers")
		}
	}
	return h.NewRoute(matcher, handler), nil
}

// UnmarshalCaddyfile sets up the handler from its name and options, without a
// matcher and without the handlers of `open`. Syntax of the directive:
//
//	circuit_breaker <name> [<matcher>] {
//		key         <placeholders>
//		max_keys    <number>
//		window      <duration>
//		trip        <percent>[ of <minimum>]
//		consecutive <number>
//		slow        <percent> over <duration>
//		failure     <what...>
//		open_for    <duration> [max <duration>] [jitter <percent>]
//		half_open   <number> [max <duration>]
//		mode        enforce|observe
//		open {
//			<handlers>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if !d.NextArg() {
		return d.Err("circuit_breaker: missing name")
	}
	h.Name = d.Val()
	return h.unmarshalOptions(d)
}

func (h *Handler) unmarshalOptions(d *caddyfile.Dispenser) (err error) {
	if d.NextArg() {
		return d.Errf("circuit_breaker: unexpected argument %q: it takes a name and perhaps a matcher", d.Val())
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "key":
			h.Key, err = parse.OneArg(d)
		case "max_keys":
			h.MaxKeys, err = parse.Int(d, 1, 1_000_000)
		case "window":
			h.Window, err = parse.Duration(d)
		case "trip":
			err = h.unmarshalTrip(d)
		case "consecutive":
			h.Consecutive, err = parse.Int(d, 1, 1_000_000)
		case "slow":
			err = h.unmarshalSlow(d)
		case "failure":
			if h.Failure, err = parse.Args(d, 1, -1); err == nil {
				if _, bad := parseFailures(h.Failure); bad != nil {
					err = d.Err(bad.Error())
				}
			}
		case "open_for":
			err = h.unmarshalOpenFor(d)
		case "half_open":
			err = h.unmarshalHalfOpen(d)
		case "mode":
			if h.Mode, err = parse.OneArg(d); err == nil && h.Mode != modeEnforce && h.Mode != modeObserve {
				err = d.Errf("mode %q: accepted are enforce and observe", h.Mode)
			}
		case "open":
			h.openSegment = &openBlock{d.NewFromNextSegment()}
		default:
			err = parse.Unknown(d, "key", "max_keys", "window", "trip", "consecutive", "slow", "failure", "open_for", "half_open", "mode", "open")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unmarshalTrip reads `trip 50%` or `trip 50% of 20`.
func (h *Handler) unmarshalTrip(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	var ok bool
	if h.Ratio, ok = parse.Percent(args[0]); !ok || len(args) == 2 || len(args) == 3 && args[1] != "of" {
		return d.Err("trip: write it as `trip 50%` or `trip 50% of 20`, with a share above 0% and at most 100%")
	}
	if len(args) == 3 {
		if h.MinRequests, err = strconv.Atoi(args[2]); err != nil || h.MinRequests < 1 {
			return d.Errf("trip: %q is not a number of requests of at least 1", args[2])
		}
	}
	return nil
}

// unmarshalSlow reads `slow 80% over 2s`.
func (h *Handler) unmarshalSlow(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 3, 3)
	if err != nil {
		return err
	}
	var ok bool
	h.SlowRatio, ok = parse.Percent(args[0])
	over, err := caddy.ParseDuration(args[2])
	if !ok || args[1] != "over" || err != nil || over <= 0 {
		return d.Err("slow: write it as `slow 80% over 2s`")
	}
	h.SlowOver = caddy.Duration(over)
	return nil
}

// unmarshalOpenFor reads `open_for 30s max 5m jitter 20%`.
func (h *Handler) unmarshalOpenFor(d *caddyfile.Dispenser) error {
	const form = "open_for: write it as `open_for 30s`, with `max 5m` and `jitter 20%` behind it as you like"
	args, err := parse.Args(d, 1, 5)
	if err != nil {
		return err
	}
	first, err := caddy.ParseDuration(args[0])
	if err != nil || first <= 0 || len(args)%2 == 0 {
		return d.Err(form)
	}
	h.OpenFor = caddy.Duration(first)
	for i := 1; i < len(args); i += 2 {
		switch args[i] {
		case "max":
			most, err := caddy.ParseDuration(args[i+1])
			if err != nil || most < first {
				return d.Errf("open_for: max %q is not a duration of at least %s", args[i+1], args[0])
			}
			h.OpenMax = caddy.Duration(most)
		case "jitter":
			var ok bool
			if h.Jitter, ok = parse.Percent(args[i+1]); !ok {
				return d.Errf("open_for: jitter %q is not a share such as 20%%", args[i+1])
			}
		default:
			return d.Err(form)
		}
	}
	return nil
}

// unmarshalHalfOpen reads `half_open 3 max 30s`.
func (h *Handler) unmarshalHalfOpen(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if h.HalfOpen, err = strconv.Atoi(args[0]); err != nil || h.HalfOpen < 1 || len(args) == 2 || len(args) == 3 && args[1] != "max" {
		return d.Err("half_open: write it as `half_open 3` or `half_open 3 max 30s`, with at least one probe")
	}
	if len(args) == 3 {
		most, err := caddy.ParseDuration(args[2])
		if err != nil || most <= 0 {
			return d.Errf("half_open: max %q is not a duration above zero", args[2])
		}
		h.HalfOpenMax = caddy.Duration(most)
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
