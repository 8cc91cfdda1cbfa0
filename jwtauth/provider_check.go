package jwtauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// resolve replaces the placeholders of all options but the keys, and checks what
// they became.
func (p *Provider) resolve() (err error) {
	for _, list := range []struct {
		option string
		values *[]string
	}{{"audience", &p.Audience}, {"algorithms", &p.Algorithms}, {"types", &p.Types}} {
		if *list.values, err = resolve.List(list.option, *list.values); err != nil {
			return err
		}
	}
	if err := checkTypes(p.Types); err != nil {
		return err
	}
	if err := p.checkTimes(); err != nil {
		return err
	}
	for _, audience := range p.Audience {
		if err := checkNotAny("audience", audience, "aud"); err != nil {
			return err
		}
	}
	if len(p.Types) == 0 {
		p.Types = defaultTypes
	}
	var issuers Issuers
	for _, text := range p.Issuer {
		// TenantID is the one placeholder of an issuer that is not Caddy's.
		repl := caddy.NewReplacer()
		repl.Set(strings.Trim(token.TenantID, "{}"), token.TenantID)
		value, err := resolve.AtLoadWith(repl, "issuer", text)
		if err != nil {
			return err
		}
		list := []string{value}
		if strings.Contains(text, "{env.") || strings.Contains(text, "{file.") {
			list = strings.Split(value, ",") // as one variable may hold several
		}
		before := len(issuers)
		for _, issuer := range list {
			if issuer = strings.TrimSpace(issuer); issuer == "" && len(list) > 1 {
				continue
			}
			if err := checkIssuer(issuer); err != nil {
				return err
			}
			issuers = append(issuers, issuer)
		}
		if len(issuers) == before {
			return fmt.Errorf("issuer: %q has no value: it takes values separated by commas", text)
		}
	}
	p.Issuer = issuers
	for _, one := range []struct {
		option string
		value  *string
	}{{"jwks", &p.JWKS}, {"discovery", &p.Discovery}, {"ca", &p.CA}, {"token_file", &p.TokenFile}} {
		if *one.value == "" {
			continue
		}
		if (one.option == "jwks" || one.option == "discovery") && len(resolve.Placeholders(*one.value)) > 0 {
			p.placeholder = *one.value
		}
		if *one.value, err = resolve.AtLoad(one.option, *one.value); err != nil {
			return err
		}
		*one.value = strings.TrimSpace(*one.value)
	}
	if err := p.checkAddress(); err != nil {
		return err
	}
	return p.checkAccess()
}

// checkIssuer refuses a value that no `iss` can equal.
func checkIssuer(issuer string) error {
	switch {
	case issuer == "":
		return errors.New("issuer: the value is empty")
	case strings.Count(issuer, token.TenantID) > 1:
		return fmt.Errorf("issuer: %q: %s can stand in it once", issuer, token.TenantID)
	}
	return checkNotAny("issuer", issuer, "iss")
}

// checkNotAny refuses a word that looks as if it accepted any value, and accepts
// none.
func checkNotAny(option, value, claim string) error {
	if isAny(value) {
		return fmt.Errorf("%s: %q is not the %s of any token, so that all would be refused: name those that are accepted, or leave the line out, which accepts any",
			option, value, claim)
	}
	return nil
}

// isAny reports whether a value looks as if it accepted any.
func isAny(value string) bool {
	return slices.Contains([]string{"any", "all", "*", "off", "none"}, strings.ToLower(value))
}

// CheckVariable refuses a value of a variable that looks as if it accepted any issuer
// or audience, and accepts none.
func CheckVariable(variable, value string) error {
	if isAny(value) {
		return fmt.Errorf("%s: %q would refuse every token: set it to what is accepted, or unset it, which accepts any", variable, value)
	}
	return nil
}

// checkTimes refuses times below zero, which would switch the check off.
func (p *Provider) checkTimes() error {
	for _, t := range []struct {
		option string
		value  caddy.Duration
	}{{"max_age", p.MaxAge}, {"max_lifetime", p.MaxLifetime}} {
		if t.value < 0 {
			return fmt.Errorf("%s: %s is below zero: accepted are durations, and 0 for no limit", t.option, time.Duration(t.value))
		}
	}
	return nil
}

// checkTypes refuses words that look as if they accepted any type, and accept none.
func checkTypes(types []string) error {
	for _, typ := range types {
		if isAny(typ) {
			return fmt.Errorf("types: %q is not the typ of any token, so that all would be refused: name those that are accepted, as in `types JWT at+jwt`, "+
				"or leave the line out", typ)
		}
	}
	return nil
}

// configurationPath is that of an issuer's configuration.
const configurationPath = "/.well-known/"

// checkAddress refuses addresses from which keys are not fetched.
func (p *Provider) checkAddress() error {
	option, address := "jwks", p.JWKS
	if p.Discovery != "" {
		option, address = "discovery", p.Discovery
	}
	if address == "" || option == "jwks" && !strings.Contains(address, "://") {
		return nil
	}
	if err := keyset.CheckURL(address, p.AllowHTTP); err != nil {
		of := ""
		if p.placeholder != "" {
			of = p.placeholder + ": "
		}
		if strings.HasPrefix(p.placeholder, "{env.JWT_") && strings.Contains(err.Error(), "`allow_http`") {
			err = fmt.Errorf("%w, or the variable JWT_ALLOW_HTTP=true", err)
		}
		return fmt.Errorf("%s: %s%q: %w", option, of, address, err)
	}
	issuer, rest, found := strings.Cut(address, configurationPath)
	configuration := found && (strings.HasPrefix(rest, "openid-configuration") || strings.HasPrefix(rest, "oauth-authorization-server"))
	switch {
	case option == "discovery" && found:
		return fmt.Errorf("discovery: %q: write the issuer alone, `discovery %s`: the gateway adds /.well-known/openid-configuration itself", address, issuer)
	case option == "jwks" && configuration:
		return fmt.Errorf("jwks: %q is the configuration of an issuer, not its keys: write `discovery %s`", address, issuer)
	}
	return nil
}

