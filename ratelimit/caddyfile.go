package ratelimit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// directive is the name of the directive.
const directive = "ratelimit"

func init() {
	parse.Register(directive, parseCaddyfile)
}

// unnamedCount is where the number of directives without a zone is kept while a
// Caddyfile is adapted.
const unnamedCount = "tentagate.ratelimit.unnamed"

// parseCaddyfile makes a handler of a directive. What answers call directives
// without a zone is numbered in the order in which they are written; by what
// their counters are kept is found when they are provisioned.
func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	if err := parse.NamedRoute(helper); err != nil {
		return nil, err
	}
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
	d.Next() // the directive's name
	h.Position = place.Of(d)
	if args := d.RemainingArgs(); len(args) > 0 {
		if len(args) == 1 && parse.IsOff(args[0]) {
			return d.Errf("ratelimit: %q is not a limit: leave the directive out where there is none; within tentagate, write `ratelimit off`", args[0])
		}
		text, err := limitText(directive, args)
		if err != nil {
			return d.WrapErr(err)
		}
		h.Limits = append(h.Limits, text)
	}
	head := parse.Head(d)
	err := parse.Block(d,
		parse.Value("zone", &h.Zone, nameOfZone),
		parse.List("key", &h.Key).Then(h.checkKey),
		parse.Value("missing_key", &h.MissingKey, missingKeys),
		parse.Func("limit", h.unmarshalLimit).Repeatable(),
		parse.Func("quota", h.unmarshalQuota).Repeatable(),
		parse.Value("algorithm", &h.Algorithm, algorithms),
		parse.Value("store", &h.Store, stores),
		parse.Value("mode", &h.Mode, modes),
		parse.Value("on_store_error", &h.OnStoreError, fallbacks),
		parse.Value("budget", &h.Budget, parse.Duration),
		parse.Func("tier", h.unmarshalTier),
		parse.Func("exempt", h.unmarshalExempt).Repeatable(),
		parse.Value("ipv6_prefix", &h.IPv6Prefix, parse.Int(1, 128)),
		parse.Value("cost", &h.Cost, costText),
		parse.Func("count", h.unmarshalCount),
		parse.Value("max_concurrent", &h.MaxConcurrent, maxConcurrent),
		parse.Func("delay", h.unmarshalDelay),
		parse.Flag("shadow", &h.Shadow),
		parse.Value("headers", &h.Headers, fieldKinds),
		parse.Value("max_keys", &h.MaxKeys, parse.Int(1, gcra.MaxCount)),
	)
	if err == nil && len(h.Limits)+len(h.Quotas) == 0 && h.Tier == nil && h.MaxConcurrent == 0 {
		err = head.Err("ratelimit: no limit: write `ratelimit 100/1m`, or a block with `limit`, `quota`, `tier` or `max_concurrent`")
	}
	return err
}

// nameOfZone accepts the name of a zone. `off` was hardly meant as one.
func nameOfZone(text string) (string, error) {
	switch {
	case text == parse.Off:
		return "", parse.Mend("off is not a name: choose another, or leave the line out for counters of this directive alone; both begin at zero")
	case strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{env."):
		return "", fmt.Errorf("%q: the name is the same for all requests: to count by the value, write `key %s`", text, text)
	}
	return checkedZone(text)
}

func checkedZone(text string) (string, error) {
	const accepted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	if text == "" || len(text) > 64 || strings.Trim(text, accepted) != "" {
		return "", fmt.Errorf("%q: accepted are 1 to 64 letters, digits, dots, dashes and underscores", text)
	}
	return text, nil
}

func (h *Handler) checkKey() error {
	constant := !slices.ContainsFunc(h.Key, func(text string) bool { return strings.Contains(text, "{") })
	for _, text := range h.Key {
		if name := bareName(text); constant && name != "" {
			return fmt.Errorf("key: %q is a text that is the same for all clients, so that they share one limit: write {%s} if its value is meant", text, name)
		}
	}
	_, err := parseTemplate(h.Key)
	return err
}

// bareName returns the placeholder that a text would be with braces around it, or
// "": such a text was hardly meant as one.
func bareName(text string) string {
	switch text {
	case "ip", "client_ip", "remote_ip":
		return "client_ip"
	case "user":
		return "http.auth.user.id"
	case "remote_host", "host":
		return text
	}
	for _, root := range []string{"http.request.", "http.auth.", "http.vars.", "header.", "vars.", "query.", "cookie."} {
		if strings.HasPrefix(text, root) {
			return text
		}
	}
	return ""
}

// costText accepts a whole number or a placeholder.
func costText(text string) (string, error) {
	if _, ok := placeholder(text); ok {
		return text, nil
	}
	_, err := fixedCost(text)
	return text, err
}

// fixedCost reads a cost that is the same for every request.
func fixedCost(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err == nil && n == 0, parse.IsOff(text):
		return 0, parse.Mend("0 would count no request: leave ratelimit out, or exclude requests with a matcher")
	case err != nil || n < 1 || n > gcra.MaxCost:
		return 0, fmt.Errorf("%q is neither a whole number from 1 to %d nor a placeholder", text, gcra.MaxCost)
	}
	return n, nil
}

