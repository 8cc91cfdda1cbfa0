//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A gateway does not take the socket of another process, and keeps its own over reloads.
func TestNoTakeover(t *testing.T) {
	dir, err := os.MkdirTemp("", "tg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "a.sock")
	load := func() error {
		return caddy.Load(fmt.Appendf(nil, `{"admin":{"listen":"unix/%s|0600","config":{"persist":false}},"logging":{"logs":{"default":{"level":"PANIC"}}}}`, path), true)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := load(); err == nil || !strings.Contains(err.Error(), "another process answers at "+path) {
		t.Fatalf("a socket in use: %v", err)
	}
	if !answers(path) {
		t.Fatal("the socket was taken")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true)
		_ = caddy.Stop()
	})
	for range 2 {
		if err := load(); err != nil {
			t.Fatal(err)
		}
	}
	if !answers(path) {
		t.Error("nobody answers at the socket")
	}
}

func TestTakeoverOfNoSocket(t *testing.T) {
	for _, address := range []string{"", "localhost:2019", "unix/relative.sock", "unix/@abstract", "fd/3", "{env.NOT_SET}", "unix//no/such/directory/a.sock"} {
		if err := checkTakeover(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
