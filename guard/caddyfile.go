package guard

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	parse.RegisterOnce("guard", parse.Handler[Handler])
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	guard [<matcher>] {
//		allow_encoded_slashes
//		allow_path_parameters
//		allow_double_encoding
//		keep_overrides
//		keep_forwarded <field...>
//		upgrades       off|<protocol...>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	return parse.BlockAlone(d,
		parse.Flag("allow_encoded_slashes", &h.AllowEncodedSlashes),
		parse.Flag("allow_path_parameters", &h.AllowPathParameters),
		parse.Flag("allow_double_encoding", &h.AllowDoubleEncoding),
		parse.Flag("keep_overrides", &h.KeepOverrides),
		parse.List("keep_forwarded", &h.KeepForwarded).Then(h.checkOptions),
		parse.ListOrOff("upgrades", &h.Upgrades).Then(h.checkOptions),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
