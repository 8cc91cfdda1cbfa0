package ratelimit

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// directive is the name of the directive.
const directive = "ratelimit"

func init() {
	httpcaddyfile.RegisterHandlerDirective(directive, parseCaddyfile)
}

// unnamedCount is where the number of directives without a zone is kept while a
// Caddyfile is adapted.
const unnamedCount = "tentagate.ratelimit.unnamed"

// parseCaddyfile makes a handler of a directive. What answers call directives
// without a zone is numbered in the order in which they are written; by what
// their counters are kept is found when they are provisioned.
func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(helper.Dispenser); err != nil {
		return nil, err
	}
	if h.Zone == "" {
		n, _ := helper.State[unnamedCount].(int)
		n++
		helper.State[unnamedCount] = n
		h.Unnamed, h.Zone = true, defaultZone
		if helper.IsNamedRoute() {
			h.Zone = namedRouteZone // they are numbered by themselves
		}
		if n > 1 {
			h.Zone += "-" + strconv.Itoa(n)
		}
	}
	return h, nil
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	ratelimit [<matcher>] [<count>/<period> [burst <n>]] {
//		zone            <name>
//		key             <placeholder or text...>
//		missing_key     ip|skip|reject
//		limit           <count>/<period> [burst <n>]
//		quota           <count>/<hour|day|week|month|year>
//		algorithm       gcra|sliding_window
//		store           memory|redis
//		mode            strict|leased
//		on_store_error  local|allow|deny
//		budget          <duration>
//		tier <placeholder> {
//			<name> <count>/<period> [burst <n>]
//			<name> unlimited
//			*      <count>/<period> [burst <n>]
//		}
//		exempt          <address, network or private_ranges...>
//		ipv6_prefix     <1-128>
//		cost            <n or placeholder>
//		count           status|after <code or class...>
//		max_concurrent  <n>|off
//		delay           <duration>|off [<queue>]
//		shadow
//		headers         standard|legacy|both|off
//		max_keys        <n>
//	}
//
// limit, quota and the lines of tier may be repeated; all that apply to a
// request are decided together.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the directive's name
	h.Position = place.Of(d)
	if args := d.RemainingArgs(); len(args) > 0 {
		text, err := limitText(d, "ratelimit", args)
		if err != nil {
			return err
		}
		h.Limits = append(h.Limits, text)
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		switch option {
		case "limit", "quota", "exempt":
		default:
			if err := seen.Once(d); err != nil {
				return err
			}
		}
		parser, ok := optionParsers[option]
		if !ok {
			return parse.Unknown(d, optionNames...)
		}
		if err := parser(h, d); err != nil {
			return err
		}
	}
	if len(h.Limits)+len(h.Quotas) == 0 && h.Tier == nil && h.MaxConcurrent == 0 {
		return d.Err("ratelimit: no limit: write `ratelimit 100/1m`, or a block with `limit`, `quota`, `tier` or `max_concurrent`")
	}
	return nil
}

// optionNames are the options in the order in which the documentation has them.
var optionNames = []string{
	"zone", "key", "missing_key", "limit", "quota", "algorithm", "store", "mode", "on_store_error", "budget", "tier", "exempt",
	"ipv6_prefix", "cost", "count", "max_concurrent", "delay", "shadow", "headers", "max_keys",
}

