package rediscache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/shared"
	sites "github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// Provision sets the defaults and finds the tiers of an earlier configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	return place.Error(ctx, "http_cache", h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.refresher.h = h
	h.refresher.ctx, h.refresher.stop = context.WithCancel(ctx)
	h.keys.chains = &chains{finder: sites.NewFinder(ctx, h)}
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	if err := h.resolve(ctx); err != nil {
		return err
	}
	h.setDefaults(a)
	if err := h.check(a); err != nil {
		return err
	}
	if h.Store != storeRedis {
		shared.Warn(ctx, "memory", "of the process", strconv.FormatInt(h.Memory, 10), h.Position, "the process has one cache memory: write the same `memory` in all")
	}
	if err := h.joinNamespace(ctx, a); err != nil {
		return err
	}
	if name := sites.AuthenticatesBehind(ctx, h.Position); name != "" {
		h.logger.Warn("http_cache is in front of "+name+", so that responses which the service marks as public are sent to clients that "+name+" would refuse: move it behind "+name,
			zap.String("at", shared.Place(h.Position)))
	}
	if h.BypassRaw != nil {
		loaded, err := ctx.LoadModule(h, "BypassRaw")
		if err != nil {
			return fmt.Errorf("bypass: loading matchers: %w", err)
		}
		if err := h.bypass.matchers.FromInterface(loaded); err != nil {
			return fmt.Errorf("bypass: %w", err)
		}
		if err := sites.CheckVariables(h.bypass.matchers); err != nil {
			return fmt.Errorf("bypass: %w", err)
		}
	}
	if h.PurgeMethod != nil {
		if err := h.PurgeMethod.provision(); err != nil {
			return err
		}
		h.warnOfProxies(ctx)
	}
	if most := h.Memory / 4; h.MaxObjectSize > most {
		// What arrives is held in memory whatever becomes of it.
		h.logger.Warn("max_object_size is capped at a quarter of memory",
			zap.Int64("max_object_size", h.MaxObjectSize), zap.Int64("memory", h.Memory), zap.String("at", shared.Place(h.Position)))
		h.MaxObjectSize = most
	}
	h.policy = rfc9111.Policy{
		Targets:              h.Targets,
		TTL:                  h.ttl,
		StoreRequestError:    h.storesRequestError,
		Heuristic:            h.Profile == profileRFC9111,
		MaxError:             time.Duration(h.MaxErrorTTL),
		StaleWhileRevalidate: time.Duration(h.StaleWhileRevalidate),
		StaleIfError:         time.Duration(h.StaleIfError),
	}
	var settings tierSettings
	if h.Store != storeRedis {
		settings.memory = h.Memory
	}
	if h.Store != storeMemory {
		budget := time.Duration(0) // that of all features
		if h.Profile == profileRFC9111 {
			budget = conformanceBudget
		}
		settings.redis = &redisSettings{budget: budget, maxBody: int(h.MaxObjectSize), compress: h.Compress}
	}
	tiers, err := acquireTiers(a, settings)
	if err != nil {
		return err
	}
	h.setParts(tiers)
	return nil
}

// setParts gives the parts of the handler what they need of its options.
func (h *Handler) setParts(t *tiers) {
	h.storage = &storage{
		tiers: t, targets: h.Targets, maxVariants: h.MaxVariants, maxObjectSize: h.MaxObjectSize,
		staleWhenDisconnected: time.Duration(h.StaleWhenDisconnected), earlyRefresh: h.EarlyRefresh, lenient: h.Profile == profileRFC9111,
	}
	h.responder = responder{storage: h.storage, cacheStatus: h.CacheStatus}
	h.writes = writeRules{mode: h.InvalidateOnWrite, segments: h.InvalidateSegments}
	h.tags.names, h.tags.logger = h.Tags, h.logger

	h.keys.options, h.keys.namespace = h.Key, h.Namespace
	h.keys.query = cachekey.QueryFilter{Allow: h.Key.QueryAllow, Deny: h.Key.QueryDeny, Sort: h.Key.QuerySort}
	h.keys.chains.controls = append([]string{"Cache-Control"}, h.Targets...)
	h.keys.chains.dropsQuery = h.keys.query.Drops()
	h.keys.chains.keyHeaders, h.keys.chains.keyCookies = h.Key.Headers, len(h.Key.Cookies) > 0
	for _, value := range h.Key.Values {
		names := resolve.Placeholders(value)
		h.keys.chains.keyValues = append(h.keys.chains.keyValues, names...)
		if len(names) == 1 {
			names = nil
		}
		h.keys.values = append(h.keys.values, keyValue{value, names})
	}
	h.keys.chains.isCredential = h.keys.isCredential
	h.keys.credentials = map[string]bool{}
	for _, name := range slices.Concat([]string{"Proxy-Authorization"}, credentials.Fields, canonical(h.Key.Credentials)) {
		h.keys.credentials[fieldname.Hyphenated(name)] = true
	}
	for _, host := range h.Hosts {
		if h.bypass.hosts == nil {
			h.bypass.hosts = map[string]bool{}
		}
		h.bypass.hosts[hostname.Normal(host)] = true
	}
}

