package caddyfile

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/dustin/go-humanize"
	"golang.org/x/net/idna"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/dotenv"
	"github.com/pythopus/tentagate/internal/parse"
)

// loadEnvironment reads an environment file. One that is named must exist, the default
// one need not.
func loadEnvironment(path string) error {
	if err := dotenv.Load(path); err != nil {
		return err
	}
	// The file may have set where data is kept.
	caddy.ConfigAutosavePath = filepath.Join(caddy.AppConfigDir(), "autosave.json")
	caddy.DefaultStorage = &certmagic.FileStorage{Path: caddy.AppDataDir()}
	return nil
}

// checkEnvironment checks the variables of the built-in Caddyfile, where a mistake
// would be reported for a line that the operator did not write.
func (c *gatewayCommand) checkEnvironment() error {
	for _, name := range []string{"SERVER_NAME", envAdmin, "SHUTDOWN_DELAY", "GRACE_PERIOD", "READ_HEADER_TIMEOUT", "IDLE_TIMEOUT", "MAX_HEADER_SIZE"} {
		if text, ok := os.LookupEnv(name); ok && strings.TrimSpace(text) == "" {
			// Manifests set variables to nothing for the default.
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	if text, ok := os.LookupEnv(envAdmin); ok && !isAdminAddress(text) {
		return fmt.Errorf("TENTAGATE_ADMIN: %q is none of host:port, a Unix socket such as unix//run/tentagate.sock, and off", text)
	}
	for _, name := range []string{"SHUTDOWN_DELAY", "GRACE_PERIOD", "READ_HEADER_TIMEOUT", "IDLE_TIMEOUT"} {
		text, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		bound := name == "READ_HEADER_TIMEOUT" || name == "IDLE_TIMEOUT" // for which Caddy has its own default at zero
		if d, err := caddy.ParseDuration(text); err != nil || d < 0 || bound && d == 0 {
			hint := ""
			switch {
			case bound:
				hint = unsetHint(text, "its default")
			case text == off:
				hint = "; for none, write 0s"
			}
			return fmt.Errorf("%s: %q is not a duration such as 10s%s", name, text, hint)
		}
	}
	if text, ok := os.LookupEnv("MAX_HEADER_SIZE"); ok {
		if n, err := humanize.ParseBytes(text); err != nil || n < 1024 || n > 64<<20 {
			return fmt.Errorf("MAX_HEADER_SIZE: %q is not a size from 1KiB to 64MiB, such as 16KiB%s", text, unsetHint(text, "its default"))
		}
	}
	if text := os.Getenv("LOG_CREDENTIALS"); text != "" && strings.Trim(text, ", ") == "" {
		return fmt.Errorf("LOG_CREDENTIALS: %q names no query parameter: write names with commas or spaces between them, or unset it", text)
	}
	ranges := items(os.Getenv("TRUSTED_PROXIES"))
	for i, text := range ranges {
		if text == "private_ranges" {
			continue
		}
		if _, err := caddyhttp.CIDRExpressionToPrefix(text); err != nil {
			return fmt.Errorf("TRUSTED_PROXIES: entry %d of %d: %q is not an address or a network such as 10.0.0.0/8, nor private_ranges%s",
				i+1, len(ranges), text, unsetHint(text, "none"))
		}
	}
	if text := os.Getenv("TRUSTED_PROXIES"); strings.TrimSpace(text) != "" && len(ranges) == 0 {
		return fmt.Errorf("TRUSTED_PROXIES: %q has no value: write addresses and networks with commas between them, or unset it", text)
	}
	if err := os.Setenv("TRUSTED_PROXIES", strings.Join(ranges, " ")); err != nil {
		return err
	}
	if name := os.Getenv("SERVER_NAME"); name != "" && c.listen != "" {
		return fmt.Errorf("SERVER_NAME %q and --listen %s are both given: leave one of them out", name, c.listen)
	}
	for _, site := range items(os.Getenv("SERVER_NAME")) {
		if !isSiteAddress(site) {
			return fmt.Errorf("SERVER_NAME: %q is not the address of a site: write it as api.example.com, api.example.com:8443 or :8000", site)
		}
	}
	for _, name := range []string{"TENTAGATE_OPTIONS", "CADDY_SERVER_EXTRA_DIRECTIVES", "CADDY_GLOBAL_OPTIONS"} {
		if err := checkBraces(name); err != nil {
			return err
		}
	}
	if err := c.checkMetricsListen(); err != nil {
		return err
	}
	return checkOTEL()
}

// items returns what commas or spaces separate in the value of a variable.
func items(text string) []string { return strings.Fields(strings.ReplaceAll(text, ",", " ")) }

// isSiteAddress reports whether a text is an address by which Caddy can serve the
// gateway. A number is a port without its colon, and not a host.
func isSiteAddress(text string) bool {
	address, err := httpcaddyfile.ParseAddress(text)
	if err != nil || address.Path != "" || address.Host == off || strings.Contains(address.Scheme, "{") {
		return false
	}
	host := strings.ReplaceAll(address.Host, "*", "any")
	if ascii, err := idna.ToASCII(host); err == nil {
		host = ascii
	}
	if ip, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(ip, "]")
	}
	return host == "" && (address.Port != "" || address.Scheme != "") || isHost(host) && strings.Trim(host, "0123456789") != ""
}

// checkBraces refuses lines of a Caddyfile whose braces are not in pairs: what follows
// them would be read as something else.
func checkBraces(variable string) error {
	tokens, err := caddyfile.Tokenize([]byte(os.Getenv(variable)), variable)
	if err != nil {
		return nil // the adapter says what is wrong
	}
	open := 0
	for _, token := range tokens {
		switch {
		case token.Quoted():
		case token.Text == "{":
			open++
		case token.Text == "}":
			open--
		}
		if open < 0 {
			return fmt.Errorf("%s:%d: a closing brace without an opening one", variable, token.Line)
		}
	}
	if open > 0 {
		return fmt.Errorf("%s: an opening brace without a closing one", variable)
	}
	return nil
}

// checkMetricsListen refuses an address for the metrics at which the gateway listens itself:
// its site would answer there, and nobody see that they are missing.
func (c *gatewayCommand) checkMetricsListen() error {
	address := getenv(envMetricsListen)
	host, port, err := splitAddress(address)
	if err != nil {
		return nil // it is not set, or withInternalSite says what is wrong
	}
	for _, site := range items(cmp.Or(c.listen, os.Getenv("SERVER_NAME"), defaultListen)) {
		own, err := httpcaddyfile.ParseAddress(site)
		if err != nil {
			continue // Caddy says so
		}
		bound := ""
		if c.listen != "" {
			bound = strings.Trim(own.Host, "[]") // a site listens at all addresses of the machine
		}
		ports := []string{own.Port}
		if own.Port == "" {
			ports = map[string][]string{"http": {"80"}, "https": {"443"}, "": {"443", "80"}}[own.Scheme] // 80 redirects
		}
		if slices.Contains(ports, port) && (isUnspecified(bound) || isUnspecified(host) || bound == host) {
			return fmt.Errorf("%s: %q is where the gateway listens itself: give the metrics another port, such as :9090, or unset it", envMetricsListen, address)
		}
	}
	return nil
}

// isUnspecified reports whether a host to listen at stands for all addresses.
func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// unsetHint ends what is said about a value that was meant to switch off what has no
// `off`: it says what the variable stands for when it is not set.
func unsetHint(text, unset string) string {
	if parse.IsOff(text) || text == "none" {
		return "; unset it for " + unset
	}
	return ""
}
