package dashboard

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	parse.Register(directive, parse.Handler[Handler])
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	dashboard [<matcher>] {
//		path <path>
//		actions
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	return parse.BlockAlone(d,
		parse.Value("path", &h.Path, parse.Text).Then(func() error { return checkPath(h.Path) }),
		parse.Flag("actions", &h.Actions),
	)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
