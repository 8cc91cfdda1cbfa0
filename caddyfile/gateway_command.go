package caddyfile

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/dotenv"
)

// builtin is the Caddyfile of `tentagate gateway`.
//
//go:embed gateway.Caddyfile
var builtin string

// builtinName is the file that errors name; --print-caddyfile shows its lines.
const builtinName = "built-in Caddyfile"

// Parts of it that flags and variables replace.
const (
	builtinSite   = "{$SERVER_NAME::8000} {"
	builtinAdmin  = "admin {$TENTAGATE_ADMIN:off}"
	builtinImport = "import Caddyfile.d/*.caddyfile"
	builtinLog    = "log requests {"
	builtinBody   = "read_body_idle {$BODY_TIMEOUT:60s} {$BODY_RATE:100}"
	builtinBlock  = "\t\t{$TENTAGATE_OPTIONS}\n"
)

const (
	// envMetricsListen is the variable with the address for metrics and probes.
	envMetricsListen = "METRICS_LISTEN"
	// envAdmin is the variable with the address of the admin API.
	envAdmin = "TENTAGATE_ADMIN"
)

// internalSite serves metrics and health checks to the operator. The %s are its port
// and the line that binds it.
const internalSite = `
# Metrics and probes, for a port that is not published.
http://:%s {%s
	health
	handle /metrics {
		metrics
	}
	handle {
		respond 404
	}
}
`

const (
	defaultListen = ":8000"
	defaultAdmin  = "localhost:2019"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "gateway",
		Usage: "[--listen <address>] [--env-file <path>] [--admin[=<address>]] [--print-caddyfile] [--demo]",
		Short: "Runs the API gateway from the environment, without a configuration file",
		Long: `
Runs the API gateway with the built-in Caddyfile. It needs BACKEND_SERVICES, the
services as JSON or as a comma-separated list of name=URL, and JWT_SECRET_KEY or
another source of keys. A file .env in the working directory is read if there is
one; variables that are already set take precedence.

--print-caddyfile prints the Caddyfile, as a starting point for your own.

--demo also serves two small services, and prints curl commands with a valid token
that show what the gateway does. It needs no environment.`,
		CobraFunc: func(cmd *cobra.Command) {
			var c gatewayCommand
			describeRoot(cmd)
			admin.Describe(cmd, "gateway", "gateway --demo", "gateway --listen 127.0.0.1:8080 --env-file production.env --admin")
			flags := cmd.Flags()
			flags.StringVarP(&c.listen, "listen", "l", "", "Address to listen on, host:port or :port, instead of SERVER_NAME (default: "+defaultListen+")")
			dotenv.AddFlag(flags, &c.envFile)
			flags.StringVar(&c.admin, "admin", "", "Address of the admin API, or off; --admin alone is "+defaultAdmin+" (default: a Unix socket of this user)")
			flags.Lookup("admin").NoOptDefVal = defaultAdmin
			flags.BoolVar(&c.print, "print-caddyfile", false, "Print the Caddyfile and exit")
			flags.BoolVar(&c.demo, "demo", false, "Serve two demo services and print curl commands to try")
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 && c.admin == defaultAdmin {
					if _, _, err := splitAddress(args[0]); err == nil {
						return fmt.Errorf("unexpected argument %q: an address of the admin API is written as --admin=%s", args[0], args[0])
					}
				}
				return cobra.NoArgs(cmd, args)
			}
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd.OutOrStdout()) }
		},
	})
}

// gatewayCommand are the flags of `tentagate gateway`.
type gatewayCommand struct {
	listen, envFile, admin string
	print, demo            bool
}

func (c *gatewayCommand) run(stdout io.Writer) error {
	text, err := c.caddyfile()
	if err != nil {
		return err
	}
	if c.print {
		// METRICS_LISTEN may be in it, which adds lines.
		if err := loadEnvironment(c.envFile); err != nil {
			return err
		}
		text = withOTEL(text)
		if text, err = withInternalSite(text); err != nil {
			return err
		}
		_, err := io.WriteString(stdout, text)
		return err
	}
	var d *demo
	if c.demo {
		// The demo sets its own environment.
		if d, err = startDemo(c.address()); err != nil {
			return err
		}
		defer d.stop()
		text = strings.Replace(text, builtinImport, "", 1)
		text = strings.Replace(text, builtinLog, builtinLog+"\n\t\toutput discard", 1)
	} else if err := loadEnvironment(c.envFile); err != nil {
		return err
	}
	if err := c.checkEnvironment(); err != nil {
		return err
	}
	if err := nameService(); err != nil {
		return err
	}
	text = withOTEL(text)
	if text, err = withInternalSite(text); err != nil {
		return err
	}
	if text, err = withBodyBounds(text); err != nil {
		return err
	}
	text = c.withSocket(text)
	caddy.TrapSignals()
	limitMemory()
	load := func() error {
		config, err := adapt(text)
		if err != nil {
			return err
		}
		return caddy.Load(config, true)
	}
	if err := load(); err != nil {
		return err
	}
	// SIGUSR1 reloads the files and services of the environment.
	caddy.SetLastConfig(builtinName, "caddyfile", func(string, string) error { return load() })
	caddy.Log().Named("gateway").Info("serving the built-in Caddyfile")
	if d != nil {
		if err := d.print(stdout); err != nil {
			return err
		}
	}
	select {}
}

