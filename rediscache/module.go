// Package rediscache is the `http_cache` handler: a shared HTTP cache (RFC 9111) in
// the memory of the process and, for all gateways together, in Redis.
//
// A request takes these steps, each in a file of its own:
//
//   - handler.go classifies it: what the cache has no part in passes.
//   - key.go makes its primary key (RFC 9111 §2). What belongs to the key is in
//     credentials.go (who asks), chain.go (handlers around) and query.go (QUERY).
//   - lookup.go finds a stored response and evaluates whether it may be used (§4). A
//     hit ends in respond.go, which sends it.
//   - collapse.go has requests for the same wait for the first of them.
//   - follow.go answers those that wait with what it resulted in.
//   - fetch.go asks the origin. revalidate.go takes its 304 (§4.3).
//   - recorder.go sends the response to the client and to those who wait, and stores
//     it at its end. phase.go names what it does at each moment, storable.go says
//     whether it may be stored (§3), store.go makes what is stored, delivery.go is the
//     client's side, lifetime.go says for how long the origin is waited for.
//
// Beside that, refresh.go refreshes in the background, invalidate.go follows unsafe
// requests (§4.4), parts.go and ranges.go handle 206 and ranges, and tiers.go holds
// what handlers share and what outlives a reload.
package rediscache

