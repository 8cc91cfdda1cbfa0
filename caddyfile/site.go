package caddyfile

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// siteNames is where the names of the sites that were adapted so far are kept.
const siteNames = "tentagate.sites"

// nameSite gives the directive the name that sets its circuits, limits and
// metrics apart from those of other sites: what the operator wrote, or else the
// site's first host name. Sites without one, and those on an IP address or
// localhost, have none, so that gateways that differ by their port alone share
// what is one site. Where two of one configuration would have the same name, the
// later one in the file gets the site's port, and then a number, behind it.
func (g *gateway) nameSite(h httpcaddyfile.Helper) {
	names, _ := h.State[siteNames].(map[string]string) // and where each is from
	if names == nil {
		names = map[string]string{}
		h.State[siteNames] = names
	}
	at := place.At(g.file, g.line)
	if g.site != "" {
		if first, taken := names[g.site]; taken && first != at {
			caddy.Log().Named(directiveName).Warn("two tentagate directives have the same name and so share limits, and the circuits of services with the same name; give each its own name unless this is intended",
				zap.String("name", g.site), zap.String("first", first), zap.String("second", at))
		}
		names[g.site] = at
		return
	}
	host, port := siteAddress(h)
	g.site = host
	for n := 1; has(names, g.site); n++ {
		switch {
		case n == 1 && port != "":
			g.site = dashed(host, port)
		default:
			g.site = dashed(host, port, strconv.Itoa(n))
		}
	}
	names[g.site] = at
}

func has(names map[string]string, name string) bool {
	_, ok := names[name]
	return ok
}

// dashed puts parts together that are not empty.
func dashed(parts ...string) string {
	var given []string
	for _, part := range parts {
		if part != "" {
			given = append(given, part)
		}
	}
	return strings.Join(given, "-")
}

// stateName returns the name of something of the site that has a state.
func (g *gateway) stateName(what string) string {
	if g.site == "" {
		return what
	}
	return what + "@" + g.site
}

// siteAddress returns the host name and the port of the site's first address.
func siteAddress(h httpcaddyfile.Helper) (host, port string) {
	keys := parse.Keys(h)
	if len(keys) == 0 {
		return "", ""
	}
	address, err := httpcaddyfile.ParseAddress(keys[0].Text)
	if err != nil {
		return "", ""
	}
	host, port = strings.ToLower(strings.TrimSuffix(address.Host, ".")), address.Port
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" || !isHost(strings.Replace(host, "*", "any", 1)) {
		host = ""
	}
	return strings.Replace(host, "*", "any", 1), port
}
