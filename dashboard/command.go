package dashboard

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pythopus/tentagate/internal/admin"
)

func init() {
	admin.Register(admin.Command{
		Name:  "dashboard",
		Usage: "[--listen <address>]",
		Short: "Opens the dashboard of a running gateway to a browser on this machine",
		Long: `
Prints the URL of the dashboard, which the admin API has, and forwards what the page asks
for until it is interrupted (Ctrl-C). A browser can thereby show the dashboard of a
gateway whose admin API listens on a Unix socket. Nothing else of the admin API is
forwarded.

It listens on a loopback address only. The URL has a secret in it, which is new each time:
who has the URL sees the dashboard and can force the states of circuit breakers.`,
		Examples: []string{"dashboard", "dashboard --listen 127.0.0.1:9900 --address unix//run/caddy.sock"},
		Args:     cobra.NoArgs,
		Flags: func(cmd *cobra.Command) {
			cmd.Flags().String("listen", "127.0.0.1:0", "Loopback address to listen on; port 0 is any that is free")
		},
		NoJSON: true,
		Run:    runCommand,
	})
}

func runCommand(cmd *cobra.Command, _ []string) error {
	listen, _ := cmd.Flags().GetString("listen")
	address, err := loopback(listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	proxy, gateway, err := admin.Forwarder(cmd.Flags())
	if err == nil {
		err = admin.Check(cmd.Flags(), adminPath)
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &forwarder{to: proxy, secret: rand.Text()}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	f.own = listener.Addr().String()
	_, f.port, _ = net.SplitHostPort(f.own)
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "http://%s/%s/\n", f.own, f.secret); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Open this URL in a browser to see the gateway at %s. Ctrl-C ends it.\n", gateway)
	return f.serve(ctx, listener)
}

// loopback checks that an address is one of this machine alone.
func loopback(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q is not an address such as 127.0.0.1:9900", address)
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%q is not a loopback address: accepted are 127.0.0.1, [::1] and localhost", host)
	}
	return net.JoinHostPort(host, port), nil
}

// forwarder passes on to the admin API what the page of the dashboard asks for.
type forwarder struct {
	to     http.Handler
	secret string
	// own is the address that it listens on, and port its port.
	own, port string
}

// headerTimeout bounds how long a client may take to send the header of a request.
const headerTimeout = 10 * time.Second

// serve forwards until the context ends.
func (f *forwarder) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: f, ReadHeaderTimeout: headerTimeout}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // streams never end by themselves
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret, below, inside := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case !f.accepts(r.Host):
		// A name that another site had point to this machine.
		http.Error(w, "the host of the request is not that of this server", http.StatusForbidden)
	case crossOrigin.Check(r) != nil || !sameOrigin(r):
		http.Error(w, "the request comes from a page of another origin", http.StatusForbidden)
	case subtle.ConstantTimeCompare([]byte(secret), []byte(f.secret)) != 1:
		http.Error(w, "open the URL that `tentagate dashboard` printed last", http.StatusNotFound)
	case !inside && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		// The URLs in the page are relative.
		http.Redirect(w, r, "/"+f.secret+"/", http.StatusPermanentRedirect)
	case !forwards(r, below):
		http.NotFound(w, r)
	default:
		out := r.Clone(r.Context())
		out.URL.Path = adminPath + below
		out.URL.RawPath = ""
		if raw, ok := strings.CutPrefix(r.URL.EscapedPath(), "/"+f.secret+"/"); ok {
			out.URL.RawPath = adminPath + raw
		}
		f.to.ServeHTTP(w, out)
	}
}

// accepts reports whether a host is this server, and no name that a site of somebody else
// chose (DNS rebinding).
func (f *forwarder) accepts(host string) bool {
	known := []string{f.own, "localhost:" + f.port, "127.0.0.1:" + f.port, "[::1]:" + f.port}
	host = strings.ToLower(host)
	return slices.Contains(known, host) || f.port == "80" && slices.Contains(known, host+":80") // browsers leave the default port out
}

// sameOrigin reports whether the request is from the page itself, or from no page.
func sameOrigin(r *http.Request) bool {
	origin := r.Header["Origin"]
	return len(origin) == 0 || len(origin) == 1 && origin[0] == "http://"+r.Host
}

// forwards reports whether the page asks for something below its path.
func forwards(r *http.Request, below string) bool {
	switch {
	case below == "" || below == adminEvents:
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	case strings.HasPrefix(below, handlerBreakers):
		// No other endpoint is reached by dot segments.
		return r.Method == http.MethodPost && r.Header.Get(actionField) != "" && !slices.Contains(strings.Split(below, "/"), "..")
	}
	return false
}
