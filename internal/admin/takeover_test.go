//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/testkit"
)

// A gateway does not take the socket of another process, and keeps its own over reloads, also
// over those that fail.
func TestNoTakeover(t *testing.T) {
	dir, err := os.MkdirTemp("", "tg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	first, second, nowhere := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock"), filepath.Join(dir, "no", "directory.sock")
	load := func(path, more string) error {
		return caddy.Load(fmt.Appendf(nil, `{"admin":{"listen":"unix/%s|0600","config":{"persist":false}},"logging":{"logs":{"default":{"level":"PANIC"}}}%s}`, path, more), true)
	}
	refused := func(path string) {
		t.Helper()
		other, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := load(path, ""); err == nil || !strings.Contains(err.Error(), "another process answers at "+path) {
			t.Errorf("a socket in use: %v", err)
		}
		if err := accepts(other); err != nil {
			t.Errorf("the socket was taken: %v", err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(path string) {
		t.Helper()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
		testkit.Eventually(t, "the admin API at "+path, func() bool {
			resp, err := client.Get("http://127.0.0.1/config/") // the server before, which ends, may have it
			if err == nil {
				_ = resp.Body.Close()
			}
			return err == nil
		})
	}
	accepted := func(path string) {
		t.Helper()
		if err := load(path, ""); err != nil {
			t.Fatal(err)
		}
		serves(path)
	}
	fails := func(path, more string) {
		t.Helper()
		if err := load(path, more); err == nil {
			t.Error("a configuration that cannot be loaded")
		}
	}
	refused(first)
	t.Cleanup(func() {
		_ = caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true)
		_ = caddy.Stop()
	})
	accepted(first)
	fails(nowhere, "")
	fails(second, `,"apps":{"nonsense":{}}`)
	serves(second)
	testkit.Eventually(t, "the first socket is given up", func() bool {
		_, err := os.Stat(first)
		return err != nil
	})
	accepted(second) // where the admin API is, although the first configuration runs
	refused(first)
	fails(nowhere, "")
	accepted(second)
}

// accepts checks that who connects to the socket reaches the listener.
func accepts(l net.Listener) error {
	if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	for {
		// Those of the check are in front, and have been closed.
		got, err := l.Accept()
		if err != nil {
			return err
		}
		n, _ := got.Read(make([]byte, 1))
		_ = got.Close()
		if n == 1 {
			return nil
		}
	}
}

func TestSocketAt(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TG_TEST_ADMIN", "unix//run/b.sock")
	for address, want := range map[string]string{
		"": "", "localhost:2019": "", "unix/@abstract": "", "fd/3": "", "{env.NOT_SET}": "",
		"unix//run/a.sock|0600": "/run/a.sock", "unix//run/x/../a.sock": "/run/a.sock", "unix/relative.sock": filepath.Join(here, "relative.sock"),
		"{env.TG_TEST_ADMIN}": "/run/b.sock",
	} {
		if got := socketAt(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	old := caddy.DefaultAdminListen
	t.Cleanup(func() { caddy.DefaultAdminListen = old })
	caddy.DefaultAdminListen = "unix//run/default.sock"
	if got := socketAt(""); got != "/run/default.sock" {
		t.Errorf("the default: %q", got)
	}
}