var optionParsers = map[string]func(h *Handler, d *caddyfile.Dispenser) error{
	"zone": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		if h.Zone, err = parse.OneArg(d); err == nil && !validZone(h.Zone) {
			err = d.Errf("zone: %q: accepted are 1 to 64 letters, digits, dots, dashes and underscores", h.Zone)
		}
		return err
	},
	"key": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		if h.Key, err = parse.Args(d, 1, -1); err != nil {
			return err
		}
		if _, err = parseTemplate(h.Key); err != nil {
			return d.WrapErr(err)
		}
		return nil
	},
	"missing_key": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.MissingKey, missingIP, missingSkip, missingReject)
	},
	"limit": func(h *Handler, d *caddyfile.Dispenser) error {
		args, err := parse.Args(d, 1, 3)
		if err != nil {
			return err
		}
		text, err := limitText(d, "limit", args)
		if err != nil {
			return err
		}
		h.Limits = append(h.Limits, text)
		return nil
	},
	"quota": func(h *Handler, d *caddyfile.Dispenser) error {
		arg, err := parse.OneArg(d)
		if err != nil {
			return err
		}
		if !strings.Contains(arg, "{") {
			if _, err := gcra.ParseQuota(arg); err != nil {
				return d.WrapErr(err)
			}
		}
		h.Quotas = append(h.Quotas, arg)
		return nil
	},
	"algorithm": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.Algorithm, algorithmGCRA, algorithmWindow)
	},
	"store": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.Store, storeMemory, storeRedis)
	},
	"mode": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.Mode, modeStrict, modeLeased)
	},
	"on_store_error": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.OnStoreError, redisstore.Local, redisstore.Allow, redisstore.Deny)
	},
	"budget": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		h.Budget, err = parse.Duration(d)
		return err
	},
	"tier": func(h *Handler, d *caddyfile.Dispenser) error { return h.unmarshalTier(d) },
	"exempt": func(h *Handler, d *caddyfile.Dispenser) error {
		args, err := parse.Args(d, 1, -1)
		if err != nil {
			return err
		}
		for _, arg := range args {
			if arg == "private_ranges" || strings.Contains(arg, "{") {
				continue
			}
			if _, err := caddyhttp.CIDRExpressionToPrefix(arg); err != nil {
				return d.Errf("exempt: %q is not an address or a network such as 10.0.0.0/8, nor private_ranges", arg)
			}
		}
		h.Exempt = append(h.Exempt, args...)
		return nil
	},
	"ipv6_prefix": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		h.IPv6Prefix, err = parse.Int(d, 1, 128)
		return err
	},
	"cost": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		if h.Cost, err = parse.OneArg(d); err != nil {
			return err
		}
		if _, ok := placeholder(h.Cost); ok {
			return nil
		}
		if n, err := strconv.Atoi(h.Cost); err != nil || n < 0 || n > gcra.MaxCost {
			return d.Errf("cost: %q is neither a whole number from 0 to %d nor a placeholder", h.Cost, gcra.MaxCost)
		}
		return nil
	},
	"count": func(h *Handler, d *caddyfile.Dispenser) error {
		args, err := parse.Args(d, 2, -1)
		if err != nil {
			return err
		}
		if args[0] != "status" && args[0] != "after" {
			return d.Errf("count: unknown value %q: write `count status <code or class…>` or `count after <code or class…>`, such as `count status 401 403 5xx`", args[0])
		}
		h.CountAfter = args[0] == "after"
		if _, err := parseStatuses(args[1:]); err != nil {
			return d.WrapErr(err)
		}
		h.CountStatus = args[1:]
		return nil
	},
	"max_concurrent": func(h *Handler, d *caddyfile.Dispenser) error {
		arg, err := parse.OneArg(d)
		if err != nil || arg == "off" {
			return err
		}
		// 0 might mean "none at once" as well as "no bound".
		if h.MaxConcurrent, err = strconv.Atoi(arg); err != nil || h.MaxConcurrent < 1 || h.MaxConcurrent > gcra.MaxCount {
			return d.Errf("max_concurrent: %q is not a whole number from 1 to %d, nor off", arg, gcra.MaxCount)
		}
		return nil
	},
	"delay": func(h *Handler, d *caddyfile.Dispenser) error { return h.unmarshalDelay(d) },
	"shadow": func(h *Handler, d *caddyfile.Dispenser) error {
		h.Shadow = true
		return parse.NoArgs(d)
	},
	"headers": func(h *Handler, d *caddyfile.Dispenser) error {
		return choice(d, &h.Headers, headersStandard, headersLegacy, headersBoth, headersOff)
	},
	"max_keys": func(h *Handler, d *caddyfile.Dispenser) (err error) {
		h.MaxKeys, err = parse.Int(d, 1, gcra.MaxCount)
		return err
	},
}

// choice reads one of the accepted values.
func choice(d *caddyfile.Dispenser, to *string, accepted ...string) error {
	option := d.Val()
	arg, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	for _, v := range accepted {
		if arg == v {
			*to = arg
			return nil
		}
	}
	return d.Errf("%s: unknown value %q: accepted are %s", option, arg, strings.Join(accepted, ", "))
}

// limitText joins the words of a limit and checks it, unless it has a
// placeholder that is only known when the configuration is loaded.
func limitText(d *caddyfile.Dispenser, option string, words []string) (string, error) {
	text := strings.Join(words, " ")
	if strings.Contains(text, "{") {
		return text, nil
	}
	l, err := gcra.ParseLimit(text)
	if err != nil {
		return "", d.Errf("%s: %v", option, err)
	}
	return l.String(), nil
}

func (h *Handler) unmarshalTier(d *caddyfile.Dispenser) error {
	key, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	if _, ok := placeholder(key); !ok {
		return d.Errf("tier: %q is not a placeholder such as {http.auth.user.plan}", key)
	}
	h.Tier = &Tier{Key: key, Limits: make(map[string][]string)}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		args, err := parse.Args(d, 1, 3)
		if err != nil {
			return err
		}
		text := unlimited
		if len(args) > 1 || args[0] != unlimited {
			if text, err = limitText(d, "tier "+name, args); err != nil {
				return err
			}
		}
		have := h.Tier.Limits[name]
		if len(have) > 0 && (text == unlimited || have[0] == unlimited) {
			return d.Errf("tier %s: unlimited goes with no other limit", name)
		}
		for _, other := range have {
			if other == text {
				return d.Errf("tier %s: limit %s given more than once", name, text)
			}
		}
		h.Tier.Limits[name] = append(have, text)
	}
	if len(h.Tier.Limits) == 0 {
		return d.Err("tier: no limits: write a line `<name> <count>/<period>` for each tier")
	}
	return nil
}

func (h *Handler) unmarshalDelay(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	v, ok := delayDuration(args[0])
	if !ok {
		return d.Errf("delay: %q is not a duration of at most 1m, such as 250ms, nor off", args[0])
	}
	h.Delay = v
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return d.Errf("delay: %q is not a whole number above zero: write `delay <max> [<queue>]`", args[1])
		}
		h.DelayQueue = n
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
