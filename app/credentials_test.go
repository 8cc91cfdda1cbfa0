package app

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/redistest"
)

// A password that is in a file is read again for each connection, so that it can be
// rotated without a reload.
func TestCredentialsFromFile(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "first")
	url := func(password string) string { return "redis://:" + password + "@" + server.Addr() }
	file := filepath.Join(t.TempDir(), "url")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(url("first") + "\n")
	t.Setenv("REDIS_URL", "")
	t.Setenv("REDIS_URL_FILE", file)
	a := new(App)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := a.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Cleanup() }()
	client := a.Redis().Background()
	if err := client.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	rotate := func(password string) {
		t.Helper()
		if err := client.ConfigSet(ctx, "requirepass", password).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	// The connection that was killed may be used once more, before its end is noticed.
	ping := func() error {
		err := client.Ping(ctx).Err()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			err = client.Ping(ctx).Err()
		}
		return err
	}
	rotate("second")
	if err := ping(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with the old password: %v", err)
	}
	write(url("second"))
	if err := ping(); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	// A file that is being replaced does not lock the gateway out.
	rotate("first")
	write("")
	if err := ping(); err != nil {
		t.Errorf("without a file: %v, want the first password used", err)
	}
}

// Where the file is named it must be there, and an empty one does not mean memory.
func TestURLFileErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	t.Setenv("REDIS_URL", "")
	t.Setenv("REDIS_URL_FILE", file)
	for _, made := range []bool{false, true} {
		if made {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := new(App).Provision(ctx); err == nil {
			t.Errorf("a file that is there (%v) and empty was accepted", made)
		}
		cancel()
	}
}

// Pods without Redis are warned of.
func TestWarning(t *testing.T) {
	for _, tc := range []struct {
		host, url string
		want      bool
	}{{"", "", false}, {"10.0.0.1", "", true}, {"10.0.0.1", "redis://127.0.0.1:1", false}} {
		t.Setenv("KUBERNETES_SERVICE_HOST", tc.host)
		t.Setenv("REDIS_URL", tc.url)
		a := new(App)
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := a.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		if got := a.Warning(); (got != "") != tc.want {
			t.Errorf("%+v: got %q", tc, got)
		}
		_ = a.Cleanup()
		cancel()
	}
}
