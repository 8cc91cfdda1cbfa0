package upstream

import (
	"slices"
	"strconv"

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
//		<options of the http transport>
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the transport's name
	t.Position = place.Of(d)
	if d.CountRemainingArgs() > 0 {
		return parse.NoArgs(d)
	}
	// Options of the http transport are collected for its own parser.
	name := d.Token()
	name.Text = "http"
	brace := d.Token()
	brace.Text = "{"
	rest := []caddyfile.Token{name, brace}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "breaker":
			if err := seen.Once(d); err != nil {
				return err
			}
			t.Breaker = new(Breaker)
			if err := t.Breaker.unmarshal(d); err != nil {
				return err
			}
			if t.Breaker.Name == "off" {
				t.Breaker = nil
			}
		case "retry_budget":
			if err := seen.Once(d); err != nil {
				return err
			}
			t.RetryBudget = new(RetryBudget)
			if err := t.RetryBudget.unmarshal(d); err != nil {
				return err
			}
			if t.RetryBudget.Ratio == 0 {
				t.RetryBudget = nil // it is off
			}
		default:
			rest = append(rest, d.NextSegment()...)
		}
	}
	end := rest[len(rest)-1]
	end.Text, end.Line = "}", end.Line+1
	return t.HTTPTransport.UnmarshalCaddyfile(caddyfile.NewDispenser(append(rest, end)))
}

func (b *Breaker) unmarshal(d *caddyfile.Dispenser) error {
	var err error
	if b.Name, err = parse.OneArg(d); err != nil {
		return err
	}
	if err := registry.CheckName(b.Name); err != nil {
		return d.Errf("breaker: %v", err)
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.Once(d); err != nil {
			return err
		}
		known, err := b.UnmarshalOption(d)
		if !known {
			switch d.Val() {
			case "max_keys":
				b.MaxKeys, err = parse.Int(d, 1, 1_000_000)
			case "share":
				b.Share, err = true, parse.NoArgs(d)
			default:
				err = parse.Unknown(d, slices.Concat([]string{"max_keys", "share"}, registry.RuleOptions)...)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unmarshal reads `retry_budget 20% min 3`.
func (b *RetryBudget) unmarshal(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && args[0] == "off" {
		return nil
	}
	if args[0] == "0" || args[0] == "0%" {
		return d.Errf("retry_budget: write it as `retry_budget off` for no bound; %q would leave nothing to retry with, which is lb_retries 0 in reverse_proxy", args[0])
	}
	var ok bool
	if b.Ratio, ok = parse.Percent(args[0]); !ok || len(args) == 2 || len(args) == 3 && args[1] != "min" {
		return d.Err("retry_budget: write it as `retry_budget 20%` or `retry_budget 20% min 3`, with a share above 0% and at most 100%, or as `retry_budget off`")
	}
	if len(args) == 3 && (args[2] == "off" || args[2] == "0") {
		b.MinPerSecond = -1
		return nil
	}
	if len(args) == 3 {
		if b.MinPerSecond, err = strconv.Atoi(args[2]); err != nil || b.MinPerSecond < 1 {
			return d.Errf("retry_budget: min %q is not a number of retries per second of at least 1", args[2])
		}
	}
	return nil
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
	var options []caddyfile.Token
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "max_ejection" {
			options = append(options, d.NextSegment()...)
			continue
		}
		if err := seen.Once(d); err != nil {
			return err
		}
		text, err := parse.OneArg(d)
		if err != nil {
			return err
		}
		var ok bool
		if p.MaxEjection, ok = parse.PercentOrOff(text); !ok {
			return d.Errf("max_ejection: %q is not a share such as 50%%, nor off", text)
		}
		if p.MaxEjection == 0 {
			p.MaxEjection = -1
		}
	}
	if inner == nil {
		if options != nil {
			return d.Errf("unknown option %q: accepted is max_ejection, and the options of a policy if one is named", options[0].Text)
		}
		return nil
	}
	if options != nil {
		open, end := inner[len(inner)-1], options[len(options)-1]
		open.Text, end.Text, end.Line = "{", "}", end.Line+1
		inner = slices.Concat(inner, []caddyfile.Token{open}, options, []caddyfile.Token{end})
	}
	segment := caddyfile.NewDispenser(inner)
	segment.Next()
	module, err := caddyfile.UnmarshalModule(segment, "http.reverse_proxy.selection_policies."+name)
	if err != nil {
		return err
	}
	selector, ok := module.(reverseproxy.Selector)
	if !ok {
		return d.Errf("%s is not a selection policy", name)
	}
	p.InnerRaw = caddyconfig.JSONModuleObject(selector, "policy", name, nil)
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*Transport)(nil)
	_ caddyfile.Unmarshaler = (*Policy)(nil)
)
