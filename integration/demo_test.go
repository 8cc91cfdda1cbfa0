package integration

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/testkit"
)

// The demonstration as a new user runs it: every line that it prints is pasted
// into a shell and answers what is printed with it.
func TestDemo(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "grep"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not on PATH", tool)
		}
	}
	g := prepare(t)
	g.addr = freeport.Addr(t)
	g.run([]string{"JWT_JWKS_URL=https://not.for.the.demonstration", "BACKEND_SERVICES=nor this"}, "gateway", "--demo", "--listen", g.addr)
	const last = "its success closes the circuit"
	testkit.Eventually(t, "the lines to paste", func() bool {
		_, rest, ok := strings.Cut(g.log.String(), last)
		return ok && strings.Count(rest, "\n") >= 3
	})
	lines := strings.Split(g.log.String(), "\n")
	tried := 0
	for i, line := range lines {
		want, ok := strings.CutPrefix(line, "# expect: ")
		if !ok {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", lines[i+1]).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s\nprinted %q, %v, want %q", lines[i+1], got, err, want)
		}
		tried++
	}
	if tried < 8 {
		t.Errorf("only %d lines to paste:\n%s", tried, g.log.String())
	}

	// The commands find its socket, which nobody else can open.
	found, _ := filepath.Glob(filepath.Join(g.home, "tentagate-*", "*.sock"))
	if len(found) != 1 {
		t.Fatalf("sockets: %v", found)
	}
	if info, err := os.Stat(found[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v %v", found[0], info, err)
	}
	status := exec.CommandContext(t.Context(), binary(t), "status")
	status.Dir, status.Env = g.home, g.environment(nil)
	if out, err := status.CombinedOutput(); err != nil || !strings.Contains(string(out), "UPTIME") {
		t.Errorf("status: %v\n%s", err, out)
	}
}

// The gateway from an environment file alone, and its health from outside.
func TestGatewayCommand(t *testing.T) {
	backend, _ := echo(t)
	g := prepare(t)
	writeEnvFile(t, g, "# of the test\nexport JWT_SECRET_KEY='"+secret+"'\nBACKEND_SERVICES={\"users\":\""+backend.URL+"\"}\nALLOWED_ORIGINS=https://app.example.com\n")
	g.run(nil, "gateway", "--listen", g.addr, "--admin="+g.admin)
	g.waitReady()
	bearer := token(t, "ann")
	if a := g.get("/api/users/x", "Authorization", "Bearer "+bearer, "Origin", "https://app.example.com"); a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if a := g.get("/metrics"); !strings.Contains(a.body, "caddy_http_requests_total") || !strings.Contains(a.body, "tentagate_") {
		t.Error("the metrics lack Caddy's series or TentaGate's")
	}
	if code, out := cli(t, nil, "healthcheck", "--url", g.url("/health")); code != 0 {
		t.Errorf("healthcheck: %d %s", code, out)
	}
	if code, out := cli(t, nil, "healthcheck", "--url", g.url("/api/users/x")); code != 1 || !strings.Contains(out, "401") {
		t.Errorf("healthcheck of a path that needs a token: %d %s", code, out)
	}
	for place, text := range map[string]string{"/config/": g.adminGet("/config/"), "the log": g.log.String()} {
		if strings.Contains(text, secret) || strings.Contains(text, bearer) {
			t.Errorf("%s shows a secret", place)
		}
	}
	code, minted := cli(t, []string{"JWT_SECRET_KEY=" + secret}, "token", "--sub", "bob")
	if code != 0 {
		t.Fatalf("token: %d %s", code, minted)
	}
	if a := g.get("/api/users/x", "Authorization", "Bearer "+strings.TrimSpace(minted)); a.status != http.StatusOK {
		t.Errorf("the token of `tentagate token`: %d %s", a.status, a.body)
	}
}

