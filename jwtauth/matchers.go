package jwtauth

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

func init() {
	caddy.RegisterModule(&MatchClaim{})
	caddy.RegisterModule(&MatchScope{})
}

// claimsOf returns the claims of the token that jwt_auth accepted.
func claimsOf(r *http.Request) (token.Claims, bool) {
	s := requeststate.Peek(r)
	if s == nil {
		return nil, false
	}
	v, ok := s.Token.(*verified)
	if !ok {
		return nil, false
	}
	return v.claims, true
}

// MatchClaim matches requests whose token, accepted by a jwt_auth before, meets
// every requirement of the list. Without such a token it never matches.
//
//	@gold jwt_claim plan gold
//	header @gold X-Plan gold
type MatchClaim []policy.Requirement

// MatchScope matches requests whose token, accepted by a jwt_auth before, has
// the scopes of every item of the list. Without such a token it never matches.
//
//	@writers jwt_scope orders:write
//	header @writers X-May-Write yes
type MatchScope []policy.Scopes

// CaddyModule returns the Caddy module information.
func (*MatchClaim) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.jwt_claim", New: func() caddy.Module { return new(MatchClaim) }}
}

// CaddyModule returns the Caddy module information.
func (*MatchScope) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.jwt_scope", New: func() caddy.Module { return new(MatchScope) }}
}

// UnmarshalCaddyfile sets up the matcher. Syntax:
//
//	jwt_claim <claim> [<value...>]
//
// One of the values suffices, in which * stands for any run of characters; a
// single * accepts any value. Of several lines, all must match.
func (m *MatchClaim) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		args, err := lineOf(d)
		if err != nil {
			return err
		}
		*m = append(*m, policy.Requirement{Path: args[0], Values: args[1:], Position: place.Of(d)})
	}
	return nil
}

// UnmarshalCaddyfile sets up the matcher. Syntax:
//
//	jwt_scope <scope...>
//
// One of the scopes suffices. Of several lines, all must match.
func (m *MatchScope) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		args, err := lineOf(d)
		if err != nil {
			return err
		}
		if len(resolve.Placeholders(strings.Join(args, " "))) == 0 {
			if err := checkScopes("jwt_scope", args); err != nil {
				return d.WrapErr(err)
			}
		}
		*m = append(*m, policy.Scopes{Values: args, Position: place.Of(d)})
	}
	return nil
}

// lineOf returns the arguments of a matcher's line, which has no block.
func lineOf(d *caddyfile.Dispenser) ([]string, error) {
	name := d.Val()
	args, err := optionArgs(d, 1, -1)
	if err == nil && d.NextBlock(d.Nesting()) {
		err = d.Errf("%s: it takes no block", name)
	}
	return args, err
}

// Provision resolves placeholders.
func (m *MatchClaim) Provision(ctx caddy.Context) (err error) {
	for i := range *m {
		r := &(*m)[i]
		if r.Path != "" {
			if r.Path, err = resolve.AtLoad("claim", r.Path); err != nil {
				return place.Error(ctx, "jwt_claim", r.Position, err)
			}
		}
		if r.Values, err = values("values", r.Values); err != nil {
			return place.Error(ctx, "jwt_claim", r.Position, err)
		}
		warnOfEmpty(ctx.Logger(), r, r.Position)
	}
	return nil
}

// Provision resolves placeholders.
func (m *MatchScope) Provision(ctx caddy.Context) (err error) {
	for i := range *m {
		s := &(*m)[i]
		s.Values, err = values("scopes", s.Values)
		if err == nil {
			err = checkScopes("scopes", s.Values)
		}
		if err != nil {
			return place.Error(ctx, "jwt_scope", s.Position, err)
		}
	}
	return nil
}

// Validate refuses a matcher that asks for nothing.
func (m *MatchClaim) Validate() error {
	if len(*m) == 0 {
		return errors.New("jwt_claim: missing claim")
	}
	for _, r := range *m {
		if r.Path == "" {
			return errors.New("jwt_claim: the path of a claim is empty")
		}
	}
	return nil
}

// Validate refuses a matcher that asks for nothing.
func (m *MatchScope) Validate() error {
	if len(*m) == 0 {
		return errors.New("jwt_scope: missing scope")
	}
	for _, s := range *m {
		if err := checkScopes("jwt_scope", s.Values); err != nil {
			return err
		}
	}
	return nil
}

// MatchWithError reports whether the token meets the requirements.
func (m *MatchClaim) MatchWithError(r *http.Request) (bool, error) {
	claims, ok := claimsOf(r)
	for i := range *m {
		ok = ok && (*m)[i].Met(claims)
	}
	return ok, nil
}

// MatchWithError reports whether the token has the scopes.
func (m *MatchScope) MatchWithError(r *http.Request) (bool, error) {
	claims, ok := claimsOf(r)
	for i := range *m {
		ok = ok && (*m)[i].Met(claims)
	}
	return ok, nil
}

// Interface guards
var (
	_ caddyhttp.RequestMatcherWithError = (*MatchClaim)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchScope)(nil)
	_ caddyfile.Unmarshaler             = (*MatchClaim)(nil)
	_ caddyfile.Unmarshaler             = (*MatchScope)(nil)
	_ caddy.Provisioner                 = (*MatchClaim)(nil)
	_ caddy.Provisioner                 = (*MatchScope)(nil)
	_ caddy.Validator                   = (*MatchClaim)(nil)
	_ caddy.Validator                   = (*MatchScope)(nil)
)