import (
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

const (
	storeMemory = "memory"
	storeRedis  = "redis"
	storeBoth   = "both"

	profileRFC9111 = "rfc9111"

	cookieBypass = "bypass"
	cookieStrip  = "strip"
	cookieStore  = "store"

	directivesIgnore = "ignore"
	directivesHonour = "honour"

	statusOn  = "on"
	statusOff = "off"
	statusKey = "key"
)

const (
	defaultMaxObject   = 1 << 20
	leastMemory        = 1 << 20 // in a Caddyfile: a smaller number has no unit
	defaultVariants    = 20
	defaultMaxError    = 10 * time.Second
	defaultWait        = 5 * time.Second
	defaultFillTimeout = 30 * time.Second
	defaultRemember    = 2 * time.Minute
	defaultKeep        = time.Hour              // in profile rfc9111
	conformanceBudget  = 200 * time.Millisecond // in profile rfc9111, whose results must not depend on a busy machine
	cleanupWait        = 3 * time.Second
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler answers GET and HEAD requests, and QUERY where key.body enables it, from
// stored responses. It follows the responses' own cache-control fields (RFC 9111), and
// the operator's ttl where a response has none.
//
//	http_cache 60s {
//		stale_if_error 10m
//		key {
//			per_user
//		}
//	}
type Handler struct {
	// Freshness lifetime of responses with status 200, 203, 301 or 308 that state none
	// themselves. Default: they are not stored.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// The same for other statuses, by status code. Errors that the request itself can
	// cause (400, 401, 405 to 408, 411 to 415, 417, 421, 425, 426, 431, 501, 505, 510)
	// are stored only if they are listed here, whatever their cache-control fields say.
	// 206, 304, 416, 428, 429 and 511 are not accepted. Default: none.
	StatusTTL map[int]caddy.Duration `json:"status_ttl,omitempty"`

	// Upper bound of the freshness lifetime of responses with a status of 500 or above,
	// whatever they state. Default: 10s; no bound in profile rfc9111.
	MaxErrorTTL caddy.Duration `json:"max_error_ttl,omitempty"`

	// Size of the memory tier of the whole process in bytes; of several handlers the
	// largest counts. Default: 256MiB.
	Memory int64 `json:"memory,omitempty"`

	// The largest body that is stored, in bytes. Larger ones are passed on. At most a
	// quarter of memory. Default: 1MiB.
	MaxObjectSize int64 `json:"max_object_size,omitempty"`

	// How many variants (RFC 9111 §4.1) of one URL are stored. Default: 20.
	MaxVariants int `json:"max_variants,omitempty"`

	// Where responses are stored: `memory`, `redis` or `both`. Default: both if the app
	// has a Redis, else memory.
	Store string `json:"store,omitempty"`

	// Compress bodies that have no content coding (zstd) in Redis. Default: false.
	Compress bool `json:"compress,omitempty"`

	// Collapse requests across gateways: one of them fetches a URL while the others wait
	// for what it stores. This costs a round trip to Redis per miss. Default: false.
	Lease bool `json:"lease,omitempty"`

	// How long a stale response may be used while it is revalidated, where it does not
	// state that itself (RFC 5861 §3). Default: not at all.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How long a stale response may be used while the origin answers with errors, where
	// it does not state that itself (RFC 5861 §4). Default: not at all.
	StaleIfError caddy.Duration `json:"stale_if_error,omitempty"`

	// How long a stale response may be used while the origin cannot be reached at all
	// (RFC 9111 §4.2.4), whatever it states about errors. Default: not at all; 1h in
	// profile rfc9111.
	StaleWhenDisconnected caddy.Duration `json:"stale_when_disconnected,omitempty"`

	// How long a request waits for the response to another request for the same URL
	// (request collapsing) before it asks the origin itself. Default: 5s.
	CollapseTimeout caddy.Duration `json:"collapse_timeout,omitempty"`

	// How long to wait for the origin while nobody reads its response: after the
	// client that caused the request has left, and by a refresh in the background. Of a
	// response of unknown length no more than another 1MiB is read after its client has
	// left. Default: 30s.
	FillTimeout caddy.Duration `json:"fill_timeout,omitempty"`

	// How long it is remembered that the responses of a URL cannot be shared, so that
	// requests for it do not wait for each other (hit-for-miss). Default: 2m.
	HitForMiss caddy.Duration `json:"hit_for_miss,omitempty"`

	// The largest part of its freshness lifetime by which a response expires earlier, at
	// random, so that what was stored together does not expire together: 0 to 0.5.
	// Default: 0.
	Jitter float64 `json:"jitter,omitempty"`

	// Refresh frequently requested responses a little before they expire, at random.
	// Default: false.
	EarlyRefresh bool `json:"early_refresh,omitempty"`

	// Options that are on by default and are switched off: `collapse_timeout`, so that
	// requests do not wait for each other; `fill_timeout`, so that a request to the
	// origin ends when nobody reads its response, except for refreshes in the background;
	// `hit_for_miss`; `stale_when_disconnected`; `tags`; `targets`. Default: none.
	Off []string `json:"off,omitempty"`

	// What is part of the key beside scheme, host, path and query. Default: nothing.
	Key *KeyOptions `json:"key,omitempty"`

	// Response fields that hold the tags to purge by. Default: Surrogate-Key, Cache-Tag,
	// xkey.
	Tags []string `json:"tags,omitempty"`

	// Response fields with directives for this cache (RFC 9213); the first that a
	// response has is used instead of Cache-Control. Default: TentaGate-Cache-Control,
	// CDN-Cache-Control.
	Targets []string `json:"targets,omitempty"`

	// What happens to a response with Set-Cookie: `bypass` does not store it, `strip`
	// stores it without that field, `store` stores it as it is. Default: bypass; store
	// in profile rfc9111.
	SetCookie string `json:"set_cookie,omitempty"`

	// Store Access-Control-* fields too. Use it where the origin implements CORS itself
	// and sends `Vary: Origin`. Default: false, since they depend on the client.
	StoreCORS bool `json:"store_cors,omitempty"`

	// Do not store a response whose Content-Type does not match the extension of its
	// path, against web cache deception. Default: false.
	MatchType bool `json:"match_type,omitempty"`

	// Whether request directives that ask for a fresher or accept a staler response
	// (no-cache, max-age, min-fresh, max-stale; RFC 9111 §5.2.1) are honoured: `ignore`
	// or `honour`. no-store and only-if-cached always are. Default: ignore, since any
	// client could force revalidation otherwise.
	RequestDirectives string `json:"request_directives,omitempty"`

	// Whether responses have a Cache-Status field (RFC 9211): `on`, `off`, or
	// `key`, which includes the key. Default: on.
	CacheStatus string `json:"cache_status,omitempty"`

	// `rfc9111` stores all that the RFC allows to store, for conformance runs: any status
	// and Set-Cookie with explicit freshness, and heuristic freshness from Last-Modified
	// (10 %). Default: none.
	Profile string `json:"profile,omitempty"`

	// Hosts whose responses are stored; requests for others bypass the cache. Default:
	// all that reach the handler.
	Hosts []string `json:"hosts,omitempty"`

	// Requests that are not answered from the cache and whose responses are not stored.
	// Default: none.
	BypassRaw caddyhttp.RawMatcherSets `json:"bypass,omitempty" caddy:"namespace=http.matchers"`

	// What a successful request with an unsafe method invalidates beside its own URL
	// (RFC 9111 §4.4), for the user who sent it: `above`, the URLs above the target with
	// any query, such as /orders for /orders/5/cancel; `segments`, all whose path begins
	// with the same segments, of which invalidate_segments says how many; `all`,
	// everything of the host; `off`, nothing. With key.per_user it invalidates what is in
	// the user's partition; without a known user, what is stored for everybody. Default:
	// off.
	InvalidateOnWrite string `json:"invalidate_on_write,omitempty"`

	// How many path segments `segments` compares: 1 to 16. Required with `segments`.
	InvalidateSegments int `json:"invalidate_segments,omitempty"`

	// Which clients may purge with the PURGE method. Default: none.
	PurgeMethod *PurgeMethod `json:"purge_method,omitempty"`

	// Handlers with the same namespace share what they store, whatever server, site or
	// configuration they are in. Their options that decide what is stored must be equal.
	// Default: a handler shares with the same place of other gateways that have this
	// configuration, and with nothing else.
	Namespace string `json:"namespace,omitempty"`

	// Where the Caddyfile has this directive, such as `Caddyfile:12`. Errors name it.
	// Default: none.
	Position string `json:"position,omitempty"`

	logger    *zap.Logger
	policy    rfc9111.Policy
	bypass    bypassRules
	keys      keyer
	storage   *storage
	responder responder
	tags      tagging
	writes    writeRules
	refresher refresher
}

// KeyOptions are what is part of the key beside the scheme, host, path and query of a
// request.
type KeyOptions struct {
	// Store what may not be shared in a partition of the authenticated user. Without it
	// the response to an authenticated request is only stored if RFC 9111 §3.5 allows to
	// share it. Default: false.
	PerUser bool `json:"per_user,omitempty"`

	// Request fields that, together, name the user for per_user where handlers in front
	// set them. They must be removed from what clients send. Default: the fields that
	// forward_auth copies.
	UserHeaders []string `json:"user_headers,omitempty"`

	// More request fields that identify a client: requests with one of them get nothing
	// that only the operator's ttl makes fresh, and their responses are not stored by it.
	// They are added to a list of common ones, such as Proxy-Authorization and X-Api-Key,
	// which is in the documentation. Fields in headers are part of the key, and are not
	// taken for credentials. Default: none.
	Credentials []string `json:"credentials,omitempty"`

	// Query parameters that are part of the key; others are ignored, and not sent to the
	// origin. Default: the whole query, unchanged.
	QueryAllow []string `json:"query_allow,omitempty"`

	// Query parameters that are ignored, and not sent to the origin. A name that ends in
	// `*` stands for all that begin so, such as `utm_*`. Default: none.
	QueryDeny []string `json:"query_deny,omitempty"`

	// The order of query parameters does not matter. Default: false.
	QuerySort bool `json:"query_sort,omitempty"`

	// Request fields that are part of the key. Default: none.
	Headers []string `json:"headers,omitempty"`

	// Cookies that are part of the key. Default: none.
	Cookies []string `json:"cookies,omitempty"`

	// Placeholders whose values are part of the key. Default: none.
	Values []string `json:"values,omitempty"`

	// Answer QUERY requests (RFC 10008) from the cache too, if their content has no more
	// than this many bytes: at most 16777216. The content and the fields that describe it
	// are part of the key. Larger ones bypass the cache. In a Caddyfile 64KiB, if no size
	// is given. Default: all of them bypass the cache.
	Body int64 `json:"body,omitempty"`
}

var (
	defaultTags    = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}
	defaultTargets = []string{"Tentagate-Cache-Control", "Cdn-Cache-Control"}
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.http_cache",
		New: func() caddy.Module { return new(Handler) },
	}
}

// ttl is the operator's freshness lifetime for a response that states none.
func (h *Handler) ttl(status int) time.Duration {
	if ttl, ok := h.StatusTTL[status]; ok {
		return time.Duration(ttl)
	}
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusPartialContent, http.StatusMovedPermanently, http.StatusPermanentRedirect:
		return time.Duration(h.TTL)
	}
	return 0
}

// storesRequestError reports whether an error that the request itself may have caused
// is stored: where the operator gives its status a ttl.
func (h *Handler) storesRequestError(status int) bool {
	return h.StatusTTL[status] > 0 || h.Profile == profileRFC9111
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
