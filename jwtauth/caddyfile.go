package jwtauth

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
)

func init() {
	parse.Register(directive, parse.Handler[Handler])
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	jwt_auth [<matcher>] [<secret>] {
//		provider <name> {
//			secret       <secret...>
//			base64
//			public_key   <pem|file...>
//			jwks         <file|url>
//			discovery    <issuer>
//			allow_http
//			ca           <file>
//			token_file   <file>
//			algorithms   <name...>
//			issuer       <iss...>
//			audience     <aud...>
//			leeway       <duration>
//			max_age      <duration>
//			max_lifetime <duration>
//			optional_exp
//			types        <typ...>
//			numeric_sub
//		}
//		require <claim> [<value...>]
//		scopes  any|all <scope...>
//		roles   any|all <role...>
//		roles_claim <claim...>
//		forward <claim> <header> [json]
//		sources <source...>
//		optional
//		strip_token
//		realm   <realm>
//		resource_metadata <url> | {
//			resource <url>
//			authorization_servers <issuer...>
//			scopes_supported <scope...>
//		}
//		token_cache off | <size> [<entries>]
//		deny_list {
//			max_entries    <n>
//			ttl            <duration>
//			on_store_error allow|deny
//		}
//		dpop {
//			required
//			algorithms <name...>
//			max_age    <duration>
//			origins    <url...>
//			nonce      [<secret...>]
//			max_proofs <n>
//		}
//		certificate_bound [required]
//		ignore_confirmation
//	}
//
// With one provider its options may stand directly in the block. A `provider`
// without a block is one that the global option `jwt_provider` defines.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		switch strings.ToLower(args[0]) {
		case "on", "true", "yes", "enabled":
			return d.Errf("jwt_auth: %q is not a secret, and no argument is needed to switch the check on: write {env.JWT_SECRET_KEY}, or a block with a secret, a public_key, a jwks or a discovery", args[0])
		case "off", "false", "no", "none", "disabled":
			return d.Errf("jwt_auth: %q is not a secret: leave the directive out where no token is needed", args[0])
		}
	}
	h.Providers = map[string]*Provider{}
	direct := new(Provider)
	if len(args) == 1 {
		direct.Secrets = args
		direct.noteOption("secret", d)
	}
	head := parse.Head(d)
	if err := parse.Block(d, append(h.options(), direct.options()...)...); err != nil {
		return err
	}
	isDirect := len(direct.at) > 0
	switch {
	case isDirect && len(h.Providers) > 0:
		return head.Err("jwt_auth: write the options of a provider in its block when there are `provider` blocks")
	case isDirect:
		h.Providers[mainProvider] = direct
	case len(h.Providers) == 0:
		return head.Err("jwt_auth: missing provider: give it a secret, a public_key, a jwks, a discovery or `provider <name>`")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Providers)) {
		if p := h.Providers[name]; p != nil {
			if err := p.checkLiterals(); err != nil {
				return err
			}
		}
	}
	return nil
}

// options are those of the handler alone.
func (h *Handler) options() []parse.Option {
	return []parse.Option{
		parse.Func("provider", h.unmarshalProvider).Repeatable(),
		parse.Func("require", h.unmarshalRequire).Repeatable(),
		parse.Func("scopes", func(d *caddyfile.Dispenser) error {
			all, values, err := anyOrAll(d)
			h.Scopes = append(h.Scopes, policy.Scopes{All: all, Values: values})
			return err
		}).Repeatable(),
		parse.Func("roles", func(d *caddyfile.Dispenser) error {
			all, values, err := anyOrAll(d)
			h.Roles = append(h.Roles, policy.Roles{All: all, Values: values})
			return err
		}).Repeatable(),
		parse.List("roles_claim", &h.RolesClaim),
		parse.Func("forward", h.unmarshalForward).Repeatable(),
		parse.List("sources", &h.Sources).Then(h.checkSources),
		parse.Flag("optional", &h.Optional),
		parse.Flag("strip_token", &h.StripToken),
		textOption("realm", &h.Realm),
		parse.Func("resource_metadata", h.unmarshalMetadata).NotOff(),
		parse.Func("token_cache", h.unmarshalTokenCache),
		parse.Func("deny_list", h.unmarshalDenyList),
		parse.Func("dpop", h.unmarshalDPoP),
		parse.Func("certificate_bound", h.unmarshalCertificateBound).NotOff(),
		parse.Flag("ignore_confirmation", &h.IgnoreConfirmation),
	}
}

// unmarshalProvider reads `provider <name>`, with a block or as a reference to a
// global jwt_provider.
func (h *Handler) unmarshalProvider(d *caddyfile.Dispenser) error {
	name, err := parse.OneText(d)
	if err != nil {
		return err
	}
	if _, dup := h.Providers[name]; dup {
		return d.Errf("provider %s: given more than once", name)
	}
	p := &Provider{Position: place.Of(d)}
	if err := parse.Block(d, p.options()...); err != nil {
		return err
	}
	if len(p.at) == 0 {
		p = nil
	}
	h.Providers[name] = p
	return nil
}

func (h *Handler) unmarshalRequire(d *caddyfile.Dispenser) error {
	args, err := optionArgs(d, 1, -1)
	if err == nil {
		h.Require = append(h.Require, policy.Requirement{Path: args[0], Values: args[1:]})
	}
	return err
}

// anyOrAll reads `scopes any read write` and `roles all admin auditor`.
func anyOrAll(d *caddyfile.Dispenser) (all bool, values []string, err error) {
	option := d.Val()
	args, err := optionArgs(d, 2, -1)
	if err != nil {
		return false, nil, err
	}
	if all = args[0] == "all"; !all && args[0] != "any" {
		return false, nil, d.Errf("%s: %q: write `%s any …` or `%s all …`", option, args[0], option, option)
	}
	return all, args[1:], nil
}

func (h *Handler) unmarshalForward(d *caddyfile.Dispenser) error {
	args, err := optionArgs(d, 2, 3)
	if err != nil {
		return err
	}
	f := Forward{Claim: args[0], Header: args[1]}
	if len(args) > 2 {
		f.Format = args[2]
	}
	if len(resolve.Placeholders(f.Header)) == 0 {
		if !validField(f.Header) {
			return d.Errf("forward: %q cannot be set as a header field: accepted are names of letters, digits and dashes, but none of the connection such as Host", f.Header)
		}
		if err := f.validate(); err != nil {
			return d.WrapErr(err)
		}
	}
	if slices.ContainsFunc(h.Forward, func(other Forward) bool { return strings.EqualFold(other.Header, f.Header) }) {
		return d.Errf("forward: two claims go to the field %s, of which it can have one: give each its own", f.Header)
	}
	h.Forward = append(h.Forward, f)
	return nil
}

// checkSources also joins schemes to the header they are in.
func (h *Handler) checkSources() error {
	h.Sources = joinSchemes(h.Sources)
	if len(resolve.Placeholders(strings.Join(h.Sources, " "))) > 0 {
		return nil // checked when they have values
	}
	_, err := parseSources(h.Sources)
	return err
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
