// Package nearby restricts metrics and health details to requests from the
// operator's networks.
package nearby

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
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

// Parse reads addresses, networks in CIDR notation, private_ranges and any.
func Parse(texts []string) (*Networks, error) {
	n := new(Networks)
	for _, text := range texts {
		list := []string{text}
		switch text {
		case Any:
			n.any = true
			continue
		case PrivateRanges:
			list = caddyhttp.PrivateRangesCIDR()
		}
		for _, network := range list {
			prefix, err := caddyhttp.CIDRExpressionToPrefix(network)
			if err != nil {
				return nil, fmt.Errorf("%q is not an address or a network such as 10.0.0.0/8, nor private_ranges or any", text)
			}
			n.prefixes = append(n.prefixes, prefix)
		}
	}
	return n, nil
}

// forwardedVar is the name of the mark among Caddy's variables of the request.
const forwardedVar = "tentagate.forwarded"

// Dropped reports a header field that guard removed, since the peer is not a trusted
// proxy. A field that names a client marks the request as one that came through a
// proxy.
func Dropped(r *http.Request, field string) {
	switch field {
	case "X-Forwarded-For", "Forwarded", "Forwarded-For", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip":
		caddyhttp.SetVar(r.Context(), forwardedVar, true)
	}
}

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
	if !n.contains(host) {
		return false
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		return n.contains(client)
	}
	forwarded, _ := caddyhttp.GetVar(r.Context(), forwardedVar).(bool)
	return !forwarded && len(r.Header["X-Forwarded-For"]) == 0 && len(r.Header["Forwarded"]) == 0
}

func (n *Networks) contains(text string) bool {
	text, _, _ = strings.Cut(text, "%") // a zone of IPv6
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	for _, prefix := range n.prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