func (h *Handler) setDefaults(a *app.App) {
	orTime := func(option string, v *caddy.Duration, d time.Duration) {
		if *v == 0 && !slices.Contains(h.Off, option) {
			*v = caddy.Duration(d)
		}
	}
	h.Memory = cmp.Or(h.Memory, memory.DefaultMaximum)
	h.MaxObjectSize = cmp.Or(h.MaxObjectSize, defaultMaxObject)
	h.MaxVariants = cmp.Or(h.MaxVariants, defaultVariants)
	orTime("collapse_timeout", &h.CollapseTimeout, defaultWait)
	orTime("fill_timeout", &h.FillTimeout, defaultFillTimeout)
	orTime("hit_for_miss", &h.HitForMiss, defaultRemember)
	h.RequestDirectives = cmp.Or(h.RequestDirectives, directivesIgnore)
	h.CacheStatus = cmp.Or(h.CacheStatus, statusOn)
	h.InvalidateOnWrite = cmp.Or(h.InvalidateOnWrite, writeOff)
	if h.Profile == profileRFC9111 {
		h.SetCookie = cmp.Or(h.SetCookie, cookieStore)
		orTime("stale_when_disconnected", &h.StaleWhenDisconnected, defaultKeep)
	} else {
		h.SetCookie = cmp.Or(h.SetCookie, cookieBypass)
		orTime("max_error_ttl", &h.MaxErrorTTL, defaultMaxError)
	}
	if a.Redis() != nil {
		h.Store = cmp.Or(h.Store, storeBoth)
	}
	h.Store = cmp.Or(h.Store, storeMemory)
	if len(h.Tags) == 0 && !slices.Contains(h.Off, "tags") {
		h.Tags = defaultTags
	}
	if len(h.Targets) == 0 && !slices.Contains(h.Off, "targets") {
		h.Targets = defaultTargets
	}
	h.Tags, h.Targets, h.Key.Headers = canonical(h.Tags), canonical(h.Targets), canonical(h.Key.Headers)
	if h.Key.UserHeaders != nil {
		h.Key.UserHeaders = canonical(h.Key.UserHeaders)
	}
}

func canonical(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		names[i] = http.CanonicalHeaderKey(name)
	}
	return names
}

// The accepted values of options.
var (
	stores         = parse.OneOf(storeMemory, storeRedis, storeBoth)
	cookieModes    = parse.OneOf(cookieBypass, cookieStrip, cookieStore)
	directiveModes = parse.OneOf(directivesIgnore, directivesHonour)
	statusModes    = parse.OneOf(statusOn, statusOff, statusKey)
	profiles       = parse.OneOf(profileRFC9111)
)

