package admin

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/caddyserver/caddy/v2"
)

// browserFields are fields by which the admin API tells what pages of other origins send
// from what programs send. Of a Unix socket it accepts no origin at all.
var browserFields = []string{"Origin", "Referer", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-Dest", "Sec-Fetch-User", "Cookie", "Authorization"}

// Forwarder returns a proxy to the admin API that the flags of a command name, and its
// address. Requests reach it as those of a program: who calls the proxy has checked where
// they come from.
func Forwarder(flags *pflag.FlagSet) (proxy *httputil.ReverseProxy, addr string, err error) {
	if addr, err = address(flags); err != nil {
		return nil, "", err
	}
	parsed, err := caddy.ParseNetworkAddress(addr)
	if err != nil || parsed.PortRangeSize() > 1 || parsed.IsFdNetwork() {
		return nil, "", fmt.Errorf("%q is not an address of an admin API, such as localhost:2019 or unix//run/caddy.sock", addr)
	}
	host, origin := "127.0.0.1", ""
	if parsed.IsUnixNetwork() {
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|") // the mode of the socket
	} else {
		host = parsed.JoinHostPort(0)
		origin = "http://" + host
	}
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", host, host
			for _, name := range browserFields {
				p.Out.Header.Del(name)
			}
			if origin != "" {
				p.Out.Header.Set("Origin", origin)
			}
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
		}},
		ModifyResponse: func(r *http.Response) error {
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					r.Header.Del(name)
				}
			}
			return nil
		},
		ErrorLog: log.New(os.Stderr, "", log.LstdFlags),
	}, addr, nil
}
