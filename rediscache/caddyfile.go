package rediscache

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("http_cache", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	http_cache [<matcher>] [<ttl>] {
//		ttl                    [<status>] <duration>
//		memory                 <size>
//		max_object_size        <size>
//		store                  memory|redis|both
//		stale_while_revalidate <duration>
//		stale_if_error         <duration>
//		key {
//			per_user
//			query  <name...>
//			header <name...>
//		}
//		tags <field...>
//		purge_method {
//			allow <address...>
//			users <subject...>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	seen := parse.Seen{}
	if len(args) == 1 {
		if h.TTL, err = duration(d, "http_cache", args[0]); err != nil {
			return err
		}
		seen["ttl"] = struct{}{}
	}
	for d.NextBlock(0) {
		if d.Val() == "ttl" {
			err = h.unmarshalTTL(d, seen)
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
	v, err := caddy.ParseDuration(text)
	if err != nil || v <= 0 {
		return 0, d.Errf("%s: %q is not a duration above zero, such as 60s", option, text)
	}
	return caddy.Duration(v), nil
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
	if h.StatusTTL == nil {
		h.StatusTTL = map[int]caddy.Duration{}
	}
	h.StatusTTL[status], err = duration(d, "ttl", args[1])
	return err
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser) (err error) {
	switch d.Val() {
	case "memory":
		h.Memory, err = parse.Size(d)
	case "max_object_size":
		h.MaxObjectSize, err = parse.Size(d)
	case "store":
		if h.Store, err = parse.OneArg(d); err == nil && h.Store != storeMemory && h.Store != storeRedis && h.Store != storeBoth {
			err = d.Errf("store: %q: accepted are memory, redis and both", h.Store)
		}
	case "stale_while_revalidate":
		h.StaleWhileRevalidate, err = parse.Duration(d)
	case "stale_if_error":
		h.StaleIfError, err = parse.Duration(d)
	case "key":
		err = h.unmarshalKey(d)
	case "tags":
		h.Tags, err = parse.Args(d, 1, -1)
	case "purge_method":
		h.PurgeMethod, err = unmarshalPurgeMethod(d)
	default:
		err = parse.Unknown(d, "ttl", "memory", "max_object_size", "store", "stale_while_revalidate", "stale_if_error", "key", "tags", "purge_method")
	}
	return err
}

func (h *Handler) unmarshalKey(d *caddyfile.Dispenser) (err error) {
	if err = parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "per_user":
			h.PerUser, err = true, parse.NoArgs(d)
		case "query":
			h.Query, err = parse.Args(d, 1, -1)
		case "header":
			h.KeyHeaders, err = parse.Args(d, 1, -1)
		default:
			err = parse.Unknown(d, "per_user", "query", "header")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