// checkAccess checks what is needed to reach the server of the keys.
func (p *Provider) checkAccess() error {
	address := p.Discovery
	if address == "" && strings.Contains(p.JWKS, "://") {
		address = p.JWKS
	}
	for _, given := range []struct{ option, value string }{{"ca", p.CA}, {"token_file", p.TokenFile}} {
		if given.value != "" && address == "" {
			return fmt.Errorf("%s: it is only accepted with the URL of a jwks or a discovery", given.option)
		}
	}
	if p.AllowHTTP && address == "" {
		return errors.New("allow_http: it is only accepted with the URL of a jwks or a discovery")
	}
	if p.CA != "" && !strings.HasPrefix(address, "https://") {
		return fmt.Errorf("ca: %q is not fetched over https", address)
	}
	if p.TokenFile != "" {
		if err := keyset.CheckToken(address); err != nil {
			return fmt.Errorf("token_file: %w", err)
		}
	}
	return keyset.CheckAccess(p.CA, p.TokenFile)
}

// Algorithms returns the signature algorithms that a provider accepts.
func Algorithms() []string { return slices.Clone(token.Algorithms) }

// CheckSecret refuses a secret that can be guessed. The error does not repeat it.
func CheckSecret(secret []byte) error { return keyset.CheckSecret(secret) }

// checkAlgorithms refuses unknown names and the mixture in which a public key
// could be taken for a secret (RFC 8725 §2.1).
func (p *Provider) checkAlgorithms() error {
	for _, a := range p.Algorithms {
		if !slices.Contains(token.Algorithms, a) {
			return fmt.Errorf("algorithms: %q is not accepted: accepted are %s", a, strings.Join(token.Algorithms, " "))
		}
		hmac := strings.HasPrefix(a, "HS")
		if hmac != strings.HasPrefix(p.Algorithms[0], "HS") {
			return fmt.Errorf("algorithms: %s beside %s: those of secrets and of public keys cannot be combined", a, p.Algorithms[0])
		}
		// A file may hold secrets too.
		file := p.JWKS != "" && !strings.Contains(p.JWKS, "://")
		if hmac != (len(p.Secrets) > 0) && !file {
			return fmt.Errorf("algorithms: %s does not fit the keys: secrets verify HS256, HS384 and HS512, public keys the others", a)
		}
	}
	return nil
}

// checkLiterals checks the literal values while a Caddyfile is parsed, so that the
// error names the option's own line. Values with placeholders are checked when the
// configuration loads.
func (p *Provider) checkLiterals() error {
	literal := func(texts ...string) bool {
		return len(texts) > 0 && !slices.ContainsFunc(texts, func(text string) bool { return len(resolve.Placeholders(text)) > 0 })
	}
	for _, c := range []struct {
		option string
		check  func() error
	}{
		{"algorithms", func() error {
			if !literal(p.Algorithms...) || !literal(p.JWKS) && p.JWKS != "" || p.checkKind() != nil {
				return nil
			}
			return p.checkAlgorithms()
		}},
		{"secret", func() error {
			if !literal(p.Algorithms...) && len(p.Algorithms) > 0 {
				return nil
			}
			for i, text := range p.Secrets {
				// Braces of a placeholder, or of the secret itself.
				if names := resolve.Placeholders(text); len(names) == 1 && text == "{"+names[0]+"}" || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ".") }) {
					continue
				}
				option := fmt.Sprintf("secret %d of %d", i+1, len(p.Secrets))
				secret, err := p.secret(option, text)
				if err != nil {
					return err
				}
				if _, err := keyset.Secrets([][]byte{secret}, p.Algorithms); err != nil {
					return fmt.Errorf("secret %d of %d: %w", i+1, len(p.Secrets), errors.Unwrap(err))
				}
			}
			return nil
		}},
		{"public_key", func() error {
			for i, text := range p.PublicKeys {
				if literal(text) && strings.Contains(text, "-----BEGIN") {
					if _, _, err := readPublicKey(fmt.Sprintf("public_key %d of %d", i+1, len(p.PublicKeys)), text, nil); err != nil {
						return err
					}
				}
			}
			return nil
		}},
		{"types", func() error { return checkTypes(p.Types) }},
		{"issuer", func() error {
			for _, issuer := range p.Issuer {
				if err := checkIssuer(strings.TrimSpace(issuer)); err != nil {
					return err
				}
				for _, name := range resolve.Placeholders(issuer) {
					if "{"+name+"}" != token.TenantID && !strings.Contains(name, ".") {
						_, err := resolve.AtLoad("issuer", issuer)
						return err
					}
				}
			}
			return nil
		}},
		{"audience", func() error {
			if literal(p.Audience...) {
				if _, err := resolve.List("audience", p.Audience); err != nil {
					return err
				}
				for _, audience := range p.Audience {
					if err := checkNotAny("audience", audience, "aud"); err != nil {
						return err
					}
				}
			}
			return nil
		}},
		{"jwks", func() error {
			if literal(p.JWKS) {
				return p.checkAddress()
			}
			return nil
		}},
		{"discovery", func() error {
			if literal(p.Discovery) {
				return p.checkAddress()
			}
			return nil
		}},
		{"base64", func() error {
			if p.Base64 && len(p.Secrets) == 0 {
				return errors.New("base64: it goes with secret")
			}
			return nil
		}},
	} {
		d, given := p.at[c.option]
		if !given {
			continue
		}
		if err := c.check(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}
