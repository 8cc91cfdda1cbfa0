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
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if err := parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for d.NextBlock(0) {
		var field *bool
		switch d.Val() {
		case "allow_encoded_slashes":
			field = &h.AllowEncodedSlashes
		case "keep_overrides":
			field = &h.KeepOverrides
		default:
			return parse.Unknown(d, "allow_encoded_slashes", "keep_overrides")
		}
		if err := seen.Once(d); err != nil {
			return err
		}
		if err := parse.NoArgs(d); err != nil {
			return err
		}
		*field = true
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
