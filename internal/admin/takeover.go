//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"fmt"
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
	// Caddy has no other way to ask for it.
	config := reflect.ValueOf(ctx).FieldByName("cfg")
	if !config.IsValid() || config.Kind() != reflect.Pointer || config.IsNil() {
		return nil
	}
	admin := config.Elem().FieldByName("Admin")
	if !admin.IsValid() || admin.Kind() != reflect.Pointer || admin.IsNil() {
		return nil
	}
	return checkTakeover(admin.Elem().FieldByName("Listen").String())
}

// own are the sockets at which the admin API of this process has been.
var own struct {
	sync.Mutex
	paths map[string]bool
}

// checkTakeover returns an error if another process answers at the Unix socket of an
// address of the admin API.
func checkTakeover(address string) error {
	text, err := caddy.NewReplacer().ReplaceOrErr(address, false, true)
	if err != nil {
		return nil //nolint:nilerr // Caddy says so
	}
	parsed, err := caddy.ParseNetworkAddress(text)
	if err != nil || !parsed.IsUnixNetwork() {
		return nil //nolint:nilerr // Caddy says so
	}
	path, _, _ := strings.Cut(parsed.Host, "|")
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	own.Lock()
	defer own.Unlock()
	if !own.paths[path] && answers(path) {
		return fmt.Errorf("admin: another process answers at %s: end that gateway first, or give this one another address by the global option admin or by TENTAGATE_ADMIN", path)
	}
	if own.paths == nil {
		own.paths = map[string]bool{}
	}
	own.paths[path] = true
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner = (*socketCheck)(nil)
	_ caddy.AdminRouter = (*socketCheck)(nil)
)
