package jwtauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// provisionProviders finds the providers and their keys, in the order of their
// names.
func (h *Handler) provisionProviders(ctx caddy.Context, a *app.App) error {
	h.byIssuer = map[string]*Provider{}
	for _, name := range slices.Sorted(maps.Keys(h.Providers)) {
		p, err := h.provider(a, name)
		if err == nil {
			h.providers = append(h.providers, p)
			err = h.provisionProvider(p, name)
		}
		if err != nil {
			err = fmt.Errorf("provider %s: %w", name, err)
			if p != nil && p.Position != "" {
				return place.Error(ctx, directive, p.Position, err)
			}
			return err
		}
		if remote, ok := p.source.(*keyset.Remote); ok {
			a.OnStart(remote.Start)
		}
	}
	return nil
}

// provider returns the provider of a name, which may be defined for all
// handlers.
func (h *Handler) provider(a *app.App, name string) (*Provider, error) {
	if p := h.Providers[name]; p != nil {
		return p, nil
	}
	raw, ok := a.Shared("jwt_provider", name)
	if !ok {
		known := "none is defined"
		if defined := slices.Sorted(maps.Keys(a.SharedOptions["jwt_provider"])); len(defined) > 0 {
			known = "defined are " + strings.Join(defined, ", ")
		}
		return nil, fmt.Errorf("the global option `tentagate { jwt_provider %s { … } }` does not define it: %s", name, known)
	}
	return sharedProvider(raw)
}

// sharedProvider reads a provider of the global option as strictly as Caddy reads
// a module: an option that is misspelt would be a check that is off.
func sharedProvider(raw json.RawMessage) (*Provider, error) {
	p := new(Provider)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkShared checks a provider of the global option, which no handler may use.
func checkShared(ctx caddy.Context, name string, raw json.RawMessage) error {
	p, err := sharedProvider(raw)
	if err != nil {
		return fmt.Errorf("jwt_provider %s: %w", name, err)
	}
	if err = p.checkKind(); err == nil {
		err = p.resolve()
	}
	if err == nil {
		err = p.checkAlgorithms()
	}
	return place.Error(ctx, "jwt_provider "+name, p.Position, err)
}

func (h *Handler) provisionProvider(p *Provider, name string) error {
	if err := p.provision(name, h.logger); err != nil {
		return err
	}
	if len(h.Providers) > 1 && len(p.rules.Issuers) == 0 {
		return fmt.Errorf("issuer: missing: with several providers it selects one")
	}
	for _, issuer := range p.rules.Issuers {
		if other, taken := h.byIssuer[issuer]; taken {
			return fmt.Errorf("issuer: provider %s has the same, %s: it selects one of them", other.name, issuer)
		}
		h.byIssuer[issuer] = p
	}
	return nil
}

// providerOf returns the provider for tokens with this `iss`, or nil. One that
// names the issuer comes before one that accepts every tenant.
func (h *Handler) providerOf(iss string) *Provider {
	if p := h.byIssuer[iss]; p != nil {
		if _, exact := p.rules.Selects(iss); exact {
			return p
		}
	}
	for _, p := range h.providers {
		if selects, _ := p.rules.Selects(iss); selects {
			return p
		}
	}
	return nil
}
