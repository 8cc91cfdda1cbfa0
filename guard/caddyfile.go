package guard

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
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
//		keep_overrides
//		upgrades off|<protocol...>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next() // the directive's name
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
		case "keep_overrides":
			h.KeepOverrides, err = true, parse.NoArgs(d)
		case "upgrades":
			h.Upgrades, err = parse.Args(d, 1, -1)
		default:
			err = parse.Unknown(d, "allow_encoded_slashes", "keep_overrides", "upgrades")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
