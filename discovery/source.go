// Package discovery finds the addresses of a reverse_proxy by DNS, in the
// background: no request waits for a look-up, and the addresses stay in use while
// the DNS does not answer.
package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/discovery/internal/lookup"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
)

// defaultRefresh is the time between two look-ups of a name.
const defaultRefresh = 5 * time.Second

// minRefresh is the shortest one that can be configured.
const minRefresh = time.Second

// network is what a name is looked up for by the IP versions.
var network = map[string]string{"": "ip", "ipv4": "ip4", "ipv6": "ip6"}

// names are the names that are looked up, by what they are looked up for. They
// outlive a reload.
var names = pool.New(func(n *lookup.Name) error {
	n.Close()
	return nil
})

func init() {
	caddy.RegisterModule(&Source{})
}

// Source gives a reverse_proxy all addresses of a DNS name, such as those of the
// pods behind a headless Service of Kubernetes. The name is looked up in the
// background. Until that first succeeds, and when the DNS says that there is no
// address, the proxy connects to the name itself. While the DNS does not answer, the
// last known addresses stay in use.
//
//	reverse_proxy {
//		dynamic tentagate users.users.svc.cluster.local:8000 {
//			refresh 10s
//		}
//	}
type Source struct {
	// The name and the port of the addresses: `users.users.svc.cluster.local:8000`.
	// Required.
	Address string `json:"address,omitempty"`

	// The time between two look-ups, at least 1s. A retry of a request asks for one
	// at once. Default: 5s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// Which addresses to use: `ipv4` or `ipv6`. Default: both, so that what has one
	// of each counts as two.
	Versions string `json:"versions,omitempty"`

	// Where the Caddyfile has this. Errors name it.
	Position string `json:"position,omitempty"`

	name *pool.Ref[*lookup.Name]
	ctx  caddy.Context
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.upstreams.tentagate",
		New: func() caddy.Module { return new(Source) },
	}
}

// Provision prepares the look-ups, which begin when the configuration starts.
func (s *Source) Provision(ctx caddy.Context) error {
	s.ctx = ctx
	s.Refresh = cmp.Or(s.Refresh, caddy.Duration(defaultRefresh))
	if err := s.Validate(); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(s.Address)
	a, err := app.Get(ctx)
	if err != nil {
		return place.Error(ctx, "dynamic tentagate", s.Position, err)
	}
	key := strings.Join([]string{network[s.Versions], s.Address, time.Duration(s.Refresh).String()}, " ")
	s.name, err = names.Acquire(key, func() (*lookup.Name, error) {
		return lookup.New(lookup.Options{
			Resolver: net.DefaultResolver, Network: network[s.Versions], Host: host, Port: port,
			Refresh: time.Duration(s.Refresh), OnChange: report(ctx.Logger(), s.Address),
		}), nil
	})
	if err != nil {
		return err
	}
	metrics.Register(ctx.GetMetricsRegistry(), collector)
	a.OnStart(s.name.Value.Start)
	return nil
}

// report logs the changes of a name.
func report(logger *zap.Logger, name string) func(addresses []string, err error) {
	return func(addresses []string, err error) {
		if err != nil {
			logger.Warn("no addresses by DNS; the ones shown are used", zap.String("name", name), zap.Strings("addresses", addresses), zap.Error(err))
			return
		}
		logger.Info("addresses by DNS", zap.String("name", name), zap.Strings("addresses", addresses))
	}
}

// Validate checks the options.
func (s *Source) Validate() error {
	return place.Error(s.ctx, "dynamic tentagate", s.Position, s.check())
}

func (s *Source) check() error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" || strings.ContainsAny(host, "{}/ ") {
		return fmt.Errorf("%q is not the name and port of a service: write it as users.users.svc.cluster.local:8000", s.Address)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return fmt.Errorf("%s is an address: only a name can be looked up", host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if time.Duration(s.Refresh) < minRefresh {
		return fmt.Errorf("refresh: %s is too short: accepted are %s and more", time.Duration(s.Refresh), minRefresh)
	}
	if _, ok := network[s.Versions]; !ok {
		return fmt.Errorf("versions: %q: accepted are ipv4 and ipv6; without the option both are used", s.Versions)
	}
	return nil
}

// Cleanup ends the look-ups when no configuration needs them any more.
func (s *Source) Cleanup() error { return s.name.Release() }

// GetUpstreams returns the addresses, without waiting.
func (s *Source) GetUpstreams(*http.Request) ([]*reverseproxy.Upstream, error) {
	if s.name == nil {
		return nil, errors.New("not provisioned")
	}
	addresses := s.name.Value.Addresses()
	// reverse_proxy writes into them, so that each request has its own.
	values := make([]reverseproxy.Upstream, len(addresses))
	upstreams := make([]*reverseproxy.Upstream, len(addresses))
	for i, address := range addresses {
		values[i].Dial = address
		upstreams[i] = &values[i]
	}
	return upstreams, nil
}

// Addresses returns the addresses in use, each as host:port.
func (s *Source) Addresses() []string { return s.name.Value.Addresses() }

// ResetCache is called before a request is retried: an address may be gone.
func (s *Source) ResetCache(*http.Request) error {
	s.name.Value.Refresh()
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner                  = (*Source)(nil)
	_ caddy.Validator                    = (*Source)(nil)
	_ caddy.CleanerUpper                 = (*Source)(nil)
	_ reverseproxy.UpstreamSource        = (*Source)(nil)
	_ reverseproxy.CachingUpstreamSource = (*Source)(nil)
)
