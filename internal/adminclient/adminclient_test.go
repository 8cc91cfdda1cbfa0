package adminclient_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/adminclient"
)

func command(t *testing.T, args ...string) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{}
	adminclient.Flags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// The address is found as the reload command finds it.
func TestAddress(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	site := write("site.caddyfile", "{\n\tadmin localhost:3001\n}\n:8000 {\n}\n")
	plain := write("plain.caddyfile", ":8000 {\n}\n")
	config := write("config.json", `{"admin": {"listen": "unix//run/admin.sock"}}`)
	other := write("other.conf", "{\n\tadmin localhost:3002\n}\n")
	broken := write("broken.caddyfile", "{\n\tadmin {\n")
	t.Chdir(dir)
	for _, tc := range []struct {
		args  []string
		here  string // the Caddyfile of the directory
		want  string
		fails string
	}{
		{nil, "", caddy.DefaultAdminListen, ""},
		{nil, "{\n\tadmin localhost:3003\n}\n", "localhost:3003", ""},
		{nil, "{\n\tadmin {$ADMIN_ADDRESS}\n}\n", "localhost:3004", ""},
		{nil, ":8000 {\n\tnonsense\n}\n", caddy.DefaultAdminListen, ""},
		{[]string{"--address", "localhost:1"}, "{\n\tadmin localhost:3003\n}\n", "localhost:1", ""},
		{[]string{"--address", "http://localhost:1/"}, "", "", "leave the http:// out, as in localhost:1"},
		{[]string{"--address", "unix//tmp/x.sock", "--config", site}, "", "unix//tmp/x.sock", ""},
		{[]string{"--config", site}, "{\n\tadmin localhost:3003\n}\n", "localhost:3001", ""},
		{[]string{"-c", plain}, "", caddy.DefaultAdminListen, ""},
		{[]string{"--config", config}, "", "unix//run/admin.sock", ""},
		{[]string{"--config", other, "--adapter", "caddyfile"}, "", "localhost:3002", ""},
		{[]string{"--config", broken}, "", "", "--address"},
		{[]string{"--config", filepath.Join(dir, "absent")}, "", "", "absent"},
		{[]string{"--adapter", "caddyfile"}, "", "", "without config file"},
	} {
		t.Setenv("ADMIN_ADDRESS", "localhost:3004")
		_ = os.Remove("Caddyfile")
		if tc.here != "" {
			write("Caddyfile", tc.here)
		}
		got, err := adminclient.Address(command(t, tc.args...).Flags())
		switch {
		case tc.fails == "" && (err != nil || got != tc.want):
			t.Errorf("%v with %q: got %q and %v, want %q", tc.args, tc.here, got, err, tc.want)
		case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
			t.Errorf("%v: got %q and %v, want an error with %q", tc.args, got, err, tc.fails)
		}
	}
}

func TestSend(t *testing.T) {
	t.Chdir(t.TempDir())
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"there is no zone \"x\""}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+string(body)+" "+r.Header.Get("Content-Type"))
	}))
	server.Listener = l
	server.Start()
	defer server.Close()
	flags := command(t, "--address", "unix/"+socket).Flags()
	body, err := adminclient.Send(flags, http.MethodPost, "/yes", map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(body)
	_ = body.Close()
	if string(text) != `POST {"a":1} application/json` {
		t.Errorf("got %s", text)
	}
	if _, err := adminclient.Send(flags, http.MethodGet, "/no", nil); err == nil || !strings.HasSuffix(err.Error(), `: there is no zone "x"`) {
		t.Errorf("got %v", err)
	}
	if _, err := adminclient.Send(command(t, "--address", "127.0.0.1:1").Flags(), http.MethodGet, "/", nil); err == nil || !strings.Contains(err.Error(), "no gateway answers at 127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
