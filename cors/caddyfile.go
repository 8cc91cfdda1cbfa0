package cors

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("cors", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	cors [<matcher>] [<origin...>] {
//		allowed_origins   <origin...>
//		allowed_methods   <method...>
//		allowed_headers   <name...>
//		exposed_headers   <name...>
//		allow_credentials
//		max_age           <duration>
//	}
//
// Origins may stand on the directive's line or in the block, not in both.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next() // the directive's name
	seen := parse.Seen{}
	if h.AllowedOrigins = d.RemainingArgs(); len(h.AllowedOrigins) > 0 {
		seen["allowed_origins"] = struct{}{}
	}
	for d.NextBlock(0) {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "allowed_origins":
			h.AllowedOrigins, err = parse.Args(d, 1, -1)
		case "allowed_methods":
			h.AllowedMethods, err = parse.Args(d, 1, -1)
			for i, method := range h.AllowedMethods {
				h.AllowedMethods[i] = strings.ToUpper(method)
			}
		case "allowed_headers":
			h.AllowedHeaders, err = parse.Args(d, 1, -1)
		case "exposed_headers":
			h.ExposedHeaders, err = parse.Args(d, 1, -1)
		case "allow_credentials":
			h.AllowCredentials, err = true, parse.NoArgs(d)
		case "max_age":
			h.MaxAge, err = parse.Duration(d)
		default:
			err = parse.Unknown(d, "allowed_origins", "allowed_methods", "allowed_headers", "exposed_headers", "allow_credentials", "max_age")
		}
		if err != nil {
			return err
		}
	}
	if len(h.AllowedOrigins) == 0 {
		return d.Err("cors: missing origins: write them on the line or as allowed_origins")
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
