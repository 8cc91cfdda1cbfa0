package caddyfile

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/problem"
)

func init() {
	caddy.RegisterModule(&Problem{})
}

// Problem refuses every request with an error, which is answered as
// application/problem+json unless `handle_errors` restyles it. The `tentagate`
// directive ends with it, so that a path without a handler is never answered
// with an empty 200.
type Problem struct {
	// Status code of the answer, 400 to 599. Required.
	Status int `json:"status,omitempty"`

	// Detail for the client. Default: the standard text of the status.
	Detail string `json:"detail,omitempty"`

	// Do not refuse clients of these addresses and networks, in CIDR notation;
	// `private_ranges` means all private ones. The client is the peer or, if that is
	// a trusted proxy, the client that it names; requests through other proxies are
	// refused. Default: none.
	Except []string `json:"except,omitempty"`

	except *nearby.Networks // nil: nobody
}

// CaddyModule returns the Caddy module information.
func (*Problem) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.problem",
		New: func() caddy.Module { return new(Problem) },
	}
}

// Provision reads the networks.
func (p *Problem) Provision(caddy.Context) (err error) {
	if len(p.Except) > 0 {
		if p.except, err = nearby.Parse(p.Except); err != nil {
			return fmt.Errorf("except: %w", err)
		}
	}
	return nil
}

// Validate checks the status.
func (p *Problem) Validate() error {
	if p.Status < 400 || p.Status > 599 {
		return fmt.Errorf("status %d: accepted are 400 to 599", p.Status)
	}
	return nil
}

func (p *Problem) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if p.except != nil && p.except.Has(r) {
		return next.ServeHTTP(w, r)
	}
	return problem.Serve(w, r, next, func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
		return p.refusal()
	})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Problem)(nil)
	_ caddy.Validator             = (*Problem)(nil)
	_ caddyhttp.MiddlewareHandler = (*Problem)(nil)
)