func (h *Handler) check(a *app.App) error {
	if err := cmp.Or(
		parse.Choice("store", h.Store, stores),
		parse.Choice("set_cookie", h.SetCookie, cookieModes),
		parse.Choice("request_directives", h.RequestDirectives, directiveModes),
		parse.Choice("cache_status", h.CacheStatus, statusModes),
		parse.Choice("profile", cmp.Or(h.Profile, profileRFC9111), profiles),
		parse.Choice("invalidate_on_write", h.InvalidateOnWrite, parse.OneOf(writeOff, writeAbove, writeSegments, writeAll)),
	); err != nil {
		return err
	}
	if h.Store != storeMemory && a.Redis() == nil {
		return fmt.Errorf("store %s: no Redis is configured; set REDIS_URL or the global option `tentagate { redis … }`", h.Store)
	}
	if err := h.checkOff(); err != nil {
		return err
	}
	for name, v := range map[string]int64{
		"ttl": int64(h.TTL), "max_error_ttl": int64(h.MaxErrorTTL), "memory": h.Memory, "max_object_size": h.MaxObjectSize,
		"max_variants": int64(h.MaxVariants), "stale_while_revalidate": int64(h.StaleWhileRevalidate), "stale_if_error": int64(h.StaleIfError),
		"stale_when_disconnected": int64(h.StaleWhenDisconnected),
		"collapse_timeout":        int64(h.CollapseTimeout), "fill_timeout": int64(h.FillTimeout), "hit_for_miss": int64(h.HitForMiss),
	} {
		if v < 0 {
			return fmt.Errorf("%s: must not be negative", name)
		}
	}
	if h.Memory > maxSize || h.MaxObjectSize > maxSize || h.MaxVariants > maxVariants {
		return fmt.Errorf("memory and max_object_size are at most 1TiB, max_variants is at most %d", maxVariants)
	}
	if !(h.Jitter >= 0 && h.Jitter <= 0.5) {
		return fmt.Errorf("jitter %v: accepted are 0 to 0.5", h.Jitter)
	}
	if segments := h.InvalidateOnWrite == writeSegments; segments && (h.InvalidateSegments < 1 || h.InvalidateSegments > maxSegments) || !segments && h.InvalidateSegments != 0 {
		return fmt.Errorf("invalidate_segments %d: accepted are 1 to %d, with invalidate_on_write segments", h.InvalidateSegments, maxSegments)
	}
	for name, names := range map[string][]string{
		"tags": h.Tags, "targets": h.Targets, "key header": h.Key.Headers, "key credentials": h.Key.Credentials, "key per_user header": h.Key.UserHeaders,
	} {
		if err := checkFields(name, names); err != nil {
			return err
		}
	}
	if err := checkHosts(h.Hosts); err != nil {
		return err
	}
	for status, ttl := range h.StatusTTL {
		if ttl < 0 {
			return fmt.Errorf("ttl %d: must not be negative", status)
		}
		if !rfc9111.Storable(status) || status == http.StatusPartialContent {
			return fmt.Errorf("ttl %d: responses with this status cannot be stored", status)
		}
	}
	if h.Key.QueryAllow != nil && h.Key.QueryDeny != nil {
		return errors.New("key: query allow and query deny exclude each other")
	}
	if h.Key.Body < 0 || h.Key.Body > maxContent {
		return fmt.Errorf("key body %d: accepted are 1 to %d bytes, and 0 for none", h.Key.Body, maxContent)
	}
	for _, name := range h.Key.Headers {
		if name == "Authorization" || name == "Cookie" {
			return fmt.Errorf("key header %s: use per_user, which separates users by identity, or cookie, which names the cookies that count", name)
		}
	}
	return nil
}

// checkOff checks the options that are switched off.
func (h *Handler) checkOff() error {
	given := map[string]bool{
		"collapse_timeout": h.CollapseTimeout != 0, "fill_timeout": h.FillTimeout != 0, "hit_for_miss": h.HitForMiss != 0,
		"stale_when_disconnected": h.StaleWhenDisconnected != 0, "tags": len(h.Tags) > 0, "targets": len(h.Targets) > 0,
	}
	for _, option := range h.Off {
		switch on, known := given[option]; {
		case !known:
			return fmt.Errorf("off: %q: accepted are %s", option, strings.Join(slices.Sorted(maps.Keys(given)), ", "))
		case on:
			return fmt.Errorf("off: %s: the option is also set", option)
		}
	}
	if h.Lease && h.CollapseTimeout == 0 {
		return errors.New("lease: needs request collapsing, which `collapse_timeout off` switches off")
	}
	return nil
}

// Cleanup ends refreshes in the background and releases the tiers; the next
// configuration may use them already.
func (h *Handler) Cleanup() error {
	if h.refresher.stop != nil {
		h.refresher.stop()
	}
	ended := make(chan struct{})
	go func() {
		h.refresher.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(cleanupWait):
		h.logger.Warn("a refresh in the background has not ended in time")
	}
	if h.storage == nil {
		return nil
	}
	// A request that outlasts its configuration still finds the tiers.
	return h.storage.release()
}
