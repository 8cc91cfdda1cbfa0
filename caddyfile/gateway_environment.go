package caddyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
)

// loadEnvironment reads the environment file. One that --env-file names must exist,
// the default one need not.
func (c *gatewayCommand) loadEnvironment() error {
	path := c.envFile
	if path == "" {
		path = defaultEnvFile
	}
	err := loadEnvFile(path)
	if c.envFile == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
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
			case bound && parse.IsOff(text):
				hint = "; it cannot be switched off: unset it for its default"
			case text == off:
				hint = "; for none, write 0s"
			}
			return fmt.Errorf("%s: %q is not a duration such as 10s%s", name, text, hint)
		}
	}
	if text, ok := os.LookupEnv("MAX_HEADER_SIZE"); ok {
		if n, err := humanize.ParseBytes(text); err != nil || n < 1024 || n > 64<<20 {
			return fmt.Errorf("MAX_HEADER_SIZE: %q is not a size from 1KiB to 64MiB, such as 16KiB", text)
		}
	}
	if text := os.Getenv("LOG_CREDENTIALS"); text != "" && strings.Trim(text, ", ") == "" {
		return fmt.Errorf("LOG_CREDENTIALS: %q names no query parameter: write names with commas or spaces between them, or unset it", text)
	}
	ranges := strings.Fields(strings.ReplaceAll(os.Getenv("TRUSTED_PROXIES"), ",", " "))
	for i, text := range ranges {
		if text == "private_ranges" {
			continue
		}
		if _, err := caddyhttp.CIDRExpressionToPrefix(text); err != nil {
			return fmt.Errorf("TRUSTED_PROXIES: entry %d of %d: %q is not an address or a network such as 10.0.0.0/8, nor private_ranges",
				i+1, len(ranges), text)
		}
	}
	if err := os.Setenv("TRUSTED_PROXIES", strings.Join(ranges, " ")); err != nil {
		return err
	}
	if name := os.Getenv("SERVER_NAME"); name != "" && c.listen != "" {
		return fmt.Errorf("SERVER_NAME %q and --listen %s are both given: leave one of them out", name, c.listen)
	}
	return nil
}
