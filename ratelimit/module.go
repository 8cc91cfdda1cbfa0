package ratelimit

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/ratelimit/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/redis"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Values of options.
const (
	storeMemory = "memory"
	storeRedis  = "redis"

	modeStrict = "strict"
	modeLeased = "leased"

	algorithmGCRA   = "gcra"
	algorithmWindow = "sliding_window"

	headersStandard = "standard"
	headersLegacy   = "legacy"
	headersBoth     = "both"
	headersOff      = "off"

	missingIP     = "ip"
	missingSkip   = "skip"
	missingReject = "reject"

	// unlimited in place of a tier's limits exempts its members.
	unlimited = "unlimited"

	// anyTier are the limits of clients whose tier has none of its own.
	anyTier = "*"

	defaultZone       = "default"
	defaultIPv6Prefix = 64
	defaultQueue      = 1000
)

// errNoRedis tells what to do about a missing Redis.
var errNoRedis = errors.New("store redis: the tentagate app has no Redis; set `redis <url>` in the global tentagate option, or REDIS_URL")

// Handler limits how many requests a client may send.
//
// Units are taken by the generic cell rate algorithm: a limit of 100/1m admits
// 100 requests at once, or any mixture, and in any interval D at most
// burst + D × rate. Several limits on one key, and several `ratelimit` handlers
// that follow one another, are decided together: a refused request consumes
// nothing of any of them.
//
// A refusal is a 429 with `Retry-After` and an `application/problem+json` body
// of type `quota-exceeded`; `RateLimit` and `RateLimit-Policy` tell every
// client what it has left.
//
// Placeholder | Description
// ------------|---------------
// `{http.ratelimit.<zone>.remaining}` | Units that are left, of the limit with the fewest
// `{http.ratelimit.<zone>.reset}` | Seconds until there are more
// `{http.ratelimit.<zone>.outcome}` | `allowed`, `limited`, `delayed`, `unavailable` or `exempt`
// `{http.ratelimit.<zone>.tier}` | The tier whose limits applied
type Handler struct {
	// The name under which counters are kept, over reloads and, in Redis, across
	// gateways. Handlers with the same zone share counters. Letters, digits, dot,
	// dash and underscore, at most 64. Default: `default`.
	Zone string `json:"zone,omitempty"`

	// Whom to count: placeholders and texts that together make the key. Default:
	// the client's IP address, `{http.vars.client_ip}`.
	Key []string `json:"key,omitempty"`

	// What to do with a request for which a placeholder of the key has no value:
	// `ip` counts it by client IP, apart from the other keys; `skip` does not count
	// it; `reject` refuses it with 429. Default: `ip`.
	MissingKey string `json:"missing_key,omitempty"`

	// The limits on each key, as `<count>/<period> [burst <n>]`: `100/1m`,
	// `10/1s burst 20`. All are decided together.
	Limits []string `json:"limits,omitempty"`

	// Quotas on each key by the calendar (UTC), as
	// `<count>/<hour|day|week|month|year>`. They start anew at the end of the
	// period, and are as durable as the store: set up persistence in Redis for what
	// you bill by.
	Quotas []string `json:"quotas,omitempty"`

	// How limits are counted: `gcra`, or `sliding_window`, which admits at most
	// the count in any window whatever its position, for eight bytes per request
	// and counts up to 10000. Default: `gcra`.
	Algorithm string `json:"algorithm,omitempty"`

	// Where counters are kept: `memory` of this process, or `redis`. Default:
	// `redis` if the tentagate app has one, else `memory`.
	Store string `json:"store,omitempty"`

	// How Redis is used: `strict` asks it for every decision (concurrent ones
	// share a round trip) and is exact; `leased` reserves units ahead for busy keys
	// and admits at most rate × lease life (2 % of the period, at most 1s) more,
	// whatever the number of gateways. Default: `strict`.
	Mode string `json:"mode,omitempty"`

	// What to do while Redis does not answer: `local` limits each gateway to its
	// share, `allow` admits everything, `deny` answers 503. Default: `local`.
	OnStoreError string `json:"on_store_error,omitempty"`

	// The longest a decision waits for Redis before on_store_error applies.
	// Default: 25ms.
	Budget caddy.Duration `json:"budget,omitempty"`

	// Limits that depend on who asks.
	Tier *Tier `json:"tier,omitempty"`

	// Addresses and networks of clients that are not counted, in CIDR notation;
	// `private_ranges` stands for all private ones.
	Exempt []string `json:"exempt,omitempty"`

	// The length of the prefix that makes one client of IPv6 addresses, 1 to 128.
	// Default: 64.
	IPv6Prefix int `json:"ipv6_prefix,omitempty"`

	// How many units a request costs: a whole number, or a placeholder that has
	// one. 0 is not counted. A placeholder without a usable value costs 1. Default:
	// 1.
	Cost string `json:"cost,omitempty"`

	// Count only requests that are answered with one of these status codes, such
	// as `401` or `5xx`. Units are reserved first and given back when the answer
	// is another. Default: all count.
	CountStatus []string `json:"count_status,omitempty"`

	// The most requests of one key that may be in progress at once on this
	// gateway. With Redis, the number is divided among the gateways. Default: no
	// bound.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// Hold requests back for up to this time until they are within the limits,
	// instead of refusing them. At most 1m. Default: refuse at once.
	Delay caddy.Duration `json:"delay,omitempty"`

	// The most requests of this handler that are held back at once. Default:
	// 1000.
	DelayQueue int `json:"delay_queue,omitempty"`

	// Decide and count, but never refuse, and tell clients nothing.
	Shadow bool `json:"shadow,omitempty"`

	// Which response fields to send: `standard` (RateLimit, RateLimit-Policy),
	// `legacy` (X-RateLimit-Limit, -Remaining, -Reset), `both` or `off`.
	// Retry-After is sent in any case. Default: `standard`.
	Headers string `json:"headers,omitempty"`

	// The most keys whose state is kept in memory. When more are live, the one
	// nearest to being idle is forgotten. Default: 1000000.
	MaxKeys int `json:"max_keys,omitempty"`

	key       *template
	tiers     map[string]*tier
	exempt    []netip.Prefix
	cost      int64
	costName  string
	statuses  statusSet
	zone      *zone
	zoneKey   string
	instances func() int
	delayed   chan struct{}
	group     groupCache
	logger    *zap.Logger
}

