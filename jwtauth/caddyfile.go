package jwtauth

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
)

// mainProvider is the name of a provider that is given none.
const mainProvider = "main"

func init() {
	httpcaddyfile.RegisterHandlerDirective(directive, func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	app.RegisterOption("jwt_provider", parseProviderOption)
}

// parseProviderOption reads the global `jwt_provider <name> { … }`.
func parseProviderOption(d *caddyfile.Dispenser) (string, any, error) {
	name, err := parse.OneArg(d)
	if err != nil {
		return "", nil, err
	}
	p := &Provider{Position: place.Of(d)}
	if err := p.unmarshalBlock(d); err != nil {
		return "", nil, err
	}
	return name, p, p.checkLiterals()
}

// providerOptions are the options of a provider.
var providerOptions = []string{
	"secret", "base64", "public_key", "jwks", "discovery", "allow_http", "ca", "token_file", "algorithms", "issuer", "audience",
	"leeway", "max_age", "max_lifetime", "optional_exp", "types", "numeric_sub",
}

var handlerOptions = []string{"provider", "require", "scopes", "roles", "roles_claim", "forward", "sources", "optional", "strip_token", "realm", "resource_metadata", "token_cache", "deny_list", "dpop", "certificate_bound", "ignore_confirmation"}

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
			return d.Errf("jwt_auth: %q is not a secret, and the check needs no word to be on: write {env.JWT_SECRET_KEY}, or a block with a secret, a public_key, a jwks or a discovery", args[0])
		case "off", "false", "no", "none", "disabled":
			return d.Errf("jwt_auth: %q is not a secret: leave the directive out where no token is needed", args[0])
		}
	}
	h.Providers = map[string]*Provider{}
	direct := new(Provider)
	isDirect := false
	seen := parse.Seen{}
	if len(args) == 1 {
		direct.Secrets, isDirect = args, true
		direct.stands("secret", d)
		seen["secret"] = struct{}{}
	}
	for d.NextBlock(0) {
		if slices.Contains(providerOptions, d.Val()) {
			isDirect = true
			if err := direct.unmarshalOption(d, seen); err != nil {
				return err
			}
			continue
		}
		if err := h.unmarshalOption(d, seen); err != nil {
			return err
		}
	}
	switch {
	case isDirect && len(h.Providers) > 0:
		return d.Err("jwt_auth: write the options of a provider in its block when there are `provider` blocks")
	case isDirect:
		h.Providers[mainProvider] = direct
	case len(h.Providers) == 0:
		return d.Err("jwt_auth: missing provider: give it a secret, a public_key, a jwks, a discovery or `provider <name>`")
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

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, seen parse.Seen) (err error) {
	switch option := d.Val(); option {
	case "provider":
		name, err := parse.OneArg(d)
		if err != nil {
			return err
		}
		if _, dup := h.Providers[name]; dup {
			return d.Errf("provider %s: given more than once", name)
		}
		p := &Provider{Position: place.Of(d)}
		nesting := d.Nesting()
		empty := true
		own := parse.Seen{}
		for d.NextBlock(nesting) {
			empty = false
			if err := p.unmarshalOption(d, own); err != nil {
				return err
			}
		}
		if empty {
			p = nil
		}
		h.Providers[name] = p
		return nil
	case "require":
		args, err := optionArgs(d, 1, -1)
		if err == nil {
			h.Require = append(h.Require, policy.Requirement{Path: args[0], Values: args[1:]})
		}
		return err
	case "scopes", "roles":
		args, err := optionArgs(d, 2, -1)
		if err != nil {
			return err
		}
		all := args[0] == "all"
		if !all && args[0] != "any" {
			return d.Errf("%s: %q: write `%s any …` or `%s all …`", option, args[0], option, option)
		}
		if option == "roles" {
			h.Roles = append(h.Roles, policy.Roles{All: all, Values: args[1:]})
		} else {
			h.Scopes = append(h.Scopes, policy.Scopes{All: all, Values: args[1:]})
		}
		return nil
	case "forward":
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
				return d.Errf("forward: %q cannot be set as a header field", f.Header)
			}
			if err := f.validate(); err != nil {
				return d.WrapErr(err)
			}
		}
		h.Forward = append(h.Forward, f)
		return nil
	}
	if err := seen.Once(d); err != nil {
		return err
	}
	switch d.Val() {
	case "sources":
		if h.Sources, err = optionArgs(d, 1, -1); err == nil {
			h.Sources = joinSchemes(h.Sources)
			if len(resolve.Placeholders(strings.Join(h.Sources, " "))) == 0 {
				if _, bad := parseSources(h.Sources); bad != nil {
					err = d.Err(bad.Error())
				}
			}
		}
	case "roles_claim":
		h.RolesClaim, err = optionArgs(d, 1, -1)
	case "optional":
		h.Optional, err = true, parse.NoArgs(d)
	case "strip_token":
		h.StripToken, err = true, parse.NoArgs(d)
	case "realm":
		var args []string
		if args, err = optionArgs(d, 1, 1); err == nil {
			h.Realm = args[0]
		}
	case "resource_metadata":
		h.ResourceMetadata, err = parseMetadata(d)
	case "token_cache":
		h.TokenCache, err = parseTokenCache(d)
	case "deny_list":
		h.DenyList, err = parseDenyList(d)
	case "dpop":
		h.DPoP, err = parseDPoP(d)
	case "certificate_bound":
		h.CertificateBound, err = parseCertificateBound(d)
	case "ignore_confirmation":
		h.IgnoreConfirmation, err = true, parse.NoArgs(d)
	default:
		err = parse.Unknown(d, append(slices.Clone(handlerOptions), providerOptions...)...)
	}
	return err
}

