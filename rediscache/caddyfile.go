package rediscache

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

func init() {
	parse.RegisterOnce("http_cache", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := parse.NamedRoute(h); err != nil {
		return nil, err
	}
	return handler, handler.unmarshal(h.Dispenser, h.MatcherToken)
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	http_cache [<matcher>] [<ttl>] {
//		ttl                    [<status>] <duration>
//		max_error_ttl          <duration>
//		memory                 <size>
//		max_object_size        <size>
//		max_variants           <n>
//		store                  memory|redis|both
//		compress
//		lease
//		stale_while_revalidate <duration>
//		stale_if_error         <duration>
//		stale_when_disconnected <duration>
//		collapse_timeout       <duration>
//		fill_timeout           <duration>
//		hit_for_miss           <duration>
//		jitter                 <percent>
//		early_refresh
//		key {
//			per_user [header <name…>]
//			query  allow <name…> | deny <name…> | sort
//			header <name…>
//			cookie <name…>
//			value  <placeholder…>
//			credentials <name…>
//			body   [<size>]
//		}
//		tags               <field…>
//		targets            <field…>
//		set_cookie         bypass|strip|store
//		store_cors
//		match_type
//		request_directives ignore|honour
//		cache_status       on|off|key
//		profile            rfc9111
//		hosts              <host…>
//		bypass             </path|@name…> | {
//			<matchers>
//		}
//		namespace          <name>
//		invalidate_on_write off|above|segments <n>|all
//		purge_method {
//			allow <address…>
//			users <subject…>
//		}
//	}
//
// A time or list that is on by default is switched off with `off`, a time with 0
// too.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return h.unmarshal(d, nil) }

func (h *Handler) unmarshal(d *caddyfile.Dispenser, named matcherToken) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		switch args[0] {
		case "on", "off", "0%":
			return d.Errf("http_cache: %q: it takes a ttl such as 60s, or none to store only what says itself how long it is fresh; "+
				"without the directive nothing is stored", args[0])
		}
		if h.TTL, err = parse.DurationOrOff(args[0]); err != nil {
			return d.Errf("http_cache: %w", parse.VariableHint(args[0], fmt.Errorf("%q is not a ttl such as 60s", args[0])))
		}
	}
	ttlGiven := len(args) == 1
	return parse.Block(d,
		parse.Func("ttl", func(d *caddyfile.Dispenser) error { return h.unmarshalTTL(d, &ttlGiven) }).Repeatable(),
		parse.Value("max_error_ttl", &h.MaxErrorTTL, parse.Duration),
		parse.Value("memory", &h.Memory, size(leastMemory, "to keep nothing in memory write `store redis`; without http_cache nothing is stored")),
		parse.Value("max_object_size", &h.MaxObjectSize, size(1<<10, "without http_cache nothing is stored, and `bypass` leaves requests out")),
		parse.Value("max_variants", &h.MaxVariants, parse.Int(1, maxVariants)),
		parse.Value("store", &h.Store, stores),
		parse.FlagOrOff("compress", &h.Compress),
		parse.FlagOrOff("lease", &h.Lease),
		parse.Value("stale_while_revalidate", &h.StaleWhileRevalidate, parse.DurationOrOff),
		parse.Value("stale_if_error", &h.StaleIfError, parse.DurationOrOff),
		h.durationOption("stale_when_disconnected", &h.StaleWhenDisconnected),
		h.durationOption("collapse_timeout", &h.CollapseTimeout),
		h.durationOption("fill_timeout", &h.FillTimeout),
		h.durationOption("hit_for_miss", &h.HitForMiss),
		parse.Value("jitter", &h.Jitter, jitter),
		parse.FlagOrOff("early_refresh", &h.EarlyRefresh),
		parse.Func("key", h.unmarshalKey),
		h.listOption("tags", &h.Tags),
		h.listOption("targets", &h.Targets),
		parse.Value("set_cookie", &h.SetCookie, cookieModes),
		parse.FlagOrOff("store_cors", &h.StoreCORS),
		parse.FlagOrOff("match_type", &h.MatchType),
		parse.Value("request_directives", &h.RequestDirectives, directiveModes),
		parse.Value("cache_status", &h.CacheStatus, statusModes),
		parse.Value("profile", &h.Profile, profiles),
		parse.List("hosts", &h.Hosts).Then(func() error { return checkHosts(h.Hosts) }),
		parse.Func("bypass", func(d *caddyfile.Dispenser) error { return h.unmarshalBypass(d, named) }).Repeatable(),
		parse.Value("namespace", &h.Namespace, namespaceName).NotOff(),
		parse.Func("invalidate_on_write", h.unmarshalOnWrite),
		parse.Func("purge_method", h.unmarshalPurgeMethod),
	)
}

// durationOption is an option whose default is not off.
func (h *Handler) durationOption(name string, to *caddy.Duration) parse.Option {
	return parse.Value(name, to, parse.DurationOrOff).Then(func() error {
		if *to == 0 {
			h.Off = append(h.Off, name)
		}
		return nil
	})
}

// listOption is an option whose default is not off.
func (h *Handler) listOption(name string, to *[]string) parse.Option {
	return parse.ListOrOff(name, to).Then(func() error {
		if len(*to) == 1 && (*to)[0] == parse.Off {
			*to, h.Off = nil, append(h.Off, name)
		}
		if len(*to) == 1 && slices.Contains([]string{"on", "true", "yes"}, (*to)[0]) {
			return fmt.Errorf("%s: %q: it is on by default: remove the line, or name header fields", name, (*to)[0])
		}
		if slices.Contains(*to, parse.Off) {
			return fmt.Errorf("%s: off cannot be combined with other values", name)
		}
		return checkFields(name, *to)
	})
}

func jitter(text string) (float64, error) {
	v, err := parse.PercentOrOff(text)
	if err != nil || v > 0.5 {
		return 0, parse.OrOff("%q is not a percentage above 0%% and up to 50%%", text)
	}
	return v, nil
}

// namespaceName accepts the name of a namespace.
func namespaceName(text string) (string, error) {
	if strings.HasPrefix(text, "{http.") {
		return "", fmt.Errorf("%q: the name is the same for all requests: to keep responses apart by the value, write `value %s` in the block of `key`", text, text)
	}
	return parse.Text(text)
}

// size accepts a size of at least minimum. instead says what to write instead of 0.
func size(minimum int64, instead string) func(text string) (int64, error) {
	return func(text string) (int64, error) {
		if text == parse.Off {
			text = "0"
		}
		v, err := parse.Size(text)
		switch {
		case err != nil:
			return 0, err
		case v == 0:
			return 0, parse.Mend("0 would store nothing: %s", instead)
		}
		if v > maxSize {
			return 0, fmt.Errorf("%s is too large: at most 1TiB", text)
		}
		return v, parse.AtLeast(text, v, minimum, "MiB")
	}
}

// unmarshalTTL reads `ttl 60s` and `ttl 404 5s`. given is whether the ttl for all
// statuses was given already.
func (h *Handler) unmarshalTTL(d *caddyfile.Dispenser, given *bool) error {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	ttl, err := parse.DurationOrOff(args[len(args)-1])
	if err != nil {
		return d.Errf("ttl: %w", parse.VariableHint(args[len(args)-1], err))
	}
	if len(args) == 1 {
		if *given {
			return d.Err("ttl: given more than once")
		}
		h.TTL, *given = ttl, true
		return nil
	}
	status, err := strconv.Atoi(args[0])
	if err != nil || status < 200 || status > 599 {
		return d.Errf("ttl: %q is not a status code", args[0])
	}
	if !rfc9111.Storable(status) || status == http.StatusPartialContent {
		return d.Errf("ttl %d: it is not the status of a response that can be stored", status)
	}
	if _, dup := h.StatusTTL[status]; dup {
		return d.Errf("ttl %d: given more than once", status)
	}
	if h.StatusTTL == nil {
		h.StatusTTL = map[int]caddy.Duration{}
	}
	h.StatusTTL[status] = ttl
	return nil
}

// unmarshalOnWrite reads `invalidate_on_write above` and `… segments 2`.
func (h *Handler) unmarshalOnWrite(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	switch h.InvalidateOnWrite = args[0]; {
	case args[0] == writeSegments && len(args) == 2:
		if h.InvalidateSegments, err = strconv.Atoi(args[1]); err != nil || h.InvalidateSegments < 1 || h.InvalidateSegments > maxSegments {
			return d.Errf("invalidate_on_write segments: %q is not a whole number from 1 to %d", args[1], maxSegments)
		}
	case args[0] == writeSegments:
		return d.Err("invalidate_on_write segments: missing argument: how many segments of the path name a service, such as 2 for /api/orders/…")
	case args[0] != writeOff && args[0] != writeAbove && args[0] != writeAll:
		return d.WrapErr(parse.Mend("invalidate_on_write: %q: accepted are off, above, segments <n> and all", args[0]))
	case len(args) == 2:
		return d.Errf("invalidate_on_write %s: unexpected argument %q: it takes none", args[0], args[1])
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
