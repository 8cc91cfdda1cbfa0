// Package hostname normalizes hosts, so that a key made of one is the same for all
// its spellings.
package hostname

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/internal/percent"
)

// Normal returns an authority (the value of Host or :authority) in the normal
// form of RFC 3986 §6.2.2 and §6.2.3: letters in lower case, escapes of
// unreserved characters decoded, no dot at the end, IPv6 addresses in their
// short form in brackets, and no port where it is empty or the default of http
// or https. Behind a proxy that ends TLS the scheme is not known for sure, so
// both default ports are left out whatever the scheme. A name in Unicode or
// punycode stays as it is.
//
// It allocates nothing if the authority is in that form already.
func Normal(authority string) string {
	host, port := split(authority)
	if port = trimZeros(port); port == "" || port == "80" || port == "443" {
		return name(host)
	}
	if name := name(host); len(name)+1+len(port) != len(authority) || name != authority[:len(name)] {
		return name + ":" + port
	}
	return authority
}

// Host is Normal without the port.
func Host(authority string) string {
	host, _ := split(authority)
	return name(host)
}

// Port returns the port of an authority without leading zeros, or "".
func Port(authority string) string {
	_, port := split(authority)
	return trimZeros(port)
}

// label returns the n-th label of the host, counted from 0 at the right.
func label(authority string, n int) string {
	host := Host(authority)
	for ; ; n-- {
		i := strings.LastIndexByte(host, '.')
		switch {
		case n == 0:
			return host[i+1:]
		case i < 0:
			return ""
		}
		host = host[:i]
	}
}

// split splits off the port, if there is a valid one.
func split(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 {
		return authority, ""
	}
	for _, c := range []byte(authority[i+1:]) {
		if c < '0' || c > '9' {
			return authority, ""
		}
	}
	if strings.IndexByte(authority, ':') != i && authority[i-1] != ']' {
		return authority, "" // an IPv6 address without brackets
	}
	return authority[:i], authority[i+1:]
}

func trimZeros(port string) string {
	for len(port) > 1 && port[0] == '0' {
		port = port[1:]
	}
	return port
}

// name returns the normal form of a host without its port.
func name(host string) string {
	if strings.IndexByte(host, '%') >= 0 {
		host = decode(host)
	}
	if strings.IndexByte(host, ':') >= 0 {
		return address(host)
	}
	host = strings.TrimRight(host, ".")
	for i := range len(host) {
		if c := host[i]; c >= 'A' && c <= 'Z' {
			return lower(host)
		}
	}
	return host
}

// address returns an IPv6 address in brackets and in its short form.
func address(host string) string {
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil || !addr.Is6() {
		return lower(host)
	}
	var array [64]byte
	b := append(addr.AppendTo(append(array[:0], '[')), ']')
	if string(b) == host {
		return host
	}
	return string(b)
}

// lower changes ASCII letters only.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// decode replaces the escapes of unreserved characters (RFC 3986 §6.2.2.2).
func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := percent.Decode(s[i:]); ok && percent.Unreserved(c) {
			b.WriteByte(c)
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

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
