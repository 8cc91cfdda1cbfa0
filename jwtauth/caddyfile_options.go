package jwtauth

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/resolve"
)

// The largest size, and the largest number of tokens, that token_cache accepts.
const (
	maxCacheBytes   = 1 << 40
	maxCacheEntries = 1_000_000_000
)

// optionArgs returns the arguments of an option that cannot be switched off.
func optionArgs(d *caddyfile.Dispenser, minimum, maximum int) ([]string, error) {
	option, ahead := d.Val(), *d
	if rest := ahead.RemainingArgs(); len(rest) == 1 && rest[0] == "off" {
		return nil, d.WrapErr(parse.Mend("%s: off is not a value: leave the line out", option))
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

// textOption is parse.Value for a text of an option that cannot be switched off.
func textOption(name string, to *string) parse.Option {
	return parse.Value(name, to, parse.Text).NotOff()
}

// unmarshalTokenCache reads `off`, or a size and perhaps a number of tokens.
func (h *Handler) unmarshalTokenCache(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	if args[0] == "off" {
		if len(args) > 1 {
			return d.Errf("token_cache: off takes no number of tokens")
		}
		h.TokenCache = &TokenCache{Off: true}
		return nil
	}
	o := new(TokenCache)
	if o.MaxBytes, err = parse.SizeOrOff(args[0]); err != nil || o.MaxBytes < minCacheBytes || o.MaxBytes > maxCacheBytes {
		return d.WrapErr(parse.OrOff("token_cache: %q is not a size of 1MiB or more, such as 32MiB", args[0]))
	}
	if len(args) > 1 {
		if o.MaxEntries, err = parse.Int(1, maxCacheEntries)(args[1]); err != nil {
			return d.Errf("token_cache: %q is not a number of tokens", args[1])
		}
	}
	h.TokenCache = o
	return nil
}

func (h *Handler) unmarshalDenyList(d *caddyfile.Dispenser) error {
	o, head := new(DenyList), parse.Head(d)
	err := parse.BlockAlone(d,
		parse.Value("max_entries", &o.MaxEntries, parse.Int(1, 10_000_000)),
		parse.Value("ttl", &o.TTL, parse.Duration),
		parse.Value("on_store_error", &o.OnStoreError, storeErrors),
	)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return head.Errf("deny_list: %w", err)
	}
	h.DenyList = o
	return nil
}

func (h *Handler) unmarshalDPoP(d *caddyfile.Dispenser) error {
	o, head := new(DPoP), parse.Head(d)
	err := parse.BlockAlone(d,
		parse.Flag("required", &o.Required),
		parse.List("algorithms", &o.Algorithms).Then(o.checkAlgorithms),
		parse.Value("max_age", &o.MaxAge, parse.Duration),
		parse.List("origins", &o.Origins).Then(o.checkOrigins),
		parse.Func("nonce", o.unmarshalNonce).NotOff(),
		parse.Value("max_proofs", &o.MaxProofs, parse.Int(1, maxProofs)),
	)
	if err != nil {
		return err
	}
	h.DPoP = o
	if len(resolve.Placeholders(strings.Join(slices.Concat(o.Algorithms, o.Origins), " "))) > 0 {
		return nil // checked when they have values
	}
	if err := o.validate(); err != nil {
		return head.Errf("dpop: %w", err)
	}
	return nil
}

// checkAlgorithms checks those that have no placeholders, so that an error names the line
// of the option.
func (o *DPoP) checkAlgorithms() error {
	if len(resolve.Placeholders(strings.Join(o.Algorithms, " "))) > 0 {
		return nil
	}
	return wrap("dpop", (&DPoP{Algorithms: o.Algorithms}).validate())
}

// checkOrigins is checkAlgorithms for origins.
func (o *DPoP) checkOrigins() error {
	if len(resolve.Placeholders(strings.Join(o.Origins, " "))) > 0 {
		return nil
	}
	return wrap("dpop", (&DPoP{Origins: o.Origins}).validate())
}

// unmarshalNonce reads `nonce`, and the secrets behind it.
func (o *DPoP) unmarshalNonce(d *caddyfile.Dispenser) (err error) {
	o.Nonce = true
	if o.NonceSecrets, err = parse.Args(d, 0, -1); err != nil || len(resolve.Placeholders(strings.Join(o.NonceSecrets, " "))) > 0 {
		return err
	}
	if _, err := resolveNonceSecrets(o.NonceSecrets); err != nil {
		return d.Errf("dpop: %w", err)
	}
	return nil
}

// unmarshalMetadata reads the address of a document, or a block.
func (h *Handler) unmarshalMetadata(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	m, head := new(Metadata), parse.Head(d)
	if len(args) == 1 {
		m.URL = args[0]
	}
	err = parse.Block(d,
		textOption("resource", &m.Resource),
		parse.List("authorization_servers", &m.AuthorizationServers),
		parse.List("scopes_supported", &m.ScopesSupported),
	)
	if err != nil {
		return err
	}
	if (m.URL == "") == (m.Resource == "") || m.URL != "" && len(m.AuthorizationServers)+len(m.ScopesSupported) > 0 {
		return head.Err("resource_metadata: give it either the address of a document or a block with a resource")
	}
	h.ResourceMetadata = m
	return nil
}

// unmarshalCertificateBound reads `certificate_bound` and `certificate_bound required`.
func (h *Handler) unmarshalCertificateBound(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 && args[0] != "required" {
		return d.Errf("certificate_bound: %q: it takes nothing, or `required`", args[0])
	}
	h.CertificateBound = &CertificateBound{Required: len(args) == 1}
	return nil
}
