package caddyfile

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/running"
	"github.com/pythopus/tentagate/internal/site"
)

func init() { admin.RegisterStatus("services", statusOfServices, printServices) }

// serviceStatus is the state of a service, or of a reverse_proxy that is none.
type serviceStatus struct {
	// Site has the hosts of the service's site or, where it has none, the addresses
	// that the server listens on.
	Site string `json:"site"`
	// Path is what the paths of its requests begin with. It and Name are empty for a
	// reverse_proxy that is not one of the services.
	Path string `json:"path,omitempty"`
	Name string `json:"name,omitempty"`
	// Breakers are the circuit breakers in front of it.
	Breakers []breakerSummary `json:"circuit_breakers,omitempty"`
	// Discovered: the addresses are found while it runs, as by DNS.
	Discovered bool             `json:"discovered,omitempty"`
	Upstreams  []upstreamStatus `json:"upstreams"`
}

// breakerSummary is the state of a circuit breaker: the worst of its circuits.
type breakerSummary struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

// upstreamStatus is the state of an address.
type upstreamStatus struct {
	Address string `json:"address"`
	// Healthy is what active and passive health checks found. It is left out where it
	// is not known, as for addresses by DNS.
	Healthy *bool `json:"healthy,omitempty"`
	// Requests are in flight. Fails are those that passive health checks remember.
	Requests int `json:"requests"`
	Fails    int `json:"fails"`
}

// statusOfServices finds the services of the running configuration.
func statusOfServices() []serviceStatus {
	if app, ok := running.App[*caddyhttp.App]("http"); ok {
		return servicesOf(app)
	}
	return []serviceStatus{}
}

// servicesOf finds the services of an app.
func servicesOf(app *caddyhttp.App) []serviceStatus {
	list := []serviceStatus{}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		v := &serviceVisitor{server: server, found: &list, of: serviceStatus{Site: strings.Join(server.Listen, " ")}}
		v.routes(server.Routes)
		if server.Errors != nil {
			v.routes(server.Errors.Routes)
		}
	}
	slices.SortStableFunc(list, func(a, b serviceStatus) int {
		return cmp.Or(strings.Compare(a.Site, b.Site), strings.Compare(a.Path, b.Path), strings.Compare(a.Name, b.Name))
	})
	return list
}

// serviceVisitor goes through the routes to the proxies.
type serviceVisitor struct {
	server  *caddyhttp.Server
	found   *[]serviceStatus
	invoked []string      // the named routes that it is in
	of      serviceStatus // what is known of the service that the next proxy is for
}

// routes visits the handlers of a list of routes. What it learns of a route does not
// hold for the next.
func (v serviceVisitor) routes(list caddyhttp.RouteList) {
	for _, route := range list {
		inner := v
		inner.of.Breakers = slices.Clone(v.of.Breakers)
		if hosts := hostsOf(route.MatcherSets); hosts != "" {
			inner.of.Site = hosts
		}
		for _, h := range route.Handlers {
			inner.handler(h)
		}
		if len(route.MatcherSets) == 0 {
			v.of.Breakers = inner.of.Breakers // it is in front of the routes behind
		}
	}
}

func (v *serviceVisitor) handler(h caddyhttp.MiddlewareHandler) {
	switch h := h.(type) {
	case *Services:
		for name, routes := range h.Services {
			inner := *v
			inner.of.Path, inner.of.Name = h.Path+name+"/", name
			inner.routes(routes)
		}
		return
	case *caddyhttp.Invoke:
		if slices.Contains(v.invoked, h.Name) {
			return // it invokes itself
		}
		inner := *v
		inner.invoked = append(slices.Clip(v.invoked), h.Name)
		site.Inside(v.server, h, inner.routes)
		return
	case interface{ Breaker() (name, state string) }:
		name, state := h.Breaker()
		v.of.Breakers = append(v.of.Breakers, breakerSummary{name, state})
	case *reverseproxy.Handler:
		s := v.of
		s.Upstreams = upstreamsOf(h)
		s.Discovered = h.DynamicUpstreams != nil
		*v.found = append(*v.found, s)
	}
	site.Inside(v.server, h, v.routes)
}

// hostsOf returns the hosts that a route is for.
func hostsOf(sets caddyhttp.MatcherSets) string {
	var hosts []string
	for _, set := range sets {
		for _, m := range set {
			if match, ok := m.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *match...)
			}
			if match, ok := m.(caddyhttp.MatchHost); ok {
				hosts = append(hosts, match...)
			}
		}
	}
	return strings.Join(hosts, " ")
}

func upstreamsOf(h *reverseproxy.Handler) []upstreamStatus {
	list := []upstreamStatus{}
	for _, u := range h.Upstreams {
		healthy := u.Healthy()
		list = append(list, upstreamStatus{Address: u.Dial, Healthy: &healthy, Requests: u.NumRequests(), Fails: u.Fails()})
	}
	if source, ok := h.DynamicUpstreams.(interface{ Addresses() []string }); ok {
		for _, address := range source.Addresses() {
			list = append(list, upstreamStatus{Address: address})
		}
	}
	return list
}

func printServices(w io.Writer, list []serviceStatus) error {
	fmt.Fprintln(w, "SITE\tSERVICE\tUPSTREAM\tHEALTHY\tREQUESTS\tFAILS\tCIRCUIT BREAKER")
	for _, s := range list {
		breakers := make([]string, 0, len(s.Breakers))
		for _, b := range s.Breakers {
			breakers = append(breakers, b.Name+" "+b.State)
		}
		row := func(upstream, healthy string, requests, fails int) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", s.Site, cmp.Or(s.Name, "-"), upstream, healthy, requests, fails, cmp.Or(strings.Join(breakers, ", "), "-"))
		}
		for _, u := range s.Upstreams {
			healthy := "-"
			if u.Healthy != nil {
				healthy = map[bool]string{true: "yes", false: "no"}[*u.Healthy]
			}
			row(u.Address, healthy, u.Requests, u.Fails)
		}
		if len(s.Upstreams) == 0 {
			row("none is known", "-", 0, 0)
		}
	}
	return nil
}