// optionArgs returns the arguments of an option that has no value by which it
// asks for nothing.
func optionArgs(d *caddyfile.Dispenser, minimum, maximum int) ([]string, error) {
	option, ahead := d.Val(), *d
	if rest := ahead.RemainingArgs(); len(rest) == 1 && rest[0] == "off" {
		return nil, d.Errf("%s: off is no value of it: leave the line out", option)
	}
	args, err := parse.Args(d, minimum, maximum)
	if err != nil {
		return nil, err
	}
	for _, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return nil, d.Errf("%s: an empty value: remove it, or the line", option)
		}
	}
	return args, nil
}

// optionArg is optionArgs for one argument.
func optionArg(d *caddyfile.Dispenser) (string, error) {
	args, err := optionArgs(d, 1, 1)
	if err != nil {
		return "", err
	}
	return args[0], nil
}

// parseTokenCache reads `off`, or a size and perhaps a number of tokens.
func parseTokenCache(d *caddyfile.Dispenser) (*TokenCache, error) {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return nil, err
	}
	if args[0] == "off" {
		if len(args) > 1 {
			return nil, d.Errf("token_cache: off takes no number of tokens")
		}
		return &TokenCache{Off: true}, nil
	}
	o := new(TokenCache)
	size, err := humanize.ParseBytes(args[0])
	if err != nil || size < minCacheBytes || size > 1<<40 {
		return nil, d.Errf("token_cache: %q is not a size of 1MiB or more, such as 32MiB, and not off", args[0])
	}
	o.MaxBytes = int64(size)
	if len(args) > 1 {
		if o.MaxEntries, err = strconv.Atoi(args[1]); err != nil || o.MaxEntries < 1 {
			return nil, d.Errf("token_cache: %q is not a number of tokens", args[1])
		}
	}
	return o, nil
}

func (p *Provider) unmarshalBlock(d *caddyfile.Dispenser) error {
	seen := parse.Seen{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := p.unmarshalOption(d, seen); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) unmarshalOption(d *caddyfile.Dispenser, seen parse.Seen) (err error) {
	if err = seen.Once(d); err != nil {
		return err
	}
	p.stands(d.Val(), d)
	switch d.Val() {
	case "secret":
		p.Secrets, err = optionArgs(d, 1, -1)
	case "base64":
		p.Base64, err = true, parse.NoArgs(d)
	case "public_key":
		p.PublicKeys, err = optionArgs(d, 1, -1)
	case "jwks":
		p.JWKS, err = optionArg(d)
	case "discovery":
		p.Discovery, err = optionArg(d)
	case "allow_http":
		p.AllowHTTP, err = true, parse.NoArgs(d)
	case "ca":
		p.CA, err = optionArg(d)
	case "token_file":
		p.TokenFile, err = optionArg(d)
	case "algorithms":
		p.Algorithms, err = optionArgs(d, 1, -1)
	case "issuer":
		p.Issuer, err = optionArgs(d, 1, -1)
	case "audience":
		p.Audience, err = optionArgs(d, 1, -1)
	case "leeway":
		err = p.unmarshalLeeway(d)
	case "max_age":
		p.MaxAge, err = parse.DurationOrOff(d)
	case "max_lifetime":
		p.MaxLifetime, err = parse.DurationOrOff(d)
	case "optional_exp":
		p.OptionalExpiry, err = true, parse.NoArgs(d)
	case "numeric_sub":
		p.NumericSubject, err = true, parse.NoArgs(d)
	case "types":
		p.Types, err = optionArgs(d, 1, -1)
	default:
		err = parse.Unknown(d, providerOptions...)
	}
	return err
}

// stands notes the place of an option.
func (p *Provider) stands(option string, d *caddyfile.Dispenser) {
	if p.at == nil {
		p.at = map[string]caddyfile.Dispenser{}
	}
	p.at[option] = *d
}

// unmarshalLeeway accepts zero and off too.
func (p *Provider) unmarshalLeeway(d *caddyfile.Dispenser) error {
	arg, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	if arg == "off" {
		arg = "0s"
	}
	v, err := caddy.ParseDuration(arg)
	if err != nil || v < 0 || v > maxLeeway {
		return d.Errf("leeway: %q is not a duration from 0s to 5m, nor off", arg)
	}
	leeway := caddy.Duration(v)
	p.Leeway = &leeway
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
