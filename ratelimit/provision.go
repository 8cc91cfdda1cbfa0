package ratelimit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/shared"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// MaxCount is the largest number of units of a limit.
const MaxCount = gcra.MaxCount

// ParseLimit checks a limit, `<count>/<period> [burst <n>]`, and returns it in
// its canonical form.
func ParseLimit(text string) (string, error) {
	l, err := gcra.ParseLimit(text)
	if err != nil {
		return "", err
	}
	return l.String(), nil
}

func (h *Handler) setDefaults() {
	h.Zone = cmp.Or(h.Zone, defaultZone)
	h.Algorithm = cmp.Or(h.Algorithm, algorithmGCRA)
	h.Mode = cmp.Or(h.Mode, modeStrict)
	h.OnStoreError = cmp.Or(h.OnStoreError, redisstore.Local)
	h.MissingKey = cmp.Or(h.MissingKey, missingIP)
	h.Headers = cmp.Or(h.Headers, headersStandard)
	h.Cost = cmp.Or(h.Cost, "1")
	h.IPv6Prefix = cmp.Or(h.IPv6Prefix, defaultIPv6Prefix)
	h.DelayQueue = cmp.Or(h.DelayQueue, defaultQueue)
	if len(h.Key) == 0 {
		h.Key = []string{"{" + clientIP + "}"}
	}
}

// The accepted values of options.
var (
	algorithms  = parse.OneOf(algorithmGCRA, algorithmWindow)
	stores      = parse.OneOf(storeMemory, storeRedis)
	modes       = parse.OneOf(modeStrict, modeLeased)
	fallbacks   = parse.OneOf(redisstore.Local, redisstore.Allow, redisstore.Deny)
	missingKeys = parse.OneOf(missingIP, missingSkip, missingReject)
	fieldKinds  = parse.OneOf(headersStandard, headersLegacy, headersBoth, headersOff)
)

func (h *Handler) checkChoices() error {
	return cmp.Or(
		parse.Choice("zone", h.Zone, checkedZone),
		parse.Choice("algorithm", h.Algorithm, algorithms),
		parse.Choice("store", cmp.Or(h.Store, storeMemory), stores),
		parse.Choice("mode", h.Mode, modes),
		parse.Choice("on_store_error", h.OnStoreError, fallbacks),
		parse.Choice("missing_key", h.MissingKey, missingKeys),
		parse.Choice("headers", h.Headers, fieldKinds),
		parse.Between("ipv6_prefix", h.IPv6Prefix, 1, 128),
		parse.Between("max_keys", h.MaxKeys, 0, MaxCount),
		parse.Between("max_concurrent", h.MaxConcurrent, 0, MaxCount),
		parse.Between("delay_queue", h.DelayQueue, 0, MaxCount),
		parse.Between("delay", time.Duration(h.Delay), 0, time.Minute),
		parse.Between("budget", time.Duration(h.Budget), 0, time.Minute),
	)
}

// provisionKey compiles the key. It accepts {client_ip} in JSON too.
func (h *Handler) provisionKey(ctx caddy.Context) error {
	texts := make([]string, len(h.Key))
	for i, text := range h.Key {
		var err error
		if texts[i], err = resolve.Request(ctx, "key", text, "client_ip"); err != nil {
			return err
		}
	}
	var err error
	if h.key, err = parseTemplate(texts); err != nil {
		return err
	}
	for i := range h.key.parts {
		if p := &h.key.parts[i]; p.placeholder != "" {
			p.host, _ = resolve.Host(ctx, p.placeholder)
		}
	}
	return nil
}

// provisionTiers compiles the limits of the handler, which are those of the tier
// `*`, and of its tiers.
func (h *Handler) provisionTiers(ctx caddy.Context) error {
	h.tiers = make(map[string]*tier)
	var quotas []gcra.Quota
	for _, text := range h.Quotas {
		text, err := resolve.AtLoad("quota", text)
		if err != nil {
			return err
		}
		q, err := gcra.ParseQuota(text)
		if err != nil {
			return err
		}
		quotas = append(quotas, q)
	}
	if h.Tier != nil {
		if len(h.Tier.Limits) == 0 {
			return errors.New("tier: no limits: write a line `<name> <count>/<period>` for each tier")
		}
		for _, name := range slices.Sorted(maps.Keys(h.Tier.Limits)) {
			resolved, err := resolve.AtLoad("tier", name)
			if err != nil {
				return err
			}
			if _, twice := h.tiers[resolved]; twice {
				return fmt.Errorf("tier: %s is %s, which is there already", name, resolved)
			}
			t, err := h.newTier(resolved, h.Tier.Limits[name], quotas)
			if err != nil {
				return fmt.Errorf("tier %s: %w", name, err)
			}
			h.tiers[resolved] = t
		}
		text, err := resolve.Request(ctx, "tier", h.Tier.Key)
		if err != nil {
			return err
		}
		var ok bool
		if h.tierName, ok = placeholder(text); !ok {
			return fmt.Errorf("tier: %q is not a placeholder such as {http.auth.user.plan}", h.Tier.Key)
		}
	}
	_, fallback := h.tiers[anyTier]
	own := len(h.Limits)+len(h.Quotas) > 0
	switch {
	case fallback && len(h.Limits) > 0:
		return errors.New("limit: not possible together with the tier *, whose limits apply to every tier that is not named")
	case !fallback && !own && h.MaxConcurrent == 0:
		return errors.New("no limit: write `limit <count>/<period>`, such as `limit 100/1m`, or a tier *")
	case !fallback:
		t, err := h.newTier(anyTier, h.Limits, quotas)
		if err != nil {
			return err
		}
		h.tiers[anyTier] = t
	}
	return nil
}

