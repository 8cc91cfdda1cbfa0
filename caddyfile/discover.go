package caddyfile

import (
	"net"
	"net/netip"
	"net/url"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

// unmarshalDiscover reads `discover dns [<interval>]`.
func (s *service) unmarshalDiscover(segment caddyfile.Segment) error {
	d := caddyfile.NewDispenser(segment)
	d.Next() // the option's name
	if s.discovered {
		return d.Err("discover: given more than once")
	}
	args, err := parse.Args(d, 1, 2)
	if err != nil {
		return err
	}
	if args[0] != "dns" {
		return d.WrapErr(parse.Mend("discover: %q: accepted is dns, with how often names are looked up: discover dns 5s; to use the address as it is, leave the line out", args[0]))
	}
	s.discovered = true
	if len(args) == 2 {
		if _, err := parse.Duration(args[1]); err != nil {
			return d.Errf("discover dns: %w", err)
		}
		s.refresh = args[1]
	}
	return noBlock(d, "discover")
}

// checkDiscovered refuses what cannot stand beside discover.
func (s *service) checkDiscovered(d *caddyfile.Dispenser) error {
	if !s.discovered {
		return nil
	}
	if len(s.upstreams) > 1 {
		return d.Errf("service %s: discover: it takes one address, whose name stands for all", s.name)
	}
	if _, err := netip.ParseAddr(s.hostname()); err == nil {
		return d.Errf("service %s: discover: %s is an address, and only a name can be looked up", s.name, s.hostname())
	}
	for _, option := range s.options {
		switch name := option.Directive(); name {
		case "dynamic", "to":
			return d.Errf("service %s: discover cannot be combined with %s: both say where the requests go", s.name, name)
		case "health_uri", "health_port", "health_interval", "health_timeout", "health_status", "health_body":
			return d.Errf("service %s: discover cannot be combined with %s: Caddy checks no addresses that are discovered. The circuit of each address leaves out those that fail", s.name, name)
		}
	}
	return nil
}

// address returns the host and the port of the first address.
func (s *service) address() string {
	u, err := url.Parse(s.upstreams[0])
	if err != nil {
		return "" // it was read before
	}
	return u.Host
}

func (s *service) hostname() string {
	host, _, _ := net.SplitHostPort(s.address())
	return host
}

// discovery returns the lines of reverse_proxy that look the name up. The services
// get the name in Host, as they do where it is connected to.
func (s *service) discovery() []statement {
	dynamic := statement{words: []string{"dynamic", "tentagate", s.address()}}
	if s.refresh != "" {
		dynamic.block = []statement{words("refresh", s.refresh)}
	}
	if _, secure := s.secureName(); secure {
		return []statement{dynamic, words("header_up", "Host", s.address())}
	}
	return []statement{dynamic}
}

// secureName returns the name that the certificate of a discovered service is
// for, as TLS connections go to addresses that are in no certificate.
func (s *service) secureName() (host string, secure bool) {
	if !s.discovered {
		return "", false
	}
	u, err := url.Parse(s.upstreams[0])
	return s.hostname(), err == nil && u.Scheme == "https"
}
