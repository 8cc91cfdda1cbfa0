package cors

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
)

func init() {
	httpcaddyfile.RegisterDirective("cors", parseCaddyfile)
}

// parseCaddyfile is what httpcaddyfile.RegisterHandlerDirective does, but for
// one thing: it would take the `*` of `cors *` for a matcher of all requests,
// and leave no origin.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	star := h.NextArg() && h.Val() == "*"
	h.Reset()
	h.Next()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if err = handler.unmarshal(h.Dispenser, star); err != nil {
		return nil, err
	}
	return h.NewRoute(matcher, handler), nil
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
// Origins may stand on the directive's line or in the block, not in both. A `*`
// in the place of the matcher is the origin if no other is given.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, false)
}

// unmarshal parses the directive. With star, a `*` was taken off its line.
func (h *Handler) unmarshal(d *caddyfile.Dispenser, star bool) (err error) {
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
	if len(h.AllowedOrigins) == 0 && star {
		h.AllowedOrigins = []string{"*"}
	}
	if len(h.AllowedOrigins) == 0 {
		return d.Err("cors: missing origins: write them on the line or as allowed_origins")
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
