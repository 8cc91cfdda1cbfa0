// Package origin matches web origins (RFC 6454) against the patterns that an
// operator allows.
package origin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Set is a set of allowed origins.
type Set struct {
	// Any is true if every origin is allowed.
	Any bool

	exact    map[string]struct{}
	patterns []pattern
}

// pattern is an origin in which the first label or the port is open.
type pattern struct {
	scheme  string // with "://"
	host    string // the host, or what follows the open label with its dot
	open    bool   // any labels may stand before host
	inside  bool   // one label may, that begins with first and ends in last
	first   string
	last    string
	port    string // with ":", or "" for the scheme's own port
	anyPort bool
}

// Accepted describes the patterns for error messages.
const Accepted = "accepted are *, https://app.example.com, https://*.example.com, https://pr-*.example.com and http://localhost:*"

// Parse reads the allowed origins: `*`, exact origins, `https://*.example.com`
// for all subdomains at any depth (but not example.com itself),
// `https://pr-*.example.com` for those of one label that begins so, and `:*` for
// any port. Each is first brought into the form that Canonical gives it. `null`
// is refused: sandboxed documents and local files all share it.
func Parse(texts []string) (*Set, error) {
	s := &Set{exact: map[string]struct{}{}}
	for _, text := range texts {
		if text == "*" {
			s.Any = true
			continue
		}
		p, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w: %s", text, err, Accepted)
		}
		if p.open || p.inside || p.anyPort {
			s.patterns = append(s.patterns, p)
		} else {
			s.exact[p.String()] = struct{}{}
		}
	}
	if s.Any && len(texts) > 1 {
		return nil, errors.New("origin *: it allows every origin, leave the others out")
	}
	return s, nil
}

// Canonical returns the spelling of an origin that browsers send: letters in
// lower case, no trailing slash, no default port, an IPv6 address in its short
// form.
func Canonical(text string) (string, error) {
	if text == "*" {
		return text, nil
	}
	p, err := parse(text)
	if err != nil {
		return "", fmt.Errorf("origin %q: %w: %s", text, err, Accepted)
	}
	return p.String(), nil
}

func (p *pattern) String() string {
	s := p.scheme
	if p.open || p.inside {
		s += p.first + "*" + p.last
	}
	s += p.host
	if p.anyPort {
		return s + ":*"
	}
	return s + p.port
}

func parse(text string) (pattern, error) {
	var p pattern
	text = strings.ToLower(text)
	if text == "null" {
		return p, errors.New("null is not an origin to trust: every sandboxed page has it")
	}
	if strings.ContainsAny(text, `"'`) {
		return p, errors.New("write origins as they are, without brackets and quotes")
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return p, errors.New("it has no scheme, write https:// or http:// before it")
	}
	if !validScheme(scheme) {
		return p, errors.New("bad scheme")
	}
	p.scheme = scheme + "://"
	rest = strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(rest, "/?#@ \t,;") {
		return p, errors.New("an origin has no path, query or user, and one item holds one origin")
	}
	host, port, err := splitPort(rest)
	if err != nil {
		return p, err
	}
	if port == "*" {
		p.anyPort = true
	} else if port != "" && port != defaultPort(scheme) {
		if !validPort(port) {
			return p, errors.New("bad port: it is a number from 1 to 65535, or *")
		}
		p.port = ":" + port
	}
	if label, after, _ := strings.Cut(host, "."); strings.Contains(label, "*") {
		p.first, p.last, _ = strings.Cut(label, "*")
		p.open = label == "*"
		p.inside = !p.open
		if p.inside && !validName(p.first+"a"+p.last) {
			return p, errors.New("bad host: the first label may have one * among letters, digits and dashes")
		}
		host = after
		if !strings.Contains(host, ".") {
			return p, errors.New("the wildcard must stand before a domain of at least two labels")
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return p, errors.New("an IP address has no subdomains")
		}
	}
	if host, ok = canonicalHost(host); !ok || defaultPort(scheme) != "" && endsInNumber(host) {
		return p, errors.New("bad host: it is a name in ASCII (xn--… for others), an IPv4 address or a bracketed IPv6 address")
	}
	p.host = host
	if p.open || p.inside {
		p.host = "." + host
	}
	return p, nil
}

