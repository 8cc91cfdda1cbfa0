package site

import (
	"net"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// socket is an address that a server listens on; there may be several ports.
type socket struct {
	caddy.NetworkAddress
	ip net.IP
}

func (s socket) size() uint {
	if s.EndPort < s.StartPort {
		return 1
	}
	return s.EndPort - s.StartPort + 1
}

// where is the part of the address that replicas have in common: not its port,
// and not the path of a Unix socket.
func (s socket) where() string {
	if s.IsUnixNetwork() || s.IsFdNetwork() {
		return s.Network
	}
	return s.Network + " " + s.Host
}

func socketsOf(server *caddyhttp.Server) []socket {
	var list []socket
	for _, text := range server.Listen {
		if addr, err := caddy.ParseNetworkAddress(text); err == nil {
			list = append(list, socket{NetworkAddress: addr, ip: net.ParseIP(addr.Host)})
		}
	}
	if list == nil {
		list = []socket{{}}
	}
	return list
}

// accepted returns the socket that a request came by, and which of its ports; -1
// if it came by none of them.
func accepted(sockets []socket, r *http.Request) (at int, offset uint) {
	var ip net.IP
	var port uint
	switch addr := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		ip, port = addr.IP, uint(addr.Port)
	case *net.UDPAddr:
		ip, port = addr.IP, uint(addr.Port)
	case *net.UnixAddr:
		for i, s := range sockets {
			if s.IsUnixNetwork() && s.Host == addr.Name {
				return i, 0
			}
		}
		return -1, 0
	default:
		return -1, 0
	}
	at = -1
	for i, s := range sockets {
		if s.IsUnixNetwork() || s.IsFdNetwork() || port < s.StartPort || port > max(s.EndPort, s.StartPort) {
			continue
		}
		switch {
		case s.ip != nil && s.ip.Equal(ip):
			return i, port - s.StartPort
		case s.ip == nil && at < 0, s.ip != nil && s.ip.IsUnspecified() && at < 0:
			at, offset = i, port-s.StartPort
		}
	}
	return at, offset
}

func appendAddress(b []byte, r *http.Request) []byte {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return append(b, addr.String()...)
	}
	return b
}

func appendUint(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
