package caddyfile

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// maxServiceName is the length that a service's name may have, in bytes.
const maxServiceName = 64

// service is what stands behind /api/<name>/.
type service struct {
	name string
	// upstreams are scheme://host:port, all of one scheme.
	upstreams []string
	// prefix goes before the path of each request, percent-encoded, without a
	// slash at its end; mostly empty.
	prefix string
	// options are the lines of the block that the operator wrote for
	// reverse_proxy, each with its own arguments and block.
	options []caddyfile.Segment
	// discovered is set if the address stands for all those that the DNS has for
	// its name, looked up every refresh, or as often as by default if that is empty.
	discovered bool
	refresh    string
}

// several reports whether requests go to more than one address.
func (s *service) several() bool { return s.discovered || len(s.upstreams) > 1 }

// newService checks a name and the addresses that serve it. The errors say what
// is wrong and what is accepted, but not where it was written.
func newService(name string, addresses []string) (*service, error) {
	if err := checkServiceName(name); err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("service %s: no address: write it as http://host:port", name)
	}
	s := &service{name: name}
	scheme := ""
	for i, address := range addresses {
		u, err := parseAddress(address)
		if err != nil {
			return nil, fmt.Errorf("service %s: %s%w", name, ordinal(i, len(addresses)), err)
		}
		prefix := strings.TrimRight(u.EscapedPath(), "/")
		switch {
		case i == 0:
			scheme, s.prefix = u.Scheme, prefix
		case u.Scheme != scheme:
			return nil, fmt.Errorf("service %s: %sscheme %s: all addresses of a service have the same, and the first has %s",
				name, ordinal(i, len(addresses)), u.Scheme, scheme)
		case prefix != s.prefix:
			return nil, fmt.Errorf("service %s: %spath %q: all addresses of a service have the same, and the first has %q",
				name, ordinal(i, len(addresses)), prefix, s.prefix)
		}
		upstream := u.Scheme + "://" + u.Host
		if slices.Contains(s.upstreams, upstream) {
			return nil, fmt.Errorf("service %s: %s%s is given more than once", name, ordinal(i, len(addresses)), upstream)
		}
		s.upstreams = append(s.upstreams, upstream)
	}
	return s, nil
}

// ordinal says which of several addresses is meant.
func ordinal(i, of int) string {
	if of == 1 {
		return ""
	}
	return fmt.Sprintf("address %d of %d: ", i+1, of)
}

// checkServiceName accepts what is one path segment and means the same to every
// reader of a URL.
func checkServiceName(name string) error {
	ok := name != "" && len(name) <= maxServiceName && isAlphanumeric(name[0])
	for i := range len(name) {
		ok = ok && (isAlphanumeric(name[i]) || strings.IndexByte("-_.", name[i]) >= 0)
	}
	if !ok {
		return fmt.Errorf("service name %q: accepted are 1 to %d letters, digits, dashes, underscores and dots, a letter or digit first",
			name, maxServiceName)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// parseAddress reads the URL of a service. Its errors never repeat a URL in
// which there may be a password.
func parseAddress(address string) (*url.URL, error) {
	const accepted = "write it as http://host:port, https://host or h2c://host:port, with a path before it all if the service has one"
	if strings.ContainsAny(address, "{}") {
		return nil, errors.New("an address with a scheme cannot have a placeholder: write the address itself, or use {$VARIABLE}")
	}
	u, err := url.Parse(address)
	if err != nil {
		if strings.Contains(address, "@") {
			return nil, errors.New("the address cannot be read as a URL: " + accepted)
		}
		return nil, fmt.Errorf("%q is not a URL: %s", address, accepted)
	}
	switch {
	case u.User != nil:
		return nil, errors.New("the address has a user name or password in it: leave it out, and set the credentials with `header_up Authorization …` in the service's block")
	case u.Scheme == "" || u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not a URL: %s", address, accepted)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return nil, fmt.Errorf("%q: scheme %s is not accepted: %s", address, u.Scheme, accepted)
	case u.RawQuery != "" || u.ForceQuery:
		return nil, fmt.Errorf("%q: it has a query: leave it out, the query of each request is kept", address)
	case u.Fragment != "":
		return nil, fmt.Errorf("%q: it has a fragment: leave it out", address)
	case !isHost(u.Hostname()):
		return nil, fmt.Errorf("%q: %q is not a host: %s", address, u.Hostname(), accepted)
	}
	if strings.ContainsFunc(address, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil, fmt.Errorf("%q: it has a space or a control character in it", address)
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, fmt.Errorf("%q: it has a dot segment in its path: write the path that it leads to", address)
		}
	}
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return nil, fmt.Errorf("%q: there is no port behind the colon", address)
		}
		port = map[string]string{"http": "80", "https": "443", "h2c": "80"}[u.Scheme]
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return nil, fmt.Errorf("%q: port %s is not a number from 1 to 65535", address, port)
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return u, nil
}

// isHost accepts names and IP addresses, and leaves it to the resolver whether
// they exist. Underscores are not allowed in DNS, but used by Compose.
func isHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for i := range len(host) {
		if c := host[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// addService appends a service unless there is one of its name. Caddy's path
// matchers ignore case, and so does this.
func addService(services []*service, s *service) ([]*service, error) {
	for _, other := range services {
		if strings.EqualFold(other.name, s.name) {
			return nil, fmt.Errorf("service %s: given more than once: name all its addresses in one place", s.name)
		}
	}
	return append(services, s), nil
}
