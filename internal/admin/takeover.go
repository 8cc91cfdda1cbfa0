//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(new(socketCheck)) }

// socketCheck is a module without endpoints, which has Caddy refuse a configuration whose
// admin API would take the Unix socket away from another process. Caddy removes whatever is
// at the path, so that commands would talk to the new process, and nobody to the old one.
type socketCheck struct{}

// CaddyModule returns the Caddy module information.
func (*socketCheck) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.tentagate_socket", New: func() caddy.Module { return new(socketCheck) }}
}

// Routes returns no endpoints.
func (*socketCheck) Routes() []caddy.AdminRoute { return nil }

// Provision checks the address of the configuration that is being loaded.
func (*socketCheck) Provision(ctx caddy.Context) error {
	return takeover.check(socketOf(ctx), socketOf(caddy.ActiveContext()))
}

// takeover knows the socket that the admin API of this process had last.
var takeover takeoverCheck

type takeoverCheck struct {
	mu sync.Mutex
	// last is the socket of the last configuration that passed the check. If that failed to
	// load, the admin API is there, or still at the socket of the running configuration.
	last string
}

// check returns an error if another process answers at the Unix socket of a configuration.
// running is the socket of the one that runs. Either may be "".
func (c *takeoverCheck) check(path, running string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path != "" && path != running && path != c.last && answers(path) {
		return fmt.Errorf("admin: another process answers at %s: end that gateway first, or give this one another address by the global option admin or by TENTAGATE_ADMIN", path)
	}
	c.last = path
	return nil
}

// socketOf returns the path of the Unix socket at which a configuration has its admin API,
// or "".
func socketOf(ctx caddy.Context) string {
	// Caddy has no other way to ask for it.
	config := reflect.ValueOf(ctx).FieldByName("cfg")
	if !config.IsValid() || config.Kind() != reflect.Pointer || config.IsNil() {
		return ""
	}
	admin := config.Elem().FieldByName("Admin")
	if !admin.IsValid() || admin.Kind() != reflect.Pointer || admin.IsNil() || admin.Elem().FieldByName("Disabled").Bool() {
		return ""
	}
	return socketAt(admin.Elem().FieldByName("Listen").String())
}

// socketAt returns the absolute path of the Unix socket of an address of the admin API, or "".
func socketAt(address string) string {
	text, err := caddy.NewReplacer().ReplaceOrErr(address, false, true)
	if err != nil {
		return "" // Caddy says so
	}
	parsed, err := caddy.ParseNetworkAddress(cmp.Or(text, caddy.DefaultAdminListen))
	if err != nil || !parsed.IsUnixNetwork() {
		return "" // Caddy says so
	}
	path, _, _ := strings.Cut(parsed.Host, "|")
	if path == "" || strings.HasPrefix(path, "@") {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	return path
}

// Interface guards
var (
	_ caddy.Provisioner = (*socketCheck)(nil)
	_ caddy.AdminRouter = (*socketCheck)(nil)
)
