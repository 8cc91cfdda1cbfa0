// Package nearby tells whether a request comes from a network of the operator,
// for what is not for everybody: metrics, and details of the gateway's health.
package nearby

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// PrivateRanges stands for all private networks and this machine.
const PrivateRanges = "private_ranges"

// Any stands for everybody.
const Any = "any"

// Networks are where a request may come from.
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

// Dropped tells of a field that guard removed, because the peer is not trusted
// to speak for others. One that names a client marks the request: it came
// through a proxy.
func Dropped(r *http.Request, field string) {
	switch field {
	case "X-Forwarded-For", "Forwarded", "Forwarded-For", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip":
		caddyhttp.SetVar(r.Context(), forwardedVar, true)
	}
}

// Has reports whether the request comes from one of the networks: both the peer
// and, where the peer is a trusted proxy, the client that it names. What passed
// through a proxy that is not trusted comes from nowhere, because the proxy's
// address says nothing of the client's.
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
