package caddyfile

import (
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/resolve"
)

func init() {
	caddy.RegisterModule(&CredentialsFilter{})
}

// isCredential reports whether a header field holds credentials, in any spelling
// that services take for it. Caddy itself leaves out Authorization,
// Proxy-Authorization, Cookie and Set-Cookie.
func isCredential(name string) bool {
	name = fieldname.Hyphenated(name)
	return name == "Sec-Websocket-Protocol" || slices.Contains(credentials.Fields, name) || credentials.IsField(name) || credentials.IsName(name)
}

// addressFields are the header fields that hold a URL.
var addressFields = []string{
	"Content-Location", "Link", "Location", "Origin", "Referer", "Refresh", "X-Forwarded-Uri", "X-Original-Uri", "X-Original-Url", "X-Rewrite-Url",
}

// CredentialsFilter redacts credentials in a log field. In a URL, such as
// `request>uri`, it replaces the userinfo, as in `http://user:password@host/`, and the
// values of query parameters that hold credentials (RFC 6750 §2.3); names are compared decoded and in any case. In a header,
// `request>headers`, it does so in the fields that hold a URL, and replaces the
// fields that hold credentials. It knows the parameters and fields from which a
// jwt_auth of the process takes tokens.
//
//	log {
//		format filter {
//			request>uri credentials my_token
//			request>headers credentials
//		}
//	}
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
	for _, arg := range d.RemainingArgs() {
		// Lists in variables have spaces or commas between their entries.
		names := strings.FieldsFunc(arg, func(c rune) bool { return c == ',' || c == ' ' })
		if len(names) == 0 {
			return d.Errf("credentials: %q names no query parameter: write names with commas or spaces between them, or remove it", arg)
		}
		f.Parameters = append(f.Parameters, names...)
	}
	return noBlock(d, "credentials")
}

// Provision prepares the names.
func (f *CredentialsFilter) Provision(caddy.Context) error {
	f.names = map[string]bool{}
	parameters, err := resolve.List("credentials", f.Parameters)
	if err != nil {
		return err
	}
	for _, name := range parameters {
		f.names[strings.ToLower(name)] = true
	}
	return nil
}

// Filter returns the field without credentials.
func (f *CredentialsFilter) Filter(in zapcore.Field) zapcore.Field {
	if header, ok := in.Interface.(caddyhttp.LoggableHTTPHeader); ok {
		header.Header = f.redactHeader(header.Header)
		in.Interface = header
		return in
	}
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

// redactHeader returns the header without credentials.
func (f *CredentialsFilter) redactHeader(header http.Header) http.Header {
	clean := make(http.Header, len(header))
	for name, values := range header {
		switch {
		case isCredential(name):
			values = []string{credentials.Redacted}
		case slices.Contains(addressFields, name):
			values = slices.Clone(values)
			for i := range values {
				values[i] = f.redact(values[i])
			}
		}
		clean[name] = values
	}
	return clean
}

// redact replaces the credentials of a URL.
func (f *CredentialsFilter) redact(text string) string {
	return credentials.RedactURL(text, func(name string) bool { return f.names[name] || credentials.IsParameterName(name) })
}

// Interface guards
var (
	_ caddy.Provisioner      = (*CredentialsFilter)(nil)
	_ caddyfile.Unmarshaler  = (*CredentialsFilter)(nil)
	_ logging.LogFieldFilter = (*CredentialsFilter)(nil)
)
