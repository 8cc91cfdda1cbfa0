package ratelimit

import (
	"errors"
	"net/http"
	"net/netip"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // where the directive stands
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
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
	namedRouteZone    = "named"
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

	// The operator gave no name: zone is then only what answers, placeholders and
	// metrics call it, and the counters are kept by what the handler is, the
	// matchers on the way to it, its key and its limits. Set by the Caddyfile
	// adapter. Default: false.
	Unnamed bool `json:"unnamed,omitempty"`

	// Whom to count: placeholders and texts that together make the key. Default:
	// the client's IP address, `{http.vars.client_ip}`.
	Key []string `json:"key,omitempty"`

	// What to do with a request for which a placeholder of the key has no value:
	// `ip` counts it by client IP, apart from the other keys; `skip` does not count
	// it; `reject` refuses it with 400. Default: `ip`.
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

	// The longest a request waits for Redis, in all its handlers of this kind
	// together, before on_store_error applies. At most 1m.
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

	// Take the units of count_status when the status is known, instead of
	// reserving them first. Requests that are answered otherwise then cost nothing,
	// however many are in progress, not even a round trip to Redis; and requests
	// that are refused at the same moment may exceed the limit by their number.
	// Default: false.
	CountAfter bool `json:"count_after,omitempty"`

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

	// Where the Caddyfile has this directive; errors name it.
	Position string `json:"position,omitempty"`

	key       *template
	tiers     map[string]*tier
	exempt    []netip.Prefix
	cost      int64
	costName  string
	tierName  string
	statuses  statusSet
	zone      *zone
	zoneKey   string
	metrics   *zoneMetrics
	instances func() int
	delayed   chan struct{}
	group     groupCache
	logger    *zap.Logger
	ctx       caddy.Context
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
	h.ctx = ctx
	return place.Error(ctx, directive, h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	metrics.Register(ctx.GetMetricsRegistry(), collectors...)
	store := h.store(ctx)
	h.setDefaults()
	if err := h.checkChoices(); err != nil {
		return err
	}
	if err := h.provisionKey(ctx); err != nil {
		return err
	}
	if err := h.provisionTiers(ctx); err != nil {
		return err
	}
	if err := h.provisionExempt(ctx); err != nil {
		return err
	}
	if err := h.provisionCost(ctx); err != nil {
		return err
	}
	var err error
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
	return h.attach(gateway, store)
}

// Validate reports settings that do not go together, and directives that do not
// agree on a zone.
func (h *Handler) Validate() error {
	if err := h.validate(); err != nil {
		return place.Error(h.ctx, directive, h.Position, err)
	}
	h.compare()
	return nil
}

func (h *Handler) validate() error {
	if h.zone.redis == nil && h.Mode == modeLeased {
		return errors.New("mode leased: the counters are in memory, where every decision is local anyway; it needs store redis")
	}
	if h.CountAfter && len(h.CountStatus) == 0 {
		return errors.New("count_after: it needs count_status, the codes or classes of responses that count")
	}
	if h.CountAfter && (h.Mode == modeLeased || h.Delay > 0) {
		return errors.New("count after: not possible with mode leased or delay: nothing is taken before the answer")
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
