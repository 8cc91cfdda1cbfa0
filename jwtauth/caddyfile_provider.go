package jwtauth

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// mainProvider is the name of a provider that is given none.
const mainProvider = "main"

func init() {
	app.RegisterOption("jwt_provider", parseProviderOption)
	app.RegisterCheck("jwt_provider", checkShared)
}

// parseProviderOption reads the global `jwt_provider <name> { … }`.
func parseProviderOption(d *caddyfile.Dispenser) (string, any, error) {
	name, err := parse.OneText(d)
	if err != nil {
		return "", nil, err
	}
	p := &Provider{Position: place.Of(d)}
	if err := parse.Block(d, p.options()...); err != nil {
		return "", nil, err
	}
	return name, p, p.checkLiterals()
}

// options are those of a provider. Each notes where it stands.
func (p *Provider) options() []parse.Option {
	options := []parse.Option{
		parse.List("secret", &p.Secrets).Given(len(p.Secrets) > 0),
		parse.Flag("base64", &p.Base64),
		parse.List("public_key", &p.PublicKeys),
		textOption("jwks", &p.JWKS),
		textOption("discovery", &p.Discovery),
		parse.Flag("allow_http", &p.AllowHTTP),
		textOption("ca", &p.CA),
		textOption("token_file", &p.TokenFile),
		parse.List("algorithms", &p.Algorithms),
		parse.List("issuer", &p.Issuer),
		parse.List("audience", &p.Audience),
		parse.Value("leeway", &p.Leeway, leeway),
		parse.Value("max_age", &p.MaxAge, parse.DurationOrOff),
		parse.Value("max_lifetime", &p.MaxLifetime, parse.DurationOrOff),
		parse.Flag("optional_exp", &p.OptionalExpiry),
		parse.List("types", &p.Types),
		parse.Flag("numeric_sub", &p.NumericSubject),
	}
	for i := range options {
		options[i] = options[i].Where(p.noteOption)
	}
	return options
}

// noteOption notes where an option stands.
func (p *Provider) noteOption(name string, d *caddyfile.Dispenser) {
	if p.at == nil {
		p.at = map[string]caddyfile.Dispenser{}
	}
	p.at[name] = *d
}

func leeway(text string) (*caddy.Duration, error) {
	v, err := parse.DurationOrOff(text)
	if err != nil || time.Duration(v) > maxLeeway {
		return nil, parse.OrOff("%q is not a duration of at most 5m, such as 30s", text)
	}
	return &v, nil
}
