package hostname

import (
	"net/http"
	"strconv"
	"strings"
)

// Reader returns the value of one placeholder for a request.
type Reader func(r *http.Request) string

// Placeholder returns a reader of the normal form of a host's placeholder, and false
// for any other placeholder. Keys use it instead of the replacer, which returns what
// the client wrote: `Acme.test`, `acme.test.` and `acme.test:80` are one host.
func Placeholder(name string) (Reader, bool) {
	switch name {
	case "http.request.host":
		return func(r *http.Request) string { return Host(r.Host) }, true
	case "http.request.hostport":
		return func(r *http.Request) string { return Normal(r.Host) }, true
	case "http.request.port":
		return port, true
	case "http.request.tls.server_name":
		return func(r *http.Request) string {
			if r.TLS == nil {
				return ""
			}
			return Host(r.TLS.ServerName)
		}, true
	}
	if field, ok := strings.CutPrefix(name, "http.request.header."); ok {
		// Proxies in front of the gateway put the client's host there.
		if field = http.CanonicalHeaderKey(field); field == "X-Forwarded-Host" || field == "X-Original-Host" {
			return func(r *http.Request) string { return Normal(strings.Join(r.Header[field], ",")) }, true
		}
	}
	if digits, ok := strings.CutPrefix(name, "http.request.host.labels."); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 0 {
			return func(r *http.Request) string { return label(r.Host, n) }, true
		}
	}
	return nil, false
}

// Form returns the function that brings the value of a host's placeholder into its
// normal form, for where only the value is known, and false for any other placeholder.
func Form(name string) (form func(value string) string, ok bool) {
	switch name {
	case "http.request.host", "http.request.tls.server_name":
		return Host, true
	case "http.request.hostport", "http.request.header.X-Forwarded-Host", "http.request.header.X-Original-Host":
		return Normal, true
	}
	return nil, false
}

// port includes the default port, so that `acme.test` and `acme.test:80` are equal.
func port(r *http.Request) string {
	if p := Port(r.Host); p != "" {
		return p
	}
	if r.TLS != nil {
		return "443"
	}
	return "80"
}
