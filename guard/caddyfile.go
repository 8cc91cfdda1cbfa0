package guard

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("guard", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
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
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	if err = parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for d.NextBlock(0) {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "allow_encoded_slashes":
			h.AllowEncodedSlashes, err = true, parse.NoArgs(d)
		case "allow_path_parameters":
			h.AllowPathParameters, err = true, parse.NoArgs(d)
		case "allow_double_encoding":
			h.AllowDoubleEncoding, err = true, parse.NoArgs(d)
		case "keep_overrides":
			h.KeepOverrides, err = true, parse.NoArgs(d)
		case "upgrades":
			h.Upgrades, err = parse.Args(d, 1, -1)
			err = literal(d, h, err)
		case "keep_forwarded":
			h.KeepForwarded, err = parse.Args(d, 1, -1)
			err = literal(d, h, err)
		default:
			err = parse.Unknown(d, "allow_encoded_slashes", "allow_path_parameters", "allow_double_encoding",
				"keep_overrides", "keep_forwarded", "upgrades")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// literal checks an option while its line is known.
func literal(d *caddyfile.Dispenser, h *Handler, err error) error {
	if err == nil {
		if err = h.checkOptions(); err != nil {
			return d.Errf("%v", err)
		}
	}
	return err
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