// caddyfile returns the built-in Caddyfile as the flags change it.
func (c *gatewayCommand) caddyfile() (string, error) {
	text := builtin
	if c.listen != "" {
		host, port, err := splitListen(c.listen)
		if err != nil {
			return "", err
		}
		if port == "0" {
			if port, err = freePort(host); err != nil {
				return "", fmt.Errorf("--listen %s: %w", c.listen, err)
			}
			c.listen = net.JoinHostPort(host, port)
		}
		site := ":" + port + " {"
		if host != "" {
			site += "\n\tbind " + host
		}
		text = strings.Replace(text, builtinSite, site, 1)
	}
	if c.admin != "" {
		if !isAdminAddress(c.admin) {
			return "", fmt.Errorf("--admin=%s: accepted are host:port, as in --admin=localhost:2019, a Unix socket, as in --admin=unix//run/tentagate.sock, and off", c.admin)
		}
		text = strings.Replace(text, builtinAdmin, "admin "+c.admin, 1)
	}
	return text, nil
}

// withInternalSite adds the site for metrics and health checks if METRICS_LISTEN is
// set, and removes the metrics from the public site.
func withInternalSite(text string) (string, error) {
	address := getenv(envMetricsListen)
	if address == "" || address == off {
		return text, nil
	}
	host, port, err := splitAddress(address)
	if err != nil || port == "0" {
		return "", fmt.Errorf("%s: %q: write it as :9090, 127.0.0.1:9090 or [::1]:9090, or off", envMetricsListen, address)
	}
	bind := ""
	if host != "" {
		bind = "\n\tbind " + host
	}
	text = strings.Replace(text, "\n"+builtinImport, fmt.Sprintf(internalSite, port, bind)+"\n"+builtinImport, 1)
	for line := range strings.Lines(os.Getenv("TENTAGATE_OPTIONS")) {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word == "metrics" {
			return text, nil
		}
	}
	return strings.Replace(text, builtinBlock, "\t\tmetrics off\n"+builtinBlock, 1), nil
}

// withBodyBounds sets the server's timeouts for request bodies, which apply before
// the directive runs and while the rest of a refused request is read.
func withBodyBounds(text string) (string, error) {
	l, err := new(gateway).limits()
	if err != nil {
		return "", err
	}
	line := "read_body_idle -1s"
	if l.bodyTimeout > 0 {
		line = fmt.Sprintf("read_body_idle %s %d", l.bodyTimeout, l.bodyRate)
	}
	return strings.Replace(text, builtinBody, line, 1), nil
}

// withSocket has the admin API listen on a Unix socket of this user, unless it is said where
// else. The gateway serves without an admin API if there is no place for a socket.
func (c *gatewayCommand) withSocket(text string) string {
	if c.admin != "" || os.Getenv(envAdmin) != "" {
		return text
	}
	path, err := admin.ClaimSocket(cmp.Or(c.listen, os.Getenv("SERVER_NAME"), defaultListen))
	address := "unix/" + path + "|0600"
	if err == nil && !isAdminAddress(address) {
		err = fmt.Errorf("%s has characters that an address cannot have", path)
	}
	if err != nil {
		caddy.Log().Named("gateway").Warn("no admin API: there is no place for its Unix socket; set TENTAGATE_ADMIN to an address, or to off", zap.Error(err))
		return text
	}
	return strings.Replace(text, builtinAdmin, "admin "+address, 1)
}

// address returns where the gateway listens.
func (c *gatewayCommand) address() string {
	return cmp.Or(c.listen, defaultListen)
}

// splitListen reads the value of --listen.
func splitListen(address string) (host, port string, err error) {
	if host, port, err = splitAddress(address); err != nil {
		return "", "", fmt.Errorf("--listen %q: write it as :8000, 127.0.0.1:8000 or [::1]:8000", address)
	}
	return host, port, nil
}

// splitAddress reads host:port or :port, with an IP address or a name as host.
func splitAddress(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 || host != "" && !isHost(host) {
		return "", "", errors.New("it is not an address")
	}
	return host, port, nil
}

// isAdminAddress reports whether the admin API can listen there, or is off.
func isAdminAddress(address string) bool {
	if address == off || strings.ContainsAny(address, " \t\r\n{}\"`") {
		return address == off
	}
	if a, err := caddy.ParseNetworkAddress(address); err == nil && a.Network != "tcp" {
		return a.IsUnixNetwork() && strings.HasPrefix(a.Host, "/") || a.IsFdNetwork()
	}
	_, _, err := splitAddress(strings.TrimPrefix(address, "tcp/"))
	return err == nil
}

// freePort returns a free port.
func freePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// adapt turns the Caddyfile into a configuration.
func adapt(text string) ([]byte, error) {
	if found, err := filepath.Glob("Caddyfile.d/*.caddyfile"); err != nil || len(found) == 0 {
		// Caddy warns of an import that matches no file.
		text = strings.Replace(text, builtinImport, "", 1)
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	if adapter == nil {
		return nil, errors.New("this binary was built without the Caddyfile adapter")
	}
	origins := originsOf(text)
	config, warnings, err := adapter.Adapt([]byte(text), map[string]any{"filename": builtinName})
	for _, warning := range warnings {
		if strings.Contains(warning.Message, "not formatted") {
			continue // substituted variables are not formatted
		}
		caddy.Log().Named("gateway").Warn(origins.rename(warning.String()))
	}
	if err != nil {
		return nil, errors.New(origins.rename(err.Error()))
	}
	return []byte(origins.rename(string(config))), nil
}

// limitMemory keeps the heap within the memory limit of the container.
func limitMemory() {
	_, _ = memlimit.Set(
		memlimit.WithLogger(slog.New(slog.DiscardHandler)),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)),
	)
}
