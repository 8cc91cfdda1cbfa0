package certstore

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// UnmarshalCaddyfile sets up the storage from the global option. Syntax:
//
//	storage tentagate {
//		redis <address...> {
//			… (as in the global option tentagate)
//		}
//		key        <key...>
//		timeout    <duration>
//		lock_lease <duration>
//	}
func (s *Storage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the module
	s.Position = place.Of(d)
	return parse.BlockAlone(d,
		app.RedisOption(&s.RedisConfig),
		parse.List("key", &s.Keys),
		parse.Value("timeout", &s.Timeout, parse.Duration),
		parse.Value("lock_lease", &s.LockLease, parse.Duration),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Storage)(nil)
