// Package ratelimit is the `ratelimit` handler: it admits a number of requests
// per client and time, exactly, on one gateway or on any number that share a
// Redis, and keeps limiting while that Redis is unreachable.
package ratelimit

import (
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/site"
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

	// unlimited in place of limits exempts the members of a tier.
	unlimited = "unlimited"

	// anyTier has the limits of clients whose tier is not named.
	anyTier = "*"

	defaultZone       = "default"
	namedRouteZone    = "named"
	defaultIPv6Prefix = 64
	defaultQueue      = 1000
)

// errNoRedis names the options that configure a Redis.
var errNoRedis = errors.New("store redis: the tentagate app has no Redis; set `redis <url>` in the global tentagate option, or REDIS_URL")

// Handler limits the requests of each client.
//
// The algorithm is GCRA: a limit of 100/1m admits 100 requests at once, and in
// any interval D at most burst + D × rate. Several limits on one key, and several
// `ratelimit` handlers that follow one another, are decided together: a refused
// request consumes nothing of any of them.
//
// A refusal is a 429 with `Retry-After` and an `application/problem+json` body
// of type `quota-exceeded`. `RateLimit` and `RateLimit-Policy` tell clients what
// remains.
//
// Placeholder | Description
// ------------|---------------
// `{http.ratelimit.<zone>.remaining}` | Remaining units, of the limit with the fewest
// `{http.ratelimit.<zone>.reset}` | Seconds until more units are available
// `{http.ratelimit.<zone>.outcome}` | `allowed`, `limited`, `delayed`, `unavailable`, `exempt`, `shadow_limited` or `concurrency_limited`
// `{http.ratelimit.<zone>.tier}` | The tier whose limits applied
//
//	ratelimit {
//		key {http.auth.user.id}
//		limit 100/1m
//		limit 10/1s burst 20
//	}
type Handler struct {
	// The name of the counters, which survive reloads and, in Redis, are shared by
	// all gateways. Handlers with the same zone share counters. Letters, digits, dot,
	// dash and underscore, at most 64. Default: `default`.
	Zone string `json:"zone,omitempty"`

	// The operator named no zone: zone is then only the name in responses,
	// placeholders and metrics, and the counters are identified by what the handler
	// is: the matchers on the way to it, its key and its limits. Set by the Caddyfile
	// adapter. Default: false.
	Unnamed bool `json:"unnamed,omitempty"`

	// Who is limited: placeholders and texts that together make the key. Default:
	// the client's IP address, `{http.vars.client_ip}`.
	Key []string `json:"key,omitempty"`

	// What happens to a request for which a placeholder of the key has no value:
	// `ip` counts it by client IP, apart from the other keys; `skip` does not count
	// it; `reject` refuses it with 400. Default: `ip`.
	MissingKey string `json:"missing_key,omitempty"`

	// The limits on each key, as `<count>/<period> [burst <n>]`: `100/1m`,
	// `10/1s burst 20`. All are decided together. The burst, at first the count, is how
	// many units may be taken at once. Required unless there are quotas, a tier or
	// max_concurrent.
	Limits []string `json:"limits,omitempty"`

	// Quotas on each key by the calendar (UTC), as
	// `<count>/<hour|day|week|month|year>`. They are reset at the end of the period,
	// and are as durable as the store: configure persistence in Redis for billing.
	// Default: none.
	Quotas []string `json:"quotas,omitempty"`

	// How limits are counted: `gcra`, or `sliding_window`, which admits at most
	// the count in any window of the period's length, needs eight bytes per request
	// and takes counts up to 10000. Default: `gcra`.
	Algorithm string `json:"algorithm,omitempty"`

	// Where counters are kept: `memory` of this process, or `redis`. Default:
	// `redis` if the tentagate app has one, else `memory`.
	Store string `json:"store,omitempty"`

	// How Redis is used: `strict` asks it for every decision (concurrent ones
	// share a round trip) and is exact; `leased` reserves units in advance for busy
	// keys and admits at most rate × lease lifetime (2 % of the period, at most 1s)
	// more, whatever the number of gateways. Default: `strict`.
	Mode string `json:"mode,omitempty"`

	// The fallback while Redis is unreachable: `local` limits each gateway to its
	// share, `allow` admits everything, `deny` answers 503. Default: `local`.
	OnStoreError string `json:"on_store_error,omitempty"`

	// The longest that a request waits for Redis, in all its ratelimit handlers
	// together, before on_store_error applies. At most 1m. Default: 25ms.
	Budget caddy.Duration `json:"budget,omitempty"`

	// Limits that depend on the client. Default: the same limits for all.
	Tier *Tier `json:"tier,omitempty"`

	// Addresses and networks of clients that are not counted, in CIDR notation;
	// `private_ranges` are all private ones. Default: none.
	Exempt []string `json:"exempt,omitempty"`

	// The length of the prefix that makes one client of IPv6 addresses, 1 to 128.
	// Default: 64.
	IPv6Prefix int `json:"ipv6_prefix,omitempty"`

	// How many units a request costs: a whole number, or a placeholder that has
	// one, which may be 0: the request is not counted. A placeholder without a valid
	// number costs 1.
	// Default: 1.
	Cost string `json:"cost,omitempty"`

	// Count only requests whose response has one of these status codes, such as
	// `401` or `5xx`. Units are reserved first and given back for any other status.
	// Default: all count.
	CountStatus []string `json:"count_status,omitempty"`

	// Take the units of count_status when the status is known, instead of
	// reserving them first. Requests with any other status then cost nothing,
	// however many are in progress, not even a round trip to Redis; and the limit may
	// be exceeded by the number of requests in progress. Default: false.
	CountAfter bool `json:"count_after,omitempty"`

	// The most concurrent requests of one key on this gateway. With Redis, the
	// number is divided among the gateways. Default: no limit.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// Delay requests for up to this time until they are within the limits, instead
	// of refusing them. At most 1m. Default: refuse at once.
	Delay caddy.Duration `json:"delay,omitempty"`

	// The most requests of this handler that are delayed at once. Default: 1000.
	DelayQueue int `json:"delay_queue,omitempty"`

	// Decide and count, but never refuse, and send no response fields. Default:
	// false.
	Shadow bool `json:"shadow,omitempty"`

	// Which response fields to send: `standard` (RateLimit, RateLimit-Policy),
	// `legacy` (X-RateLimit-Limit, -Remaining, -Reset), `both` or `off`.
	// Retry-After is sent in any case. Default: `standard`.
	Headers string `json:"headers,omitempty"`

	// The most keys whose state is kept in memory. When more are active, the one
	// nearest to being idle is evicted. Default: 1000000.
	MaxKeys int `json:"max_keys,omitempty"`

	// Where the Caddyfile has this directive. Errors name it.
	Position string `json:"position,omitempty"`

	key       *template
	tiers     map[string]*tier
	exempt    []netip.Prefix
	cost      int64
	costName  string
	tierName  string
	statuses  statusSet
	zone      *zone
	zoneRef   *pool.Ref[*zone]
	metrics   *zoneMetrics
	instances func() int
	delayed   chan struct{}
	group     groupCache
	run       problem.Handler // serve
	logger    *zap.Logger
	ctx       caddy.Context
}

