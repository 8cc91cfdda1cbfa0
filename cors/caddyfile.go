package cors

import (
	"errors"
	"fmt"
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

// parseCaddyfile is what parse.RegisterOnce does, but for
// one thing: it would take the `*` of `cors *` for a matcher of all requests,
// and leave no origin.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	if err := parse.NamedRoute(h); err != nil {
		return nil, err
	}
	star := h.NextArg() && h.Val() == "*"
	h.Reset()
	h.Next()
	matcher, err := parse.Matcher(h)
	if err != nil {
		return nil, err
	}
	if err := parse.Once(h, "cors", matcher); err != nil {
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
func (h *Handler) unmarshal(d *caddyfile.Dispenser, star bool) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	h.AllowedOrigins = d.RemainingArgs()
	if len(h.AllowedOrigins) == 1 && parse.IsOff(h.AllowedOrigins[0]) {
		return d.Errf("cors: %q is no origin: leave the directive out where no other origin may call; within tentagate, write `cors off`", h.AllowedOrigins[0])
	}
	if err := h.checkOrigins(); err != nil {
		return d.WrapErr(err)
	}
	head := parse.Head(d)
	err := parse.Block(d,
		parse.List("allowed_origins", &h.AllowedOrigins).Given(len(h.AllowedOrigins) > 0).Then(h.checkOrigins),
		namesOption("allowed_methods", &h.AllowedMethods).Then(h.upperMethods),
		namesOption("allowed_headers", &h.AllowedHeaders),
		namesOption("exposed_headers", &h.ExposedHeaders),
		parse.Flag("allow_credentials", &h.AllowCredentials),
		parse.Value("max_age", &h.MaxAge, parse.DurationOrOff).Then(func() error {
			h.NoMaxAge = h.MaxAge == 0
			return checkMaxAge(h.MaxAge)
		}),
	)
	if err != nil {
		return err
	}
	if len(h.AllowedOrigins) == 0 && star {
		h.AllowedOrigins = []string{"*"}
	}
	if len(h.AllowedOrigins) == 0 {
		return head.Err("cors: missing origins: write them on the line or as allowed_origins")
	}
	return nil
}

// checkOrigins checks the origins that have no placeholders, so that an error
// names the line of the option.
func (h *Handler) checkOrigins() error {
	for _, text := range h.AllowedOrigins {
		if strings.Contains(text, "{") {
			continue
		}
		if text == "" {
			return errors.New("allowed_origins: an empty value")
		}
		if _, err := origin.Canonical(text); err != nil {
			return fmt.Errorf("allowed_origins: %w", err)
		}
	}
	return nil
}

// upperMethods writes the methods in upper case.
func (h *Handler) upperMethods() error {
	for i, method := range h.AllowedMethods {
		if method != off && !strings.Contains(method, "{") {
			h.AllowedMethods[i] = strings.ToUpper(method)
		}
	}
	return nil
}

// namesOption is an option with a list of names. Those with placeholders are
// checked when the configuration loads.
func namesOption(option string, to *[]string) parse.Option {
	return parse.ListOrOff(option, to).Then(func() error {
		if strings.Contains(strings.Join(*to, ""), "{") {
			return nil
		}
		return checkNames(option, *to)
	})
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