// Tier chooses limits by who asks.
type Tier struct {
	// The placeholder whose value names the tier, such as
	// `{http.auth.user.plan}`.
	Key string `json:"key,omitempty"`

	// The limits of each tier, as in limits, or `unlimited`. The tier `*` is for
	// everybody whose tier is not named; without it those have the handler's own
	// limits.
	Limits map[string][]string `json:"limits,omitempty"`
}

// tier is a set of limits with what is sent about them.
type tier struct {
	name  string
	plan  *gcra.Plan // nil: unlimited
	names []string
	field string
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ratelimit",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision resolves the settings and attaches the handler to its zone's state.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	metrics.Register(ctx.GetMetricsRegistry(), collectors...)
	repl := caddy.NewReplacer()
	h.setDefaults()
	if err := h.checkChoices(); err != nil {
		return err
	}
	var err error
	if h.key, err = parseTemplate(h.Key); err != nil {
		return err
	}
	if err := h.provisionTiers(repl); err != nil {
		return err
	}
	if err := h.provisionExempt(repl); err != nil {
		return err
	}
	if err := h.provisionCost(repl); err != nil {
		return err
	}
	if h.statuses, err = parseStatuses(h.CountStatus); err != nil {
		return err
	}
	if h.Delay > 0 {
		h.delayed = make(chan struct{}, h.DelayQueue)
	}
	gateway, err := app.Get(ctx)
	if err != nil {
		return err
	}
	return h.attach(gateway)
}

func (h *Handler) setDefaults() {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&h.Zone, defaultZone)
	set(&h.Algorithm, algorithmGCRA)
	set(&h.Mode, modeStrict)
	set(&h.OnStoreError, redisstore.Local)
	set(&h.MissingKey, missingIP)
	set(&h.Headers, headersStandard)
	set(&h.Cost, "1")
	if len(h.Key) == 0 {
		h.Key = []string{"{" + clientIP + "}"}
	}
	if h.IPv6Prefix == 0 {
		h.IPv6Prefix = defaultIPv6Prefix
	}
	if h.DelayQueue == 0 {
		h.DelayQueue = defaultQueue
	}
}

func (h *Handler) checkChoices() error {
	if !validZone(h.Zone) {
		return fmt.Errorf("zone %q: accepted are 1 to 64 letters, digits, dots, dashes and underscores", h.Zone)
	}
	for _, c := range []struct {
		option, value string
		accepted      []string
	}{
		{"algorithm", h.Algorithm, []string{algorithmGCRA, algorithmWindow}},
		{"store", h.Store, []string{"", storeMemory, storeRedis}},
		{"mode", h.Mode, []string{modeStrict, modeLeased}},
		{"on_store_error", h.OnStoreError, []string{redisstore.Local, redisstore.Allow, redisstore.Deny}},
		{"missing_key", h.MissingKey, []string{missingIP, missingSkip, missingReject}},
		{"headers", h.Headers, []string{headersStandard, headersLegacy, headersBoth, headersOff}},
	} {
		if !slices.Contains(c.accepted, c.value) {
			return fmt.Errorf("%s: unknown value %q: accepted are %s", c.option, c.value,
				strings.Join(slices.DeleteFunc(slices.Clone(c.accepted), func(s string) bool { return s == "" }), ", "))
		}
	}
	switch {
	case h.IPv6Prefix < 1 || h.IPv6Prefix > 128:
		return fmt.Errorf("ipv6_prefix: %d is not within 1 to 128", h.IPv6Prefix)
	case h.MaxKeys < 0:
		return fmt.Errorf("max_keys: %d is below zero", h.MaxKeys)
	case h.MaxConcurrent < 0:
		return fmt.Errorf("max_concurrent: %d is below zero", h.MaxConcurrent)
	case h.DelayQueue < 0:
		return fmt.Errorf("delay_queue: %d is below zero", h.DelayQueue)
	case h.Delay < 0:
		return fmt.Errorf("delay: %v is below zero", time.Duration(h.Delay))
	case h.Budget < 0 || time.Duration(h.Budget) > time.Minute:
		return fmt.Errorf("budget: %v is not within 0s and 1m", time.Duration(h.Budget))
	}
	return nil
}

