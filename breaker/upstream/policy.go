package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(&Policy{})
}

// Policy selects by another policy among the upstreams whose circuits of the
// transport `tentagate` would admit a request.
//
// It excludes no more than a share of the upstreams. If more circuits are open, it
// excludes none: requests to an open one are refused, so that the others do not
// get all the load.
//
//	reverse_proxy users-1:8000 users-2:8000 {
//		lb_policy available least_conn
//		transport tentagate {
//			breaker users {
//				consecutive 5
//			}
//		}
//	}
type Policy struct {
	// The policy that selects. Default: random.
	InnerRaw json.RawMessage `json:"inner,omitempty" caddy:"namespace=http.reverse_proxy.selection_policies inline_key=policy"`

	// The largest share of upstreams to exclude, above 0 to 1, or -1 to exclude
	// none. Default: 0.5.
	MaxEjection float64 `json:"max_ejection,omitempty"`

	inner reverseproxy.Selector
	proxy *reverseproxy.Handler
}

const defaultMaxEjection = .5

// CaddyModule returns the Caddy module information.
func (*Policy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.available",
		New: func() caddy.Module { return new(Policy) },
	}
}

// Provision loads the inner policy and finds the proxy that it selects for.
func (p *Policy) Provision(ctx caddy.Context) error {
	p.MaxEjection = cmp.Or(p.MaxEjection, defaultMaxEjection)
	if p.MaxEjection != -1 && !(p.MaxEjection > 0 && p.MaxEjection <= 1) {
		return errors.New("max_ejection: a share is above 0 and at most 1, or -1 to exclude none")
	}
	if p.InnerRaw == nil {
		p.InnerRaw = caddyconfig.JSONModuleObject(reverseproxy.RandomSelection{}, "policy", "random", nil)
	}
	p.proxy = proxyOf(ctx)
	if p.proxy != nil {
		transport, ours := p.proxy.Transport.(*Transport)
		if !ours {
			return errors.New("lb_policy available: there are no circuits to select by: write `transport tentagate { breaker <name> }` in reverse_proxy, or leave available out")
		}
		if transport.Breaker == nil {
			ctx.Logger().Warn("lb_policy available selects like the policy within it, because the transport has no breaker", zap.String("at", transport.Position))
		}
	}
	inner, err := ctx.LoadModule(p, "InnerRaw")
	if err != nil {
		return fmt.Errorf("loading the policy within available: %w", err)
	}
	p.inner = inner.(reverseproxy.Selector)
	return nil
}

// proxyOf returns the proxy that a module is a part of, or nil.
func proxyOf(ctx caddy.Context) (found *reverseproxy.Handler) {
	for _, module := range ctx.Modules() {
		if proxy, ok := module.(*reverseproxy.Handler); ok {
			found = proxy
		}
	}
	return found
}

// Select selects an upstream.
func (p *Policy) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	return p.inner.Select(p.available(pool, r), r, w)
}

// available returns the upstreams to select from.
func (p *Policy) available(pool reverseproxy.UpstreamPool, r *http.Request) reverseproxy.UpstreamPool {
	if p.proxy == nil {
		return pool
	}
	transport, ok := p.proxy.Transport.(*Transport)
	if !ok {
		return pool
	}
	var left reverseproxy.UpstreamPool // made only if one is excluded
	out := 0
	for i, u := range pool {
		if transport.Ready(address(u.Dial, r)) {
			if out > 0 {
				left = append(left, u)
			}
			continue
		}
		if out == 0 {
			left = append(make(reverseproxy.UpstreamPool, 0, len(pool)), pool[:i]...)
		}
		out++
	}
	if out == 0 || float64(out) > p.MaxEjection*float64(len(pool)) {
		return pool
	}
	return left
}

// address returns what reverse_proxy dials for an upstream.
func address(dial string, r *http.Request) string {
	if !strings.ContainsAny(dial, "{/") {
		return dial // host:port, as nearly always
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		dial = repl.ReplaceAll(dial, "")
	}
	parsed, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return dial
	}
	return parsed.JoinHostPort(0)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Policy)(nil)
	_ reverseproxy.Selector = (*Policy)(nil)
)
