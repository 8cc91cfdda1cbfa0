package health

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("health", parseCaddyfile)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
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
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	if err = parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for d.NextBlock(0) {
		if err = seen.Once(d); err != nil {
			return err
		}
		switch d.Val() {
		case "path":
			h.Path, err = pathArg(d)
		case "live_path":
			h.LivePath, err = pathArg(d)
		case "ready_path":
			h.ReadyPath, err = pathArg(d)
		case "require":
			if h.Require, err = parse.Args(d, 1, -1); err == nil {
				for _, name := range h.Require {
					if err = checkDependency(name); err != nil {
						return d.WrapErr(err)
					}
				}
			}
		case "log":
			h.Log, err = true, parse.NoArgs(d)
		case "details":
			if h.Details, err = parse.Args(d, 1, -1); err == nil {
				if _, bad := h.readers(); bad != nil {
					err = d.Errf("details: %v", bad)
				}
			}
		default:
			err = parse.Unknown(d, "path", "live_path", "ready_path", "require", "log", "details")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pathArg(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	path, err := parse.OneArg(d)
	if err != nil {
		return "", err
	}
	if err := checkPath(option, path); err != nil {
		return "", d.WrapErr(err)
	}
	return path, nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
