package caddyfile

import (
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/logging"
)

func init() {
	caddy.RegisterModule(&CredentialsFilter{})
}

// credentialParameters are the query parameters in which credentials are
// commonly sent, in lower case.
var credentialParameters = []string{
	"access_token", "api-key", "api_key", "apikey", "assertion", "auth", "authorization", "bearer", "client_assertion", "client_secret", "code",
	"id_token", "jwt", "key", "passwd", "password", "refresh_token", "sas", "secret", "session", "sig", "signature", "subscription-key", "ticket",
	"token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-api-key",
}

// redacted stands in a log where there was a credential.
const redacted = "REDACTED"

// CredentialsFilter replaces the values of query parameters that hold
// credentials (RFC 6750 §2.3) in a URL of a log field, such as `request>uri` or
// `request>headers>Referer`. Names are compared decoded and in any case.
type CredentialsFilter struct {
	// Further names of query parameters, beside access_token, token, api_key,
	// code, password and the like. Default: none.
	Parameters []string `json:"parameters,omitempty"`

	names map[string]bool
}

// CaddyModule returns the Caddy module information.
func (*CredentialsFilter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.encoders.filter.credentials",
		New: func() caddy.Module { return new(CredentialsFilter) },
	}
}

// UnmarshalCaddyfile sets up the filter. Syntax:
//
//	<field> credentials [<parameter...>]
func (f *CredentialsFilter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the filter's name
	f.Parameters = d.RemainingArgs()
	return noBlock(d, "credentials")
}

// Provision prepares the names.
func (f *CredentialsFilter) Provision(caddy.Context) error {
	f.names = map[string]bool{}
	for _, name := range slices.Concat(credentialParameters, f.Parameters) {
		f.names[strings.ToLower(name)] = true
	}
	return nil
}

// Filter returns the field without credentials.
func (f *CredentialsFilter) Filter(in zapcore.Field) zapcore.Field {
	if array, ok := in.Interface.(caddyhttp.LoggableStringArray); ok {
		clean := make(caddyhttp.LoggableStringArray, len(array))
		for i, text := range array {
			clean[i] = f.redact(text)
		}
		in.Interface = clean
		return in
	}
	in.String = f.redact(in.String)
	return in
}

// redact replaces values in the query and in the fragment of a URL, as the text
// stands: what no parser of URLs would take is in a log too.
func (f *CredentialsFilter) redact(text string) string {
	at := strings.IndexAny(text, "?#")
	if at < 0 {
		return text
	}
	var b strings.Builder
	rest := text
	for at >= 0 {
		b.WriteString(rest[:at+1])
		rest = rest[at+1:]
		at = strings.IndexAny(rest, "?#&;")
		pair := rest
		if at >= 0 {
			pair = rest[:at]
		}
		name, _, ok := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			decoded = name
		}
		if ok && f.names[strings.ToLower(strings.TrimSpace(decoded))] {
			b.WriteString(name)
			b.WriteString("=" + redacted)
		} else {
			b.WriteString(pair)
		}
		if at >= 0 {
			rest = rest[len(pair):]
			at = 0
		}
	}
	return b.String()
}

// Interface guards
var (
	_ caddy.Provisioner      = (*CredentialsFilter)(nil)
	_ caddyfile.Unmarshaler  = (*CredentialsFilter)(nil)
	_ logging.LogFieldFilter = (*CredentialsFilter)(nil)
)
