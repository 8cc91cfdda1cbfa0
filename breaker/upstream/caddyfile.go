package upstream

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// UnmarshalCaddyfile sets up the transport. Syntax:
//
//	transport tentagate {
//		breaker <name>|off {
//			max_keys <number>
//			share
//			<rules of circuit_breaker: window trip consecutive slow failure open_for half_open retry_after>
//		}
//		retry_budget <percent> [min <number>|off]|off
//		direct on|off
//		<options of the http transport>
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the transport's name
	t.Position = place.Of(d)
	if d.CountRemainingArgs() > 0 {
		return parse.NoArgs(d)
	}
	// Options of the http transport are collected for its own parser.
	rest := []caddyfile.Token{d.Token(), d.Token()}
	rest[0].Text, rest[1].Text = "http", "{"
	err := parse.Block(d,
		parse.Func("breaker", t.unmarshalBreaker),
		parse.Func("retry_budget", t.unmarshalRetryBudget),
		parse.Func("direct", t.unmarshalDirect),
		parse.Rest(func(d *caddyfile.Dispenser) error {
			rest = append(rest, d.NextSegment()...)
			return nil
		}),
	)
	if err != nil {
		return err
	}
	end := rest[len(rest)-1]
	end.Text, end.Line = "}", end.Line+1
	return t.HTTPTransport.UnmarshalCaddyfile(caddyfile.NewDispenser(append(rest, end)))
}

// unmarshalDirect reads `direct on` or `direct off`.
func (t *Transport) unmarshalDirect(d *caddyfile.Dispenser) error {
	text, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	if text != "on" && text != parse.Off {
		return d.WrapErr(parse.Mend("direct: %q is neither on nor off", text))
	}
	t.Direct = new(text == "on")
	return nil
}

// unmarshalBreaker reads `breaker off`, or a name and a block.
func (t *Transport) unmarshalBreaker(d *caddyfile.Dispenser) error {
	name, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	if err := registry.CheckName(name); err != nil {
		return d.Errf("breaker: %w", err)
	}
	if parse.IsOff(name) {
		return parse.NoBlock(d, "breaker off")
	}
	b := &Breaker{Name: name}
	t.Breaker = b
	return parse.Block(d, append([]parse.Option{
		parse.Value("max_keys", &b.MaxKeys, parse.Int(1, 1_000_000)),
		parse.Flag("share", &b.Share),
	}, b.Options()...)...)
}

// unmarshalRetryBudget reads `retry_budget off` and `retry_budget 20% min 3`.
func (t *Transport) unmarshalRetryBudget(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && args[0] == parse.Off {
		return nil
	}
	if parse.IsOff(args[0]) {
		return d.WrapErr(parse.Mend("retry_budget: write it as `retry_budget off` for no limit; %q would allow no retry, which is lb_retries 0 in reverse_proxy", args[0]))
	}
	b := new(RetryBudget)
	if b.Ratio, err = parse.Percent(args[0]); err != nil || len(args) == 2 || len(args) == 3 && args[1] != "min" {
		return d.Err("retry_budget: write it as `retry_budget 20%` or `retry_budget 20% min 3`, with a share above 0% and at most 100%, or as `retry_budget off`")
	}
	if len(args) == 3 {
		if b.MinPerSecond, err = retriesPerSecond(args[2]); err != nil {
			return d.WrapErr(err)
		}
	}
	t.RetryBudget = b
	return nil
}

func retriesPerSecond(text string) (int, error) {
	if parse.IsOff(text) {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("retry_budget: min %q is not a number of retries per second of at least 1", text)
	}
	return n, nil
}

// UnmarshalCaddyfile sets up the policy. Syntax:
//
//	lb_policy available [<policy> [<its arguments...>]] {
//		max_ejection <percent>|off
//		<options of the policy>
//	}
func (p *Policy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the policy's name
	var inner []caddyfile.Token
	name := ""
	for d.NextArg() {
		if inner == nil {
			name = d.Val()
		}
		inner = append(inner, d.Token())
	}
	head := parse.Head(d)
	var options []caddyfile.Token
	err := parse.Block(d,
		parse.Value("max_ejection", &p.MaxEjection, maxEjection),
		parse.Rest(func(d *caddyfile.Dispenser) error {
			options = append(options, d.NextSegment()...)
			return nil
		}),
	)
	if err != nil {
		return err
	}
	if inner == nil {
		if options != nil {
			return head.Errf("unknown option %q: accepted is max_ejection, and the options of a policy if one is named", options[0].Text)
		}
		return nil
	}
	if name == "available" {
		return head.Err("available: it cannot be the policy within itself: accepted are others, such as round_robin")
	}
	if options != nil {
		open, end := inner[len(inner)-1], options[len(options)-1]
		open.Text, end.Text, end.Line = "{", "}", end.Line+1
		inner = slices.Concat(inner, []caddyfile.Token{open}, options, []caddyfile.Token{end})
	}
	segment := caddyfile.NewDispenser(inner)
	id := "http.reverse_proxy.selection_policies." + name
	info, err := caddy.GetModule(id)
	if err != nil {
		return head.Errf("lb_policy available: %q is not a selection policy: accepted are such as round_robin, least_conn and first", name)
	}
	module := info.New()
	unmarshaler, ok := module.(caddyfile.Unmarshaler)
	if !ok {
		return head.Errf("lb_policy available: %s cannot be used in a Caddyfile", name)
	}
	if err := unmarshaler.UnmarshalCaddyfile(segment); err != nil {
		return err
	}
	// Most policies have no options, and do not look for any.
	if options != nil && segment.Next() {
		return head.Errf("unknown option %q: accepted are max_ejection, and the options of %s", options[0].Text, name)
	}
	selector, ok := module.(reverseproxy.Selector)
	if !ok {
		return head.Errf("%s is not a selection policy", name)
	}
	p.InnerRaw = caddyconfig.JSONModuleObject(selector, "policy", name, nil)
	return nil
}

// maxEjection reads a share; off is -1, since 0 is the default.
func maxEjection(text string) (float64, error) {
	v, err := parse.PercentOrOff(text)
	if err == nil && v == 0 {
		v = -1
	}
	return v, err
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*Transport)(nil)
	_ caddyfile.Unmarshaler = (*Policy)(nil)
)
