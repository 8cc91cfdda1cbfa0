package discovery

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// UnmarshalCaddyfile sets up the source. Syntax:
//
//	dynamic tentagate <name:port> {
//		refresh  <duration>
//		versions ipv4|ipv6
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the source's name
	s.Position = place.Of(d)
	address, err := parse.OneArg(d)
	if err != nil {
		return err
	}
	s.Address = address
	return parse.Block(d,
		parse.Value("refresh", &s.Refresh, parse.Duration),
		parse.Value("versions", &s.Versions, parse.OneOf("ipv4", "ipv6")),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Source)(nil)