// No log of the shipped gateway has a credential, neither the
// access log nor that of the proxy when an answer breaks off.
func TestGatewayCommandLogsNoCredentials(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer service.Close()
	g := prepare(t)
	g.run([]string{
		"JWT_SECRET_KEY=" + secret, "BACKEND_SERVICES=users=" + service.URL,
		"TENTAGATE_OPTIONS=jwt {\nsources header query:access_token cookie:sid\n}",
	}, "gateway", "--listen", g.addr, "--admin="+g.admin)
	g.waitReady()
	bearer := token(t, "ann")
	const key = "an-api-key-of-the-client"
	for _, path := range []string{"/api/users/ok", "/api/users/breaks", "/api/users/no.such"} {
		for _, fields := range [][]string{{"X-Api-Key", key}, {"Authorization", "Bearer " + bearer}, {"Cookie", "sid=" + bearer, "X-Auth-Token", key}} {
			query := ""
			if fields[0] == "X-Api-Key" {
				query = "?access_token=" + bearer
			}
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			text := "GET " + path + query + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
			for i := 0; i < len(fields); i += 2 {
				text += fields[i] + ": " + fields[i+1] + "\r\n"
			}
			_, _ = io.WriteString(conn, text+"\r\n")
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}
	testkit.Eventually(t, "the proxy writes down what broke off", func() bool { return strings.Count(g.log.String(), "incomplete response") == 3 })
	for what, s := range map[string]string{"token": bearer, "key": key, "token's signature": bearer[strings.LastIndexByte(bearer, '.')+1:], "token's subject": `"user_id"`} {
		if at := strings.Index(g.log.String(), s); at >= 0 {
			t.Errorf("the log shows the %s: …%s", what, tail(g.log.String()[:at], 300))
		}
	}
}

// The log of the shipped gateway says why a service or the keys cannot be reached, although
// it leaves what is said about requests to a log of its own.
func TestGatewayCommandLogsReasons(t *testing.T) {
	gone := freeport.Addr(t)
	g := prepare(t)
	g.run([]string{
		"JWT_JWKS_URL=http://" + gone + "/keys", "BACKEND_SERVICES=users=http://" + gone,
		"TENTAGATE_OPTIONS=public /api/users/open",
	}, "gateway", "--listen", g.addr, "--admin="+g.admin)
	g.waitReady()
	if a := g.get("/api/users/open?secret=1"); a.status != http.StatusBadGateway {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, want := range []string{
		`"logger":"http.handlers.jwt_auth","msg":"fetching keys failed`,
		`"logger":"http.log.error","msg":"dial tcp ` + gone + `: connect: connection refused","status":502`,
		`"path":"/api/users/open","service":"users","upstream":"` + gone + `"`,
	} {
		testkit.Eventually(t, want, func() bool { return strings.Contains(g.log.String(), want) })
	}
}

func writeEnvFile(t *testing.T, g *gateway, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.home, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each error ends the command with exit code 1 and says how to fix it.
func TestGatewayCommandErrors(t *testing.T) {
	good := []string{"JWT_SECRET_KEY=" + secret, "BACKEND_SERVICES=users=http://127.0.0.1:1"}
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"nothing", nil, nil, "no services: set BACKEND_SERVICES"},
		{"no secret", good[1:], nil, "set the environment variable JWT_SECRET_KEY"},
		{"services", []string{good[0], `BACKEND_SERVICES={"users":"users:8000"}`}, nil, `BACKEND_SERVICES: character 2: service users: "users:8000" is not a URL`},
		{"proxies", append([]string{"TRUSTED_PROXIES=10.0.0.0/8, all"}, good...), nil, `TRUSTED_PROXIES: entry 2 of 2: "all"`},
		{"no env file", good, []string{"--env-file", "missing"}, "missing"},
		{"listen", good, []string{"--listen", "8000"}, "--listen"},
		{"argument", good, []string{"Caddyfile"}, `unknown command "Caddyfile"`},
		{"flag", good, []string{"--config", "Caddyfile"}, "unknown flag: --config"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			listen := []string{"gateway"}
			if tc.name != "listen" {
				listen = append(listen, "--listen", freeport.Addr(t))
			}
			code, out := cli(t, tc.env, append(listen, tc.args...)...)
			if code != 1 || !strings.Contains(out, tc.want) || strings.Contains(out, secret) {
				t.Errorf("exit code %d, want 1 and %q:\n%s", code, tc.want, out)
			}
		})
	}
}
