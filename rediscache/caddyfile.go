package rediscache

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("http_cache", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
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

// matcherToken reads the next argument as a matcher of the site.
type matcherToken func() (caddy.ModuleMap, bool, error)

func (h *Handler) unmarshal(d *caddyfile.Dispenser, named matcherToken) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	seen := parse.Seen{}
	if len(args) == 1 {
		switch args[0] {
		case "on", "off":
			return d.Errf("http_cache: %q: it takes a ttl such as 60s, or none to store only what says itself how long it is fresh; "+
				"without the directive nothing is stored", args[0])
		}
		if h.TTL, err = duration(d, "http_cache", args[0]); err != nil {
			return err
		}
		seen["ttl"] = struct{}{}
	}
	for d.NextBlock(0) {
		if d.Val() == "ttl" {
			err = h.unmarshalTTL(d, seen)
		} else if d.Val() == "bypass" {
			err = h.unmarshalBypass(d, named)
		} else if err = seen.Once(d); err == nil {
			err = h.unmarshalOption(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func duration(d *caddyfile.Dispenser, option, text string) (caddy.Duration, error) {
	if text == "off" || text == "0" {
		return 0, nil
	}
	v, err := caddy.ParseDuration(text)
	if err != nil || v < 0 {
		return 0, d.Errf("%s: %q is not a duration above zero, such as 60s, nor off", option, text)
	}
	return caddy.Duration(v), nil
}

// time reads a time that is on by default.
func (h *Handler) time(d *caddyfile.Dispenser, v *caddy.Duration) (err error) {
	option := d.Val()
	if *v, err = parse.DurationOrOff(d); err == nil && *v == 0 {
		h.Off = append(h.Off, option)
	}
	return err
}

// list reads a list that is on by default.
func (h *Handler) list(d *caddyfile.Dispenser, v *[]string) (err error) {
	option := d.Val()
	if *v, err = parse.Args(d, 1, -1); err == nil && len(*v) == 1 && (*v)[0] == "off" {
		*v, h.Off = nil, append(h.Off, option)
	}
	return err
}

// size reads a size of at least the given one.
func size(d *caddyfile.Dispenser, least int64, instead string) (int64, error) {
	option := d.Val()
	v, err := parse.SizeOrOff(d)
	switch {
	case err != nil:
		return 0, err
	case v == 0:
		return 0, d.Errf("%s: 0 would store nothing: %s", option, instead)
	}
	return v, enough(d, option, v, least, "MiB")
}

// enough refuses a size, on which the dispenser stands, that is too small, mostly
// since it lacks its unit.
func enough(d *caddyfile.Dispenser, option string, v, least int64, unit string) error {
	if v >= least {
		return nil
	}
	if strings.Trim(d.Val(), "0123456789") != "" {
		return d.Errf("%s: %s is too small: at least %s", option, d.Val(), strings.ReplaceAll(strings.Replace(humanize.IBytes(uint64(least)), ".0", "", 1), " ", ""))
	}
	return d.Errf("%s: %d bytes are too few to be meant: write a unit, such as %d%s; accepted are %s and more", option, v, max(v, 1), unit, humanize.IBytes(uint64(least)))
}

// unmarshalTTL reads `ttl 60s` and `ttl 404 5s`.
func (h *Handler) unmarshalTTL(d *caddyfile.Dispenser, seen parse.Seen) error {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		if err := seen.OnceAs(d, "ttl"); err != nil {
			return err
		}
		h.TTL, err = duration(d, "ttl", args[0])
		return err
	}
	if err := seen.OnceAs(d, "ttl "+args[0]); err != nil {
		return err
	}
	status, err := strconv.Atoi(args[0])
	if err != nil || status < 200 || status > 599 {
		return d.Errf("ttl: %q is not a status code", args[0])
	}
	if !rfc9111.Storable(status) || status == http.StatusPartialContent {
		return d.Errf("ttl %d: it is not the status of a response that can be stored", status)
	}
	if h.StatusTTL == nil {
		h.StatusTTL = map[int]caddy.Duration{}
	}
	h.StatusTTL[status], err = duration(d, "ttl", args[1])
	return err
}

// options are the names of the options, for errors.
var options = []string{
	"ttl", "max_error_ttl", "memory", "max_object_size", "max_variants", "store", "compress", "lease",
	"stale_while_revalidate", "stale_if_error", "stale_when_disconnected", "collapse_timeout", "fill_timeout", "hit_for_miss", "jitter", "early_refresh",
	"key", "tags", "targets", "set_cookie", "store_cors", "match_type", "request_directives", "cache_status", "profile",
	"hosts", "bypass", "namespace", "invalidate_on_write", "purge_method",
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser) (err error) {
	flag := func(v *bool) error {
		option, args := d.Val(), d.RemainingArgs()
		if *v = len(args) == 0; !*v && (len(args) > 1 || args[0] != "off") {
			return d.Errf("%s: unexpected argument %q: it takes none, or off", option, args[len(args)-1])
		}
		return nil
	}
	switch option := d.Val(); option {
	case "max_error_ttl":
		h.MaxErrorTTL, err = parse.Duration(d)
	case "memory":
		h.Memory, err = size(d, leastMemory, "to keep nothing in memory write `store redis`; without http_cache nothing is stored")
	case "max_object_size":
		h.MaxObjectSize, err = size(d, 1<<10, "without http_cache nothing is stored, and `bypass` leaves requests out")
	case "max_variants":
		h.MaxVariants, err = parse.Int(d, 1, 1000)
	case "store":
		h.Store, err = word(d, storeMemory, storeRedis, storeBoth)
	case "compress":
		err = flag(&h.Compress)
	case "lease":
		err = flag(&h.Lease)
	case "stale_while_revalidate":
		h.StaleWhileRevalidate, err = parse.DurationOrOff(d)
	case "stale_if_error":
		h.StaleIfError, err = parse.DurationOrOff(d)
	case "stale_when_disconnected":
		err = h.time(d, &h.StaleWhenDisconnected)
	case "collapse_timeout":
		err = h.time(d, &h.CollapseTimeout)
	case "fill_timeout":
		err = h.time(d, &h.FillTimeout)
	case "hit_for_miss":
		err = h.time(d, &h.HitForMiss)
	case "jitter":
		var text string
		if text, err = parse.OneArg(d); err != nil {
			return err
		}
		var ok bool
		if h.Jitter, ok = parse.PercentOrOff(text); !ok || h.Jitter > 0.5 {
			err = d.Errf("jitter: %q is not a percentage above 0%% and up to 50%%, nor off", text)
		}
	case "early_refresh":
		err = flag(&h.EarlyRefresh)
	case "key":
		err = h.unmarshalKey(d)
	case "tags":
		err = h.list(d, &h.Tags)
	case "targets":
		err = h.list(d, &h.Targets)
	case "set_cookie":
		h.SetCookie, err = word(d, cookieBypass, cookieStrip, cookieStore)
	case "store_cors":
		err = flag(&h.StoreCORS)
	case "match_type":
		err = flag(&h.MatchType)
	case "request_directives":
		h.RequestDirectives, err = word(d, directivesIgnore, directivesHonour)
	case "cache_status":
		h.CacheStatus, err = word(d, statusOn, statusOff, statusKey)
	case "profile":
		h.Profile, err = word(d, profileRFC9111)
	case "hosts":
		h.Hosts, err = parse.Args(d, 1, -1)
	case "namespace":
		h.Namespace, err = parse.OneArg(d)
	case "invalidate_on_write":
		err = h.unmarshalOnWrite(d)
	case "purge_method":
		h.PurgeMethod, err = unmarshalPurgeMethod(d)
	default:
		err = parse.Unknown(d, options...)
	}
	return err
}

// unmarshalBypass reads `bypass /live/* @preview` and a block of matchers, of which
// all must fit. The option may be repeated: any of what is given will do.
func (h *Handler) unmarshalBypass(d *caddyfile.Dispenser, named matcherToken) error {
	before := len(h.BypassRaw)
	for d.NextArg() {
		switch text := d.Val(); {
		case text == "*":
			return d.Err("bypass *: everything would pass: remove http_cache, or give it a matcher")
		case strings.HasPrefix(text, "/"):
			h.BypassRaw = append(h.BypassRaw, caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath{text}, nil)})
		case strings.HasPrefix(text, "@") && named != nil:
			d.Prev()
			set, _, err := named()
			if err != nil {
				return d.Errf("bypass %s: %v: define it in the site, such as `%s path /live/*`", text, err, text)
			}
			h.BypassRaw = append(h.BypassRaw, set)
		default:
			return d.Errf("bypass: %q is no matcher: accepted are /path, @name and a block of matchers, such as `bypass { method HEAD }`", text)
		}
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		if _, rest, ok := strings.Cut(err.Error(), "getting matcher module '"); ok {
			switch name, _, _ := strings.Cut(rest, "'"); {
			case strings.HasPrefix(name, "/"):
				return d.Errf("bypass: %q in the block has no matcher: write `path %s`, or `bypass %s` without a block", name, name, name)
			case strings.HasPrefix(name, "@"):
				return d.Errf("bypass: %q in the block: write `bypass %s` without a block", name, name)
			default:
				return d.Errf("bypass: %q is no matcher: accepted are such as path, method, header and query", name)
			}
		}
		return err
	}
	if len(set) > 0 {
		h.BypassRaw = append(h.BypassRaw, set)
	}
	if len(h.BypassRaw) == before {
		return d.Err("bypass: the block has no matchers, such as `path /live/*`; accepted are also /path and @name without a block")
	}
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
		return d.Errf("invalidate_on_write: %q: accepted are off, above, segments <n> and all", args[0])
	case len(args) == 2:
		return d.Errf("invalidate_on_write %s: unexpected argument %q: it takes none", args[0], args[1])
	}
	return nil
}

