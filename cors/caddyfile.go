package cors

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/origin"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
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
//		allowed_methods   <method...>|off
//		allowed_headers   <name...>|off
//		exposed_headers   <name...>|off
//		allow_credentials
//		max_age           <duration>|off
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
	h.Position = place.Of(d)
	seen := parse.Seen{}
	if h.AllowedOrigins = d.RemainingArgs(); len(h.AllowedOrigins) > 0 {
		seen["allowed_origins"] = struct{}{}
		if err = checkOrigins(d, h.AllowedOrigins); err != nil {
			return err
		}
	}
	for d.NextBlock(0) {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "allowed_origins":
			if h.AllowedOrigins, err = parse.Args(d, 1, -1); err == nil {
				err = checkOrigins(d, h.AllowedOrigins)
			}
		case "allowed_methods":
			h.AllowedMethods, err = nameArgs(d)
			for i, method := range h.AllowedMethods {
				if method != off && !strings.Contains(method, "{") {
					h.AllowedMethods[i] = strings.ToUpper(method)
				}
			}
		case "allowed_headers":
			h.AllowedHeaders, err = nameArgs(d)
		case "exposed_headers":
			h.ExposedHeaders, err = nameArgs(d)
		case "allow_credentials":
			h.AllowCredentials, err = true, parse.NoArgs(d)
		case "max_age":
			if h.MaxAge, err = parse.DurationOrOff(d); err == nil {
				h.NoMaxAge = h.MaxAge == 0
				if err = checkMaxAge(h.MaxAge); err != nil {
					err = d.WrapErr(err)
				}
			}
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

// checkOrigins checks the origins that need not be resolved, so that an error
// names the line of the option.
func checkOrigins(d *caddyfile.Dispenser, texts []string) error {
	for _, text := range texts {
		if strings.Contains(text, "{") {
			continue
		}
		if text == "" {
			return d.Err("allowed_origins: an empty value")
		}
		if _, err := origin.Canonical(text); err != nil {
			return d.Errf("allowed_origins: %v", err)
		}
	}
	return nil
}

// nameArgs returns the names of an option.
func nameArgs(d *caddyfile.Dispenser) ([]string, error) {
	option := d.Val()
	names, err := parse.Args(d, 1, -1)
	if err != nil || strings.Contains(strings.Join(names, ""), "{") {
		return names, err
	}
	if err := checkNames(option, names); err != nil {
		return nil, d.WrapErr(err)
	}
	return names, nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
