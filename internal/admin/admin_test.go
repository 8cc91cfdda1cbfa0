package admin

import (
	"errors"
	"fmt"
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
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/dotenv"
)

func command(t *testing.T, args ...string) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	caddycmd.Commands()["probe"].CobraFunc(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// The address is found as the reload command finds it.
func TestAddress(t *testing.T) {
	onlyRuntimeDir(t)
	_ = os.Unsetenv(addressVariable) // it is restored
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
	variables := write("production.env", addressVariable+"=localhost:3005\n")
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
		{[]string{"--env-file", variables}, "{\n\tadmin localhost:3003\n}\n", "localhost:3005", ""},
		{[]string{"--envfile", variables, "--config", site}, "", "localhost:3001", ""},
		{[]string{"--env-file", filepath.Join(dir, "absent")}, "", "", "absent"},
	} {
		t.Setenv("ADMIN_ADDRESS", "localhost:3004")
		_ = os.Remove("Caddyfile")
		if tc.here != "" {
			write("Caddyfile", tc.here)
		}
		got, err := address(command(t, tc.args...).Flags())
		switch {
		case tc.fails == "" && (err != nil || got != tc.want):
			t.Errorf("%v with %q: got %q and %v, want %q", tc.args, tc.here, got, err, tc.want)
		case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
			t.Errorf("%v: got %q and %v, want an error with %q", tc.args, got, err, tc.fails)
		}
	}
}

// The gateway reads .env in its directory, and so do commands there.
func TestAddressOfEnvironmentFile(t *testing.T) {
	onlyRuntimeDir(t)
	_ = os.Unsetenv(addressVariable) // it is restored
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{
		addressVariable + "=unix//run/admin.sock\nJWT_SECRET_KEY=x": "unix//run/admin.sock",
		addressVariable + "=off":                                    caddy.DefaultAdminListen,
		addressVariable + "=":                                       caddy.DefaultAdminListen,
		"# of another\nprogram":                                     caddy.DefaultAdminListen,
		"OTHER=localhost:3001\n\n":                                  caddy.DefaultAdminListen,
	} {
		if err := os.WriteFile(dotenv.Default, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := address(command(t).Flags()); err != nil || got != want {
			t.Errorf("%q: got %s and %v, want %s", text, got, err, want)
		}
	}
}

func TestDo(t *testing.T) {
	t.Chdir(t.TempDir())
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/caddy":
			http.Error(w, `{"error":"no such path"}`, http.StatusNotFound)
		case "/no":
			http.Error(w, `{"status":404,"detail":"no zone \"x\""}`, http.StatusNotFound)
		case "/bad":
			http.Error(w, "gone fishing", http.StatusNotFound)
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/text":
			_, _ = io.WriteString(w, "text")
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"method":%q,"type":%q,"body":%s}`, r.Method, r.Header.Get("Content-Type"), body)
		}
	}))
	server.Listener = l
	server.Start()
	defer server.Close()
	run := func(args ...string) (string, error) {
		cmd := command(t)
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(args)
		err := cmd.Execute()
		return out.String(), err
	}
	at := "--address=unix/" + socket
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{at, "/yes"}, "NAME  A\nPOST  1\n"},
		{[]string{at, "/yes", "--json"}, `{"method":"POST","type":"application/json","body":{"a":1}}`},
		{[]string{at, "/nothing"}, "NAME  A\n      0\n"},
		{[]string{at, "/no"}, "error: the gateway at unix/" + socket + `: no zone "x"`},
		{[]string{at, "/caddy"}, "error: the gateway at unix/" + socket + ": no such path"},
		{[]string{at, "/bad"}, "error: the gateway at unix/" + socket + " answers 404: gone fishing"},
		{[]string{at, "/text"}, "error: reading the gateway's answer: "},
		{[]string{"--address=127.0.0.1:1", "/"}, "error: no gateway answers at 127.0.0.1:1; give the address"},
		{[]string{at}, "error: accepts 1 arg(s), received 0"},
		{[]string{"/", "--port", "1"}, "error: unknown flag: --port"},
	} {
		got, err := run(tc.args...)
		if want, ok := strings.CutPrefix(tc.want, "error: "); ok {
			if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %q and %v, want one line that begins with %q", tc.args, got, err, want)
			}
		} else if err != nil || got != tc.want {
			t.Errorf("%s: got %q and %v, want %q", tc.args, got, err, tc.want)
		}
	}
}

// answer is what the server of TestDo sends.
type answer struct {
	Method string         `json:"method"`
	Type   string         `json:"type"`
	Body   map[string]int `json:"body"`
}

func init() {
	Register(Command{
		Name: "probe", Usage: "<path>", Short: "Asks for a path", Long: "It sends a POST request.",
		Examples: []string{"probe /yes"},
		Args:     cobra.ExactArgs(1),
		Run: func(cmd *cobra.Command, args []string) error {
			return Do(cmd, http.MethodPost, args[0], map[string]int{"a": 1}, func(w io.Writer, v answer) error {
				_, err := fmt.Fprintf(w, "NAME\tA\n%s\t%d\n", v.Method, v.Body["a"])
				return err
			})
		},
	})
}

// Every command explains how the gateway is found, and has an example.
func TestHelp(t *testing.T) {
	c := caddycmd.Commands()["probe"]
	if !strings.Contains(c.Usage, "--address <interface>") || !strings.Contains(c.Long, "unix//run/caddy.sock") {
		t.Errorf("%s\n%s", c.Usage, c.Long)
	}
	if got := command(t).Example; got != "  tentagate probe /yes" {
		t.Errorf("got %q", got)
	}
}

func TestServer(t *testing.T) {
	serve := func(method, body string, handler caddy.AdminHandlerFunc) (*httptest.ResponseRecorder, string) {
		w := httptest.NewRecorder()
		err := handler(w, httptest.NewRequest(method, "/", strings.NewReader(body)))
		if refused, ok := errors.AsType[caddy.APIError](err); ok {
			w.Code = refused.HTTPStatus
		}
		return w, fmt.Sprint(err)
	}
	w, _ := serve("GET", "", func(w http.ResponseWriter, _ *http.Request) error { return JSON(w, map[string]int{"a": 1}) })
	if w.Code != 200 || w.Body.String() != "{\n\t\"a\": 1\n}\n" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	for body, want := range map[string]string{
		`{"a": 1}`: "<nil>", ` {"a": 1} `: "<nil>",
		``: "EOF: want a form", `{`: "want a form", `{"b": 1}`: `unknown field "b": want a form`, `{"a": 1} {}`: "more than one value", `{"a": 1}]`: "more than one value",
		`{"a": 1}` + strings.Repeat(" ", 100): "longer than 64 bytes",
	} {
		w, text := serve("POST", body, func(_ http.ResponseWriter, r *http.Request) error {
			var v struct{ A int }
			err := ReadJSON(r, 64, &v, "a form")
			if err == nil && v.A != 1 {
				t.Errorf("%s: got %d", body, v.A)
			}
			return err
		})
		if !strings.Contains(text, want) || want != "<nil>" && w.Code != 400 {
			t.Errorf("%s: got %d %s, want %s", body, w.Code, text, want)
		}
	}
	for want, known := range map[string][]string{`no zone "x": no zone is in use`: nil, `no zone "x": accepted are a, b`: {"a", "b"}} {
		if got := ErrUnknown("zone", "x", known).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
