package health

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	parse.Register("health", parse.Handler[Handler])
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	health [<matcher>] {
//		path       <path>
//		live_path  <path>
//		ready_path <path>
//		require    redis
//		log
//		details    off|any|<address, network or private_ranges...>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	return parse.BlockAlone(d,
		pathOption("path", &h.Path),
		pathOption("live_path", &h.LivePath),
		pathOption("ready_path", &h.ReadyPath),
		parse.List("require", &h.Require).Then(h.checkRequire),
		parse.Flag("log", &h.Log),
		parse.ListOrOff("details", &h.Details).Then(h.checkDetails),
	)
}

func pathOption(name string, to *string) parse.Option {
	return parse.Value(name, to, parse.Text).Then(func() error { return checkPath(name, *to) })
}

func (h *Handler) checkRequire() error {
	for _, name := range h.Require {
		if err := checkDependency(name); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) checkDetails() error {
	if _, err := h.readers(); err != nil {
		return fmt.Errorf("details: %w", err)
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
