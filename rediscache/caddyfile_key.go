package rediscache

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// unmarshalKey reads the block of `key`.
func (h *Handler) unmarshalKey(d *caddyfile.Dispenser) error {
	h.Key = new(KeyOptions)
	return parse.BlockAlone(d,
		parse.Func("per_user", h.Key.unmarshalPerUser),
		parse.Func("query", h.Key.unmarshalQuery).Repeatable(),
		parse.List("header", &h.Key.Headers).Then(func() error { return checkFields("header", h.Key.Headers) }),
		parse.List("cookie", &h.Key.Cookies),
		parse.List("value", &h.Key.Values),
		parse.List("credentials", &h.Key.Credentials).Then(func() error { return checkFields("credentials", h.Key.Credentials) }),
		parse.Func("body", h.Key.unmarshalBody),
	)
}

// unmarshalPerUser reads `per_user` and `per_user header X-User`.
func (k *KeyOptions) unmarshalPerUser(d *caddyfile.Dispenser) error {
	k.PerUser = true
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
	case args[0] != "header":
		return d.Errf("per_user: unexpected argument %q: accepted is header <name…>", args[0])
	case len(args) == 1:
		return d.Err("per_user header: missing argument: it takes at least 1 value")
	default:
		k.UserHeaders = args[1:]
	}
	return nil
}

// unmarshalBody reads `body` and `body 16KiB`.
func (k *KeyOptions) unmarshalBody(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if k.Body = defaultContent; len(args) == 0 {
		return nil
	}
	if k.Body, err = keyBodySize(args[0]); err != nil {
		return d.Errf("body: %w", err)
	}
	return nil
}

func keyBodySize(text string) (int64, error) {
	v, err := parse.SizeOrOff(text)
	switch {
	case err != nil || v == 0:
		return 0, err
	case v > maxContent:
		return 0, fmt.Errorf("%s is too large; accepted are up to %s", humanize.IBytes(uint64(v)), humanize.IBytes(maxContent))
	}
	return v, parse.AtLeast(text, v, 1<<10, "KiB")
}

// unmarshalQuery reads `query allow a b`, `query deny utm_*` and `query sort`.
func (k *KeyOptions) unmarshalQuery(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, -1)
	if err != nil {
		return err
	}
	kind, names := args[0], args[1:]
	var list *[]string
	switch kind {
	case "sort":
		if k.QuerySort {
			return d.Err("query sort: given more than once")
		}
		if k.QuerySort = true; len(names) > 0 {
			return d.Errf("query sort: unexpected argument %q: it takes none", names[0])
		}
		return nil
	case "allow":
		list = &k.QueryAllow
	case "deny":
		list = &k.QueryDeny
	default:
		return d.Errf("query: unknown value %q: accepted are allow, deny and sort", kind)
	}
	switch {
	case *list != nil:
		return d.Errf("query %s: given more than once", kind)
	case len(names) == 0:
		return d.Errf("query %s: missing argument: it takes at least 1 value", kind)
	}
	if *list = names; k.QueryAllow != nil && k.QueryDeny != nil {
		return d.Err("query: allow and deny exclude each other")
	}
	return nil
}