func splitPort(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", errors.New("bad IPv6 address")
		}
		host, rest := s[:end+1], s[end+1:]
		if rest == "" {
			return host, "", nil
		}
		if rest[0] != ':' || len(rest) == 1 {
			return "", "", errors.New("bad port")
		}
		return host, rest[1:], nil
	}
	host, port, found := strings.Cut(s, ":")
	if found && port == "" {
		return "", "", errors.New("bad port")
	}
	return host, port, nil
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c < 'a' || c > 'z' {
			if i == 0 || !(c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.') {
				return false
			}
		}
	}
	return s != ""
}

func validPort(s string) bool {
	n, err := strconv.Atoi(s) // fails for ""
	return err == nil && n >= 1 && n <= 65535 && s[0] != '0' && s[0] != '+'
}

// canonicalHost accepts a domain name in its ASCII form, an IPv4 address or a
// bracketed IPv6 address, and returns it as browsers write it.
func canonicalHost(host string) (string, bool) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", false
		}
		if v := addr.As16(); addr.Is4In6() { // browsers write it without dots
			return fmt.Sprintf("[::ffff:%x:%x]", int(v[12])<<8|int(v[13]), int(v[14])<<8|int(v[15])), true
		}
		return "[" + addr.String() + "]", true
	}
	return host, validName(host)
}

// endsInNumber reports whether browsers take a host for an IPv4 address, by its last label
// (WHATWG URL, "ends in a number"), and write it another way: 127.1 is 127.0.0.1.
func endsInNumber(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || strings.HasPrefix(host, "[") {
		return false
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if digits, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// maxName is the longest domain name (RFC 1035 §2.3.4), in bytes.
const maxName = 253

// validName accepts a domain name of lower-case ASCII labels.
func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// Allows reports whether the set has the origin, as the Origin field spells it.
// Origins are compared byte for byte, as the Fetch standard asks.
func (s *Set) Allows(origin string) bool {
	if s.Any {
		return true
	}
	if _, ok := s.exact[origin]; ok {
		return true
	}
	for i := range s.patterns {
		if s.patterns[i].matches(origin) {
			return true
		}
	}
	return false
}

func (p *pattern) matches(origin string) bool {
	rest, ok := strings.CutPrefix(origin, p.scheme)
	if !ok {
		return false
	}
	host, port := rest, ""
	// The last colon behind a bracket or in a name begins the port.
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i:]
	}
	if p.anyPort {
		if port != "" && !validPort(port[1:]) {
			return false
		}
	} else if port != p.port {
		return false
	}
	if !p.open && !p.inside {
		return host == p.host
	}
	label, ok := strings.CutSuffix(host, p.host)
	if !ok || len(host) > maxName || !validName(label) {
		return false
	}
	return p.open || len(label) > len(p.first)+len(p.last) && strings.HasPrefix(label, p.first) &&
		strings.HasSuffix(label, p.last) && strings.IndexByte(label, '.') < 0
}

// Suffixes returns the domains of the set's wildcard patterns.
func (s *Set) Suffixes() []string {
	var suffixes []string
	for _, p := range s.patterns {
		if p.open || p.inside {
			suffixes = append(suffixes, p.host[1:])
		}
	}
	return suffixes
}

// PublicSuffixes returns those of the domains under which anybody can register a name,
// such as github.io.
func (s *Set) PublicSuffixes() []string {
	return slices.DeleteFunc(s.Suffixes(), func(domain string) bool {
		suffix, _ := publicsuffix.PublicSuffix(domain)
		return suffix != domain
	})
}
