package dryrun

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/admin"
)

// destination is where a request arrives.
type destination struct {
	name   string // of the server in the configuration
	server *caddyhttp.Server
	local  net.Addr // one of the addresses that the server listens on
}

// String says which server it is, and where it listens.
func (d destination) String() string {
	return d.name + " (" + strings.Join(d.server.Listen, ", ") + ")"
}

// fit is how well an address of a server fits a URL.
type fit int

const (
	elsewhere fit = iota
	possible      // the URL has a name, or the server listens on all addresses
	exact
)

// find returns the server that a URL leads to, by its port and, if it has one, its
// address. The error is one for the admin API.
func find(app *caddyhttp.App, u *url.URL) (destination, error) {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	all := make([]destination, 0, len(app.Servers))
	for name, server := range app.Servers {
		all = append(all, destination{name: name, server: server})
	}
	slices.SortFunc(all, func(a, b destination) int { return strings.Compare(a.name, b.name) })
	best := possible
	var found []destination
	for _, d := range all {
		how := d.arrive(u.Hostname(), port)
		if how > best {
			best, found = how, nil
		}
		if how == best {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return destination{}, admin.Error(http.StatusBadRequest, fmt.Errorf(
			"url: several servers listen on port %s: %s; write the address into the URL, and the host as -H 'Host: %s'", port, listed(found), u.Hostname()))
	case u.Port() == "" && len(all) == 1:
		d := all[0] // a proxy in front, or a port of the container, leads to it
		d.arriveAnywhere()
		return d, nil
	case len(all) == 0:
		return destination{}, admin.Error(http.StatusNotFound, errors.New("the running configuration has no HTTP server"))
	}
	return destination{}, admin.Error(http.StatusNotFound, fmt.Errorf(
		"no server of the running configuration listens on port %s; the servers are %s; write the port into the URL, and the host that clients send with it", port, listed(all)))
}

func listed(list []destination) string {
	texts := make([]string, len(list))
	for i, d := range list {
		texts[i] = d.String()
	}
	return strings.Join(texts, ", ")
}

// arrive chooses the address of the server that fits best.
func (d *destination) arrive(host, port string) (best fit) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return elsewhere
	}
	for _, text := range d.server.Listen {
		a, err := parse(text)
		if err != nil || a.IsUnixNetwork() || uint64(a.StartPort) > number || uint64(a.EndPort) < number {
			continue
		}
		if how := fitOf(a, host); how > best {
			best, d.local = how, tcp(a, host, uint(number))
		}
	}
	return best
}

// arriveAnywhere chooses the first address.
func (d *destination) arriveAnywhere() {
	for _, text := range d.server.Listen {
		a, err := parse(text)
		switch {
		case err != nil:
			continue
		case a.IsUnixNetwork():
			d.local = &net.UnixAddr{Net: a.Network, Name: a.Host}
		default:
			d.local = tcp(a, "", a.StartPort)
		}
		return
	}
}

func parse(address string) (caddy.NetworkAddress, error) {
	return caddy.ParseNetworkAddress(caddy.NewReplacer().ReplaceAll(address, ""))
}

// fitOf says how well an address with the right port fits a host.
func fitOf(a caddy.NetworkAddress, host string) fit {
	if a.Host == host {
		return exact
	}
	asked, err := netip.ParseAddr(host)
	if err != nil {
		return possible // a name
	}
	switch own, err := netip.ParseAddr(a.Host); {
	case err != nil || own.IsUnspecified():
		return possible
	case own == asked:
		return exact
	}
	return elsewhere
}

// tcp returns the address that a connection to a host comes to.
func tcp(a caddy.NetworkAddress, host string, port uint) net.Addr {
	ip := net.ParseIP(a.Host)
	if asked := net.ParseIP(host); asked != nil && (ip == nil || ip.IsUnspecified()) {
		ip = asked
	}
	if ip == nil {
		ip = net.IPv4zero
	}
	return &net.TCPAddr{IP: ip, Port: int(port)}
}
