package telemetry

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	parse.Register("telemetry", parse.Handler[Handler])
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	telemetry [<matcher>] [<service>] {
//		services <path> <name...>
//		site     <name>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		if h.Service, err = parse.Text(args[0]); err != nil {
			return d.Errf("telemetry: %w", err)
		}
		if h.Service == parse.Off {
			return d.Err("telemetry: off is not the name of a service: leave the directive out where nothing is observed")
		}
	}
	return parse.Block(d,
		parse.Func("services", func(d *caddyfile.Dispenser) error {
			args, err := parse.Args(d, 2, -1)
			if err != nil {
				return err
			}
			h.Path, h.Services = args[0], args[1:]
			return nil
		}).Then(h.check),
		parse.Value("site", &h.Site, parse.Text).NotOff(),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
