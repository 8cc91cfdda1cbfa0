package rediscache

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
)

// matcherToken reads the next argument as a matcher of the site.
type matcherToken func() (caddy.ModuleMap, bool, error)

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
				return d.Errf("bypass %s: %w", text, parse.MatcherHint(err))
			}
			h.BypassRaw = append(h.BypassRaw, set)
		default:
			return d.Errf("bypass: %q is not a matcher: accepted are /path, @name and a block of matchers, such as `bypass { method HEAD }`", text)
		}
	}
	head := parse.Head(d)
	of := func(name string) *caddyfile.Dispenser {
		ahead := *head
		for nesting := ahead.Nesting(); ahead.NextBlock(nesting); {
			if ahead.Val() == name {
				return &ahead
			}
		}
		return d
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		if _, rest, ok := strings.Cut(err.Error(), "getting matcher module '"); ok {
			switch name, _, _ := strings.Cut(rest, "'"); {
			case strings.HasPrefix(name, "/"):
				return of(name).Errf("bypass: %q in the block has no matcher: write `path %s`, or `bypass %s` without a block", name, name, name)
			case strings.HasPrefix(name, "@"):
				return of(name).Errf("bypass: %q in the block: write `bypass %s` without a block", name, name)
			default:
				return of(name).Errf("bypass: %q is not a matcher: accepted are such as path, method, header and query", name)
			}
		}
		return err
	}
	if len(set) > 0 {
		h.BypassRaw = append(h.BypassRaw, set)
	}
	if len(h.BypassRaw) == before {
		return head.Err("bypass: the block has no matchers, such as `path /live/*`; accepted are also /path and @name without a block")
	}
	return nil
}

// unmarshalPurgeMethod reads the block of `purge_method`.
func (h *Handler) unmarshalPurgeMethod(d *caddyfile.Dispenser) error {
	p, head := new(PurgeMethod), parse.Head(d)
	if err := parse.BlockAlone(d,
		parse.List("allow", &p.Allow).Then(func() error { return (&PurgeMethod{Allow: withoutPlaceholders(p.Allow)}).provision() }),
		parse.List("users", &p.Users).Then(func() error { return (&PurgeMethod{Users: withoutPlaceholders(p.Users)}).provision() }),
	); err != nil {
		return err
	}
	if len(p.Allow) == 0 && len(p.Users) == 0 {
		return head.WrapErr(p.provision())
	}
	h.PurgeMethod = p
	return nil
}

// withoutPlaceholders replaces placeholders, which only provision can resolve,
// by a network that is one.
func withoutPlaceholders(list []string) []string {
	list = slices.Clone(list)
	for i, s := range list {
		if strings.Contains(s, "{") {
			list[i] = "127.0.0.1"
		}
	}
	return list
}