// maxConcurrent does not take 0 for off: it might also mean "none at once".
func maxConcurrent(text string) (int, error) {
	if text == parse.Off {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > gcra.MaxCount {
		return 0, parse.OrOff("%q is not a whole number from 1 to %d", text, gcra.MaxCount)
	}
	return n, nil
}

func (h *Handler) unmarshalLimit(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 3)
	if err != nil {
		return err
	}
	if len(args) == 1 && parse.IsOff(args[0]) {
		return d.WrapErr(parse.Mend("limit: %q is no limit: leave the line out, or ratelimit where there is none", args[0]))
	}
	text, err := limitText("limit", args)
	if err != nil {
		return d.WrapErr(err)
	}
	if slices.Contains(h.Limits, text) {
		return d.Errf("limit %s: given more than once", text)
	}
	h.Limits = append(h.Limits, text)
	return nil
}

func (h *Handler) unmarshalQuota(d *caddyfile.Dispenser) error {
	text, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	if parse.IsOff(text) {
		return d.WrapErr(parse.Mend("quota: %q is no quota: leave the line out", text))
	}
	if !strings.Contains(text, "{") {
		if _, err := gcra.ParseQuota(text); err != nil {
			return d.WrapErr(err)
		}
	}
	h.Quotas = append(h.Quotas, text)
	return nil
}

func (h *Handler) unmarshalExempt(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, -1)
	if err != nil {
		return err
	}
	known := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.Contains(arg, "{") })
	if _, err := nearby.Prefixes(known); err != nil {
		return d.Errf("exempt: %w", err)
	}
	h.Exempt = append(h.Exempt, args...)
	return nil
}

// unmarshalCount reads `count status 401 403` and `count after 401 403`.
func (h *Handler) unmarshalCount(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, -1)
	if err != nil {
		return err
	}
	if len(args) == 1 && parse.IsOff(args[0]) {
		return d.WrapErr(parse.Mend("count: %q is neither status nor after: leave the line out to count every request", args[0]))
	}
	if args[0] != "status" && args[0] != "after" || len(args) == 1 {
		return d.Errf("count: %q: write `count status <code or class…>` or `count after <code or class…>`, such as `count status 401 403 5xx`", args[0])
	}
	if _, err := parseStatuses(args[1:]); err != nil {
		return d.Errf("count %s: %w", args[0], err)
	}
	h.CountAfter, h.CountStatus = args[0] == "after", args[1:]
	return nil
}

// limitText joins the words of a limit and checks it, unless it has a
// placeholder that is only known when the configuration is loaded.
func limitText(option string, words []string) (string, error) {
	text := strings.Join(words, " ")
	if strings.Contains(text, "{") {
		return text, nil
	}
	l, err := gcra.ParseLimit(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
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
	head := parse.Head(d)
	h.Tier = &Tier{Key: key, Limits: make(map[string][]string)}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		args, err := parse.Args(d, 1, 3)
		if err != nil {
			return err
		}
		text := unlimited
		if len(args) == 1 && parse.IsOff(args[0]) {
			return d.Errf("tier %s: %q is no limit: for none, write `%s %s`", name, args[0], name, unlimited)
		}
		if len(args) > 1 || args[0] != unlimited {
			if text, err = limitText("tier "+name, args); err != nil {
				return d.WrapErr(err)
			}
		}
		have := h.Tier.Limits[name]
		if len(have) > 0 && (text == unlimited || have[0] == unlimited) {
			return d.Errf("tier %s: unlimited excludes other limits", name)
		}
		if slices.Contains(have, text) {
			return d.Errf("tier %s: limit %s given more than once", name, text)
		}
		h.Tier.Limits[name] = append(have, text)
	}
	if len(h.Tier.Limits) == 0 {
		return head.Err("tier: no limits: write a line `<name> <count>/<period>` for each tier")
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
		return d.WrapErr(parse.OrOff("delay: %q is not a duration of at most 1m, such as 250ms", args[0]))
	}
	h.Delay = v
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return d.Errf("delay: %q is not a whole number above zero: write `delay <max> [<queue>]`, or `delay off` to delay none", args[1])
		}
		h.DelayQueue = n
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
