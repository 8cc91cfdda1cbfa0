package telemetry

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("telemetry", parse.Handler[Handler])
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
		h.Service = args[0]
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
		parse.Value("site", &h.Site, parse.Text),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