func validZone(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// provisionTiers compiles the handler's limits and those of its tiers. The
// limits without a tier are the tier `*`.
func (h *Handler) provisionTiers(repl *caddy.Replacer) error {
	h.tiers = make(map[string]*tier)
	var quotas []gcra.Quota
	for _, text := range h.Quotas {
		q, err := gcra.ParseQuota(repl.ReplaceKnown(text, ""))
		if err != nil {
			return err
		}
		quotas = append(quotas, q)
	}
	if h.Tier != nil {
		if _, ok := placeholder(h.Tier.Key); !ok {
			return fmt.Errorf("tier: %q is not a placeholder such as {http.auth.user.plan}", h.Tier.Key)
		}
		if len(h.Tier.Limits) == 0 {
			return errors.New("tier: no limits: write a line `<name> <count>/<period>` for each tier")
		}
		for name, texts := range h.Tier.Limits {
			t, err := h.newTier(repl, name, texts, quotas)
			if err != nil {
				return fmt.Errorf("tier %s: %w", name, err)
			}
			h.tiers[name] = t
		}
	}
	_, fallback := h.tiers[anyTier]
	own := len(h.Limits)+len(h.Quotas) > 0
	switch {
	case fallback && len(h.Limits) > 0:
		return errors.New("limit: not possible beside the tier *, which is for everybody whose tier is not named")
	case !fallback && !own && h.MaxConcurrent == 0:
		return errors.New("no limit: write `limit <count>/<period>`, such as `limit 100/1m`, or a tier *")
	case !fallback:
		t, err := h.newTier(repl, anyTier, h.Limits, quotas)
		if err != nil {
			return err
		}
		h.tiers[anyTier] = t
	}
	return nil
}

func (h *Handler) newTier(repl *caddy.Replacer, name string, texts []string, quotas []gcra.Quota) (*tier, error) {
	t := &tier{name: name}
	if len(texts) == 1 && texts[0] == unlimited || len(texts)+len(quotas) == 0 {
		return t, nil
	}
	var limits []gcra.Limit
	for _, text := range texts {
		l, err := gcra.ParseLimit(repl.ReplaceKnown(text, ""))
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

func (h *Handler) provisionExempt(repl *caddy.Replacer) error {
	for _, text := range h.Exempt {
		for _, s := range strings.Fields(repl.ReplaceKnown(text, "")) {
			networks := []string{s}
			if s == "private_ranges" {
				networks = caddyhttp.PrivateRangesCIDR()
			}
			for _, network := range networks {
				prefix, err := caddyhttp.CIDRExpressionToPrefix(network)
				if err != nil {
					return fmt.Errorf("exempt: %q is not an address or a network such as 10.0.0.0/8, nor private_ranges", s)
				}
				h.exempt = append(h.exempt, prefix)
			}
		}
	}
	return nil
}

func (h *Handler) provisionCost(repl *caddy.Replacer) error {
	text := repl.ReplaceKnown(h.Cost, "")
	if name, ok := placeholder(text); ok {
		h.costName = name
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > gcra.MaxCost {
		return fmt.Errorf("cost: %q is neither a whole number from 0 to %d nor a placeholder", text, gcra.MaxCost)
	}
	h.cost = n
	return nil
}

// placeholder returns the name in `{name}`.
func placeholder(s string) (string, bool) {
	if len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}' && !strings.ContainsAny(s[1:len(s)-1], "{} ") {
		return s[1 : len(s)-1], true
	}
	return "", false
}

// Validate reports settings that do not go together.
func (h *Handler) Validate() error {
	if h.zone.redis == nil && h.Mode == modeLeased {
		return errors.New("mode leased: the counters are in memory, where every decision is local anyway; it needs store redis")
	}
	if h.Mode == modeLeased && h.Delay > 0 {
		return errors.New("mode leased: not possible with delay, which has to know when each request's turn is")
	}
	if h.Mode == modeLeased && (h.Algorithm == algorithmWindow || len(h.Quotas) > 0) {
		return errors.New("mode leased: possible only with limits of algorithm gcra; windows and quotas are always decided strictly")
	}
	return nil
}

// Cleanup detaches the handler from its zone's state.
func (h *Handler) Cleanup() error {
	h.detach()
	return nil
}

// ServeHTTP admits the request or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