// word reads the only argument of an option that takes one of a few words.
func word(d *caddyfile.Dispenser, accepted ...string) (string, error) {
	option := d.Val()
	text, err := parse.OneArg(d)
	if err != nil {
		return "", err
	}
	list := ""
	for i, a := range accepted {
		if text == a {
			return text, nil
		}
		switch {
		case i > 0 && i == len(accepted)-1:
			list += " and "
		case i > 0:
			list += ", "
		}
		list += a
	}
	if len(accepted) == 1 {
		return "", d.Errf("%s: %q: accepted is %s", option, text, list)
	}
	return "", d.Errf("%s: %q: accepted are %s", option, text, list)
}

func (h *Handler) unmarshalKey(d *caddyfile.Dispenser) (err error) {
	if err = parse.NoArgs(d); err != nil {
		return err
	}
	h.Key = &KeyOptions{}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() == "query" {
			err = h.unmarshalQuery(d, seen)
		} else if err = seen.Once(d); err == nil {
			switch d.Val() {
			case "per_user":
				err = h.unmarshalPerUser(d)
			case "credentials":
				h.Key.Credentials, err = parse.Args(d, 1, -1)
			case "header":
				h.Key.Headers, err = parse.Args(d, 1, -1)
			case "cookie":
				h.Key.Cookies, err = parse.Args(d, 1, -1)
			case "value":
				h.Key.Values, err = parse.Args(d, 1, -1)
			case "body":
				err = h.unmarshalBody(d)
			default:
				err = parse.Unknown(d, "per_user", "query", "header", "cookie", "value", "credentials", "body")
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unmarshalPerUser reads `per_user` and `per_user header X-User`.
func (h *Handler) unmarshalPerUser(d *caddyfile.Dispenser) error {
	h.Key.PerUser = true
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
	case args[0] != "header":
		return d.Errf("per_user: unexpected argument %q: accepted is header <name…>", args[0])
	case len(args) == 1:
		return d.Err("per_user header: missing argument: it takes at least 1 value")
	default:
		h.Key.UserHeaders = args[1:]
	}
	return nil
}

// unmarshalBody reads `body` and `body 16KiB`.
func (h *Handler) unmarshalBody(d *caddyfile.Dispenser) (err error) {
	h.Key.Body = defaultContent
	if d.CountRemainingArgs() == 0 {
		return nil
	}
	switch h.Key.Body, err = parse.SizeOrOff(d); {
	case err != nil || h.Key.Body == 0:
		return err
	case h.Key.Body > maxContent:
		return d.Errf("body: %s is too large; accepted are up to %s", humanize.IBytes(uint64(h.Key.Body)), humanize.IBytes(maxContent))
	}
	return enough(d, "body", h.Key.Body, 1<<10, "KiB")
}

// unmarshalQuery reads `query allow a b`, `query deny utm_*` and `query sort`.
func (h *Handler) unmarshalQuery(d *caddyfile.Dispenser, seen parse.Seen) error {
	args, err := parse.Args(d, 1, -1)
	if err != nil {
		return err
	}
	kind, names := args[0], args[1:]
	if err := seen.OnceAs(d, "query "+kind); err != nil {
		return err
	}
	switch kind {
	case "sort":
		h.Key.QuerySort = true
		if len(names) > 0 {
			return d.Errf("query sort: unexpected argument %q: it takes none", names[0])
		}
		return nil
	case "allow":
		h.Key.QueryAllow = names
	case "deny":
		h.Key.QueryDeny = names
	default:
		return d.Errf("query: %q: accepted are allow, deny and sort", kind)
	}
	if len(names) == 0 {
		return d.Errf("query %s: missing argument: it takes at least 1 value", kind)
	}
	if h.Key.QueryAllow != nil && h.Key.QueryDeny != nil {
		return d.Err("query: allow and deny exclude each other")
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
