// Package nearby reads networks, and says which of them a request comes from. It
// restricts metrics and health details to the operator's networks.
package nearby

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/proxyfields"
)

// PrivateRanges stands for the private networks and the loopback addresses.
const PrivateRanges = "private_ranges"

// Any stands for all networks.
const Any = "any"

// Networks are the networks that requests may come from.
type Networks struct {
	any      bool
	prefixes []netip.Prefix
}

// Prefixes reads addresses, networks in CIDR notation and private_ranges.
func Prefixes(texts []string) (prefixes []netip.Prefix, err error) {
	for _, text := range texts {
		list := []string{text}
		if text == PrivateRanges {
			list = caddyhttp.PrivateRangesCIDR()
		}
		for _, network := range list {
			prefix, err := caddyhttp.CIDRExpressionToPrefix(network)
			if err != nil {
				return nil, fmt.Errorf("%q is not an address or a network such as 10.0.0.0/8, nor private_ranges", text)
			}
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes, nil
}

// Parse is Prefixes that reads any too.
func Parse(texts []string) (*Networks, error) {
	named := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return text == Any })
	prefixes, err := Prefixes(named)
	if err != nil {
		return nil, fmt.Errorf("%w or any", err)
	}
	return &Networks{any: len(named) < len(texts), prefixes: prefixes}, nil
}

// Client reports whether the client, as the server's trusted_proxies determine it, is
// in one of the prefixes. Without trusted_proxies_strict, Caddy takes the first address of
// X-Forwarded-For for the client's. Where proxies append to it, the client wrote that
// itself: all of them must be in one of the prefixes then. Of several client_ip_headers
// that is the first with a valid address, which Caddy takes.
func Client(r *http.Request, prefixes []netip.Prefix) bool {
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if !contains(prefixes, client) {
		return false
	}
	if !isTrusted(r) {
		return true
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.TrustedProxiesStrict > 0 {
		return true
	}
	for _, name := range server.ClientIPHeaders {
		if all, valid := allIn(prefixes, r.Header.Values(name)); !all || valid {
			return all
		}
	}
	return true
}

// isTrusted reports whether the peer is one of the server's trusted_proxies.
func isTrusted(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// forwardedVar is the name of the mark among Caddy's variables of the request.
const forwardedVar = "tentagate.forwarded"

// Forwarded notes that the request came to guard with a field that names a client, from a
// peer that is not a trusted proxy: it came through another one. Later handlers may not
// see the field.
func Forwarded(r *http.Request) { caddyhttp.SetVar(r.Context(), forwardedVar, true) }

// Has reports whether the request comes from one of the networks: the peer and, if it
// is a trusted proxy, the client that it names. A request through a proxy that is not
// trusted never does, because its client is not known.
func (n *Networks) Has(r *http.Request) bool {
	if n.any {
		return true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if !contains(n.prefixes, host) {
		return false
	}
	if isTrusted(r) {
		return Client(r, n.prefixes)
	}
	return !HidesClient(r)
}

// HidesClient reports whether the request came through a proxy that is not trusted and
// that says so, by Via or by a field with the address of its client, as X-Real-IP is one.
// That address is not known then: the peer is the proxy.
func HidesClient(r *http.Request) bool {
	if isTrusted(r) {
		return false
	}
	forwarded, _ := caddyhttp.GetVar(r.Context(), forwardedVar).(bool)
	if forwarded || len(r.Header["X-Forwarded-For"]) > 0 || len(r.Header["Forwarded"]) > 0 || len(r.Header["Via"]) > 0 {
		return true
	}
	for name, values := range r.Header {
		if proxyfields.Of(name) == proxyfields.Client && !isPeer(r, values) {
			return true
		}
	}
	return false
}

// isPeer reports whether a field has nothing but the address of the peer, as after
// `request_header X-Real-IP {client_ip}`.
func isPeer(r *http.Request, values []string) bool {
	switch len(values) {
	case 0:
		return true
	case 1:
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		said, err := netip.ParseAddr(values[0])
		return err == nil && said.Unmap().WithZone("") == peer.Addr().Unmap().WithZone("")
	}
	return false
}

// allIn reports whether all addresses of a list, which may have ports, are in one of the
// prefixes, and whether one of them is valid to Caddy, which refuses brackets without a
// port.
func allIn(prefixes []netip.Prefix, values []string) (all, valid bool) {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			item = strings.TrimSpace(item)
			if host, _, err := net.SplitHostPort(item); err == nil {
				item = host
			}
			if item == "" {
				continue
			}
			address := strings.Trim(item, "[]")
			if !contains(prefixes, address) {
				return false, valid
			}
			valid = valid || address == item
		}
	}
	return true, valid
}

func contains(prefixes []netip.Prefix, text string) bool {
	text, _, _ = strings.Cut(text, "%") // a zone of IPv6
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// Proxies says what the servers of the configuration that is being provisioned know about
// the proxies in front of them: whether one trusts proxies, and whether one of these takes
// the first address of X-Forwarded-For for the client's. known is false outside of the
// HTTP app.
func Proxies(ctx caddy.Context) (trusting, first, known bool) {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return false, false, false
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return false, false, false
	}
	for _, server := range app.Servers {
		if trustsProxies(server) {
			trusting = true
			first = first || takesFirst(server)
		}
	}
	return trusting, first, true
}

func trustsProxies(server *caddyhttp.Server) bool {
	if server.TrustedProxiesRaw != nil || server.TrustedProxiesUnix {
		return true
	}
	// Caddy drops the JSON of a module that is loaded, and does not export it.
	f := reflect.ValueOf(server).Elem().FieldByName("trustedProxies")
	return !f.IsValid() || f.Kind() != reflect.Interface || !f.IsNil()
}

// takesFirst reports whether the first address of X-Forwarded-For is the client's to a
// server that trusts proxies.
func takesFirst(server *caddyhttp.Server) bool {
	return server.TrustedProxiesStrict == 0 && (len(server.ClientIPHeaders) == 0 ||
		slices.ContainsFunc(server.ClientIPHeaders, func(name string) bool { return strings.EqualFold(name, "X-Forwarded-For") }))
}
