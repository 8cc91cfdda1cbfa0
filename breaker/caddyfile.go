package breaker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterDirective("circuit_breaker", parseCaddyfile)
}

// openBlock are the handlers of an `open` block, which only a helper can parse.
type openBlock struct{ d, head *caddyfile.Dispenser }

// parseCaddyfile reads the directive. The name stands before the matcher, so
// the matcher is read here and not by Caddy.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	handler := new(Handler)
	h.Next() // the directive's name
	if err := parse.NamedRoute(h); err != nil {
		return nil, err
	}
	handler.Position = place.Of(h.Dispenser)
	if !h.NextArg() {
		return nil, h.Err("circuit_breaker: missing name: it takes a name, for metrics and administration, and optionally a matcher")
	}
	handler.Name = h.Val()
	switch name := handler.Name; {
	case parse.IsOff(name):
		return nil, h.Errf("circuit_breaker: %s is not a name: leave the directive out where there is no breaker", name)
	case strings.HasPrefix(name, "/") || strings.HasPrefix(name, "@") || name == "*":
		return nil, h.Errf("circuit_breaker: %q is a matcher, and the name comes first: write `circuit_breaker <name> %s`", name, name)
	}
	if err := registry.CheckName(handler.Name); err != nil {
		return nil, h.Errf("circuit_breaker: %v", err)
	}
	given := h.CountRemainingArgs() > 0
	matcher, ok, err := h.MatcherToken()
	if err != nil {
		return nil, h.Errf("circuit_breaker: %w", parse.MatcherHint(err))
	}
	if given && !ok {
		return nil, h.Errf("circuit_breaker: %q is not a matcher: it takes a name and optionally a matcher (*, /path or @name)", h.Val())
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
			return nil, handler.openSegment.head.Err("open: missing handlers")
		}
	}
	return h.NewRoute(matcher, handler), nil
}

// UnmarshalCaddyfile sets up the handler from its name and options, without a
// matcher and without the handlers of `open`. Syntax of the directive:
//
//	circuit_breaker <name> [<matcher>] {
//		key          <placeholders>
//		max_keys     <number>
//		window       <duration>
//		trip         <percent> [of <minimum>]|off
//		consecutive  <number>|off
//		slow         <percent> over <duration>|off
//		failure      <what...>
//		open_for     <duration> [max <duration>|off] [jitter <percent>|off]
//		half_open    <number> [max <duration>]
//		retry_after  honor max <duration>|off
//		max_inflight <number>|off|adaptive [min <number>] [max <number>] [queue <number> [<duration>]]
//		mode         enforce|observe
//		share
//		open {
//			<handlers>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	if !d.NextArg() {
		return d.Err("circuit_breaker: missing name")
	}
	h.Name = d.Val()
	if err := registry.CheckName(h.Name); err != nil {
		return d.Errf("circuit_breaker: %v", err)
	}
	return h.unmarshalOptions(d)
}

func (h *Handler) unmarshalOptions(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("circuit_breaker: unexpected argument %q: it takes a name and optionally a matcher", d.Val())
	}
	return parse.Block(d, slices.Concat([]parse.Option{
		parse.Value("key", &h.Key, parse.Text).NotOff().Then(func() error { return checkKey(h.Key) }),
		parse.Value("max_keys", &h.MaxKeys, parse.Int(1, 1_000_000)),
	}, h.Options(), []parse.Option{
		parse.Func("max_inflight", h.unmarshalMaxInflight),
		parse.Value("mode", &h.Mode, parse.OneOf(modeEnforce, modeObserve)),
		parse.Flag("share", &h.Share),
		parse.Func("open", h.unmarshalOpen),
	})...)
}

// unmarshalOpen keeps the block of `open` for parseCaddyfile.
func (h *Handler) unmarshalOpen(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return parse.NoArgs(d)
	}
	head := parse.Head(d)
	h.openSegment = &openBlock{d.NewFromNextSegment(), head}
	return nil
}

func (h *Handler) unmarshalMaxInflight(d *caddyfile.Dispenser) error {
	m := new(MaxInflight)
	err := m.unmarshal(d)
	if m.Max > 0 || m.Adaptive {
		h.MaxInflight = m
	}
	return err
}

// unmarshal reads `max_inflight 200 queue 50 100ms` and
// `max_inflight adaptive min 10 max 500 queue 50 100ms`.
func (m *MaxInflight) unmarshal(d *caddyfile.Dispenser) error {
	const form = "max_inflight: write it as `max_inflight 200` or `max_inflight adaptive min 10 max 500`, optionally followed by `queue 50 100ms`"
	args, err := parse.Args(d, 1, 8)
	if err != nil {
		return err
	}
	if len(args) == 1 && parse.IsOff(args[0]) {
		return nil
	}
	if args[0] == "adaptive" {
		m.Adaptive = true
	} else if m.Max, err = strconv.Atoi(args[0]); err != nil || m.Max < 1 {
		return d.Errf("max_inflight: %q is neither a number of at least 1 nor adaptive; to switch it off write `max_inflight off`", args[0])
	}
	number := func(i int) (int, error) {
		if i >= len(args) {
			return 0, d.Err(form)
		}
		if args[i-1] == "queue" && parse.IsOff(args[i]) {
			return 0, nil
		}
		n, err := strconv.Atoi(args[i])
		if err != nil || n < 1 {
			return 0, d.Errf("max_inflight: %s %q is not a number of at least 1", args[i-1], args[i])
		}
		return n, nil
	}
	given := map[string]bool{}
	for i := 1; i < len(args); i += 2 {
		if given[args[i]] {
			return d.Errf("max_inflight: %s is given more than once", args[i])
		}
		given[args[i]] = true
		var field *int
		switch {
		case args[i] == "min" && m.Adaptive:
			field = &m.Min
		case args[i] == "max" && m.Adaptive:
			field = &m.Max
		case args[i] == "queue":
			field = &m.Queue
		default:
			return d.Err(form)
		}
		if *field, err = number(i + 1); err != nil {
			return err
		}
		if args[i] != "queue" || i+2 >= len(args) {
			continue
		}
		if wait, err := caddy.ParseDuration(args[i+2]); err == nil || args[i+2] == "off" || args[i+2] == "0" {
			if wait < 0 {
				return d.Errf("max_inflight: queue: %q is not a duration of at least zero", args[i+2])
			}
			if wait == 0 {
				m.Queue = 0 // who does not wait is not in the queue
			}
			m.QueueWait = caddy.Duration(wait)
			i++
		}
	}
	if m.Min > 0 && m.Max > 0 && m.Min > m.Max {
		return d.Errf("max_inflight: min %d is above max %d", m.Min, m.Max)
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