func (h *Handler) newTier(name string, texts []string, quotas []gcra.Quota) (*tier, error) {
	t := &tier{name: name}
	if len(texts) == 1 && texts[0] == unlimited || len(texts)+len(quotas) == 0 {
		return t, nil
	}
	var limits []gcra.Limit
	for _, text := range texts {
		resolved, err := resolve.AtLoad("limit", text)
		if err != nil {
			return nil, err
		}
		l, err := gcra.ParseLimit(resolved)
		if err != nil {
			return nil, fmt.Errorf("limit %s: %w", text, err)
		}
		limits = append(limits, l)
	}
	algorithm := gcra.Rate
	if h.Algorithm == algorithmWindow {
		algorithm = gcra.Window
	}
	plan, err := gcra.NewPlan(algorithm, limits, quotas)
	if err != nil {
		return nil, err
	}
	if h.Delay > 0 {
		if plan, err = plan.WithDelay(time.Duration(h.Delay)); err != nil {
			return nil, err
		}
	}
	t.plan, t.names = plan, policyNames(h.Zone, plan)
	t.field = policyField(t.names, plan)
	return t, nil
}

func (h *Handler) provisionExempt(ctx caddy.Context) error {
	for _, text := range h.Exempt {
		text, err := resolve.AtLoad("exempt", text)
		if err != nil {
			return err
		}
		prefixes, err := nearby.Prefixes(strings.FieldsFunc(text, func(c rune) bool { return c == ',' || unicode.IsSpace(c) }))
		if err != nil {
			return fmt.Errorf("exempt: %w", err)
		}
		h.exempt = append(h.exempt, prefixes...)
	}
	h.warnOfProxies(ctx)
	return nil
}

// warnOfProxies warns where exempt does not mean the clients, because of what the servers
// of the configuration know about proxies.
func (h *Handler) warnOfProxies(ctx caddy.Context) {
	if len(h.exempt) == 0 {
		return
	}
	trusting, first, known := nearby.Proxies(ctx)
	switch {
	case first:
		h.logger.Warn("exempt: the server has trusted_proxies without trusted_proxies_strict: behind two or more proxies a client is exempt only if "+
			"every address in X-Forwarded-For is, also a proxy's; add the line `trusted_proxies_strict` to the global option `servers`",
			zap.String("at", shared.Place(h.Position)))
	case known && !trusting && slices.ContainsFunc(h.exempt, func(p netip.Prefix) bool { return p.Addr().IsPrivate() }):
		h.logger.Warn("exempt covers private addresses, but the server has no trusted_proxies: behind a load balancer or proxy in a private network "+
			"every client has the proxy's address and is not limited; set the global option `servers { trusted_proxies static <networks> }`",
			zap.String("at", shared.Place(h.Position)))
	}
}

func (h *Handler) provisionCost(ctx caddy.Context) error {
	text, err := resolve.Request(ctx, "cost", h.Cost)
	if err != nil {
		return err
	}
	if name, ok := placeholder(text); ok {
		h.costName = name
		return nil
	}
	if h.cost, err = fixedCost(text); err != nil {
		return fmt.Errorf("cost: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(h.tiers)) {
		if err := h.checkCost(h.tiers[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkCost refuses a fixed cost that a tier can never admit. In shadow mode, which
// refuses nothing, it warns.
func (h *Handler) checkCost(t *tier) error {
	for i := 0; t.plan != nil && i < t.plan.Len(); i++ {
		most := t.plan.Capacity(i)
		if h.cost <= most {
			continue
		}
		of, every := "", "every request"
		if h.Tier != nil {
			of, every = " of tier "+t.name, "every request of the tier"
		}
		option, limit := t.plan.Text(i)
		err := fmt.Errorf("cost: %d is more than the %d units that %s %s%s allows at once, so that %s would be refused: write a higher limit or burst", h.cost, most, option, limit, of, every)
		if !h.Shadow {
			return err
		}
		h.logger.Warn(err.Error(), zap.String("at", shared.Place(h.Position)))
	}
	return nil
}

// placeholder returns the name in `{name}`.
func placeholder(s string) (string, bool) {
	if len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}' && !strings.ContainsAny(s[1:len(s)-1], "{} ") {
		return s[1 : len(s)-1], true
	}
	return "", false
}

// warnShared warns where another directive of the configuration counts in the
// same zone by other rules.
func (h *Handler) warnShared() {
	if h.Unnamed {
		return
	}
	var rules []string
	for _, t := range h.tiers {
		text := unlimited
		if t.plan != nil {
			text = t.plan.String()
		}
		rules = append(rules, t.name+" "+text)
	}
	slices.Sort(rules)
	rules = append(rules, h.Key...)
	rules = append(rules, fmt.Sprint(h.IPv6Prefix, h.zone.store(), h.MaxConcurrent))
	shared.Warn(h.ctx, "zone", h.Zone, strings.Join(rules, "\n"), h.Position,
		"give them different zones, or the same key, limits, tiers and store")
}