// Tier chooses limits by the client.
type Tier struct {
	// The placeholder whose value names the tier, such as
	// `{http.auth.user.plan}`. Required.
	Key string `json:"key,omitempty"`

	// The limits of each tier, as in limits, or `unlimited`. The tier `*` is for
	// everybody whose tier is not named; without it those have the handler's own
	// limits. Required.
	Limits map[string][]string `json:"limits,omitempty"`
}

// tier is a set of limits.
type tier struct {
	name  string
	plan  *gcra.Plan // nil: unlimited
	names []string   // of its limits, in responses
	field string     // RateLimit-Policy
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ratelimit",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision resolves the options and attaches the handler to its zone.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx = ctx
	return place.Error(ctx, directive, h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.logger, h.run = ctx.Logger(), h.serve
	metrics.Register(ctx.GetMetricsRegistry(), collectors...)
	id := h.zoneID(ctx)
	h.setDefaults()
	if err := site.CheckReached(ctx, h.Position); err != nil {
		return err
	}
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
		return fmt.Errorf("count_status: %w", err)
	}
	if h.Delay > 0 {
		h.delayed = make(chan struct{}, h.DelayQueue)
	}
	gateway, err := app.Get(ctx)
	if err != nil {
		return err
	}
	return h.attach(gateway, id)
}

// Validate reports options that exclude one another, and warns of directives
// that share a zone and differ in their rules.
func (h *Handler) Validate() error {
	if err := h.validate(); err != nil {
		return place.Error(h.ctx, directive, h.Position, err)
	}
	h.warnShared()
	return nil
}

func (h *Handler) validate() error {
	if h.zone.redis == nil && h.Mode == modeLeased {
		return errors.New("mode leased: it needs store redis; counters in memory are local anyway")
	}
	if h.CountAfter && len(h.CountStatus) == 0 {
		return errors.New("count_after: it needs count_status, the status codes or classes that count")
	}
	if h.CountAfter && (h.Mode == modeLeased || h.Delay > 0) {
		return errors.New("count after: not possible with mode leased or delay: nothing is taken before the response")
	}
	if h.Mode == modeLeased && h.Delay > 0 {
		return errors.New("mode leased: not possible with delay, which needs an exact decision for each request")
	}
	if h.Mode == modeLeased && (h.Algorithm == algorithmWindow || len(h.Quotas) > 0) {
		return errors.New("mode leased: possible only with limits of algorithm gcra; windows and quotas are always strict")
	}
	return nil
}

// Cleanup detaches the handler from its zone.
func (h *Handler) Cleanup() error {
	h.detach()
	return nil
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
