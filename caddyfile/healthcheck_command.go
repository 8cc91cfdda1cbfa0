package caddyfile

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/dotenv"
)

const (
	defaultHealthURL     = "http://127.0.0.1:8000/health"
	defaultHealthTimeout = 3 * time.Second
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "healthcheck",
		Usage: "[--url <url> | --listen <address> | --env-file <path>] [--timeout <duration>] [--insecure]",
		Short: "Checks whether a gateway is healthy",
		Long: `
Sends one GET request and exits with 0 if the status is 2xx, and with 1 otherwise. It is
meant for containers without a shell or curl:

	HEALTHCHECK CMD ["/tentagate", "healthcheck"]

Where the gateway listens is read from SERVER_NAME, also in the environment file that
the gateway has: .env in the working directory, or that of --env-file.`,
		CobraFunc: func(cmd *cobra.Command) {
			describeRoot(cmd)
			var c healthCommand
			admin.Describe(cmd, "healthcheck", "healthcheck --listen :8080", "healthcheck --url http://127.0.0.1:8000/readyz --timeout 1s")
			flags := cmd.Flags()
			flags.StringVar(&c.url, "url", "", "URL to request (default: /health where the gateway listens, "+defaultHealthURL+")")
			flags.StringVarP(&c.listen, "listen", "l", "", "Address that the gateway listens on, instead of SERVER_NAME")
			dotenv.AddFlag(flags, &c.envFile)
			flags.DurationVar(&c.timeout, "timeout", defaultHealthTimeout, "Time limit for the response")
			flags.BoolVar(&c.insecure, "insecure", false, "Do not verify the certificate, for a gateway at an IP address")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) }
		},
	})
}

// healthCommand are the flags of `tentagate healthcheck`.
type healthCommand struct {
	url      string
	listen   string
	envFile  string
	timeout  time.Duration
	insecure bool
	dial     string // address to connect to, instead of the one in the URL
}

// address returns the URL of the health check where the gateway listens on this
// machine, by --listen, or by SERVER_NAME in the environment or its file.
func (c *healthCommand) address() (string, error) {
	if c.listen == "" {
		site, err := dotenv.Lookup(c.envFile, "SERVER_NAME")
		if err != nil {
			return "", err
		}
		return c.addressOfSite(site), nil
	}
	host, port, err := splitListen(c.listen)
	if err != nil {
		return "", err
	}
	return "http://" + net.JoinHostPort(reachable(host), port) + "/health", nil
}

// addressOfSite returns the URL of the health check of a site, whose address is
// read as Caddy reads it: a host has HTTPS, unless the scheme or the port says
// otherwise. The request goes to this machine, whatever DNS says about the name, and
// the certificate need not be trusted.
func (c *healthCommand) addressOfSite(site string) string {
	site, _, _ = strings.Cut(strings.ReplaceAll(site, ",", " "), " ")
	scheme, address, found := strings.Cut(site, "://")
	if !found {
		scheme, address = "", site
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), ""
	}
	if host == "" && port == "" && scheme == "" {
		return defaultHealthURL
	}
	if scheme == "" {
		scheme = "https"
		if host == "" && port != "443" || port == "80" {
			scheme = "http"
		}
	}
	port = cmp.Or(port, map[string]string{"http": "80", "https": "443"}[scheme])
	c.insecure = c.insecure || scheme == "https"
	host = strings.Replace(host, "*", "health", 1)
	if host != "" && net.ParseIP(host) == nil {
		c.dial = net.JoinHostPort(reachable(""), port)
	}
	return scheme + "://" + net.JoinHostPort(reachable(host), port) + "/health"
}

// reachable returns an address of this machine that reaches a listener on the host.
func reachable(host string) string {
	if host == "" || host == "0.0.0.0" || host == "::" {
		return "127.0.0.1"
	}
	return host
}

func (c *healthCommand) run(ctx context.Context) (err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	if c.url == "" {
		if c.url, err = c.address(); err != nil {
			return err
		}
	}
	u, err := url.Parse(c.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--url %q: write it as %s", c.url, defaultHealthURL)
	}
	if c.timeout <= 0 {
		return fmt.Errorf("--timeout %s: it must be above zero", c.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return fmt.Errorf("--url %q: %w", c.url, err)
	}
	client := &http.Client{
		// No proxy of the environment.
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: c.insecure}, //nolint:gosec // by --insecure, or this machine itself
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, cmp.Or(c.dial, address))
			},
		},
		// A redirect means that something other than the gateway answers.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s answered %s", c.url, resp.Status)
	}
	return nil
}
