// Package integration has the tests of the whole server: the built binary,
// real backends and real clients, all on loopback.
package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
)

// binaryEnv names a binary that is built already, so that several test runs
// can share one.
const binaryEnv = "TENTAGATE_BIN"

var scratch string // for what tests of this package share; removed at the end

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "tentagate-integration"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// repository returns the root of the source tree.
func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(binaryEnv); path != "" {
		return path, nil
	}
	path := filepath.Join(scratch, "tentagate")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/tentagate")
	cmd.Dir = repository()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return path, nil
})

// binary returns the path of the server's binary, building it if need be.
func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// syncBuffer is a buffer that a process writes while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// gateway is a running server.
type gateway struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   *syncBuffer
	home  string // its data and config directories
	addr  string // host:port of its site
	admin string // host:port of its admin API
	conf  string // the Caddyfile, for reloads
	ended chan error

	reloads *configChanges
}

// configChanges tells when Caddy's sockets may lose a connection: from the beginning of a
// change of configurations until a request that was sent after its end is answered.
type configChanges struct{ changes, answered atomic.Int64 }

func (c *configChanges) mayLose() bool { return c.changes.Load() > c.answered.Load() }

// expand replaces $ADDR, $PORT and $ADMIN in a Caddyfile.
func (g *gateway) expand(caddyfile string) string {
	_, port, _ := net.SplitHostPort(g.addr)
	return strings.NewReplacer("$ADDR", g.addr, "$PORT", port, "$ADMIN", g.admin).Replace(caddyfile)
}

// start runs the server with the Caddyfile until the test ends. $ADDR and
// $PORT in it stand for the address to serve on and its port, $ADMIN for the
// admin API's, which the global options must set.
func start(t testing.TB, caddyfile string, env ...string) *gateway {
	t.Helper()
	g := prepare(t)
	g.conf = g.expand(caddyfile)
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(g.conf), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(env, "run", "--config", file, "--adapter", "caddyfile")
	g.waitReady()
	return g
}

// prepare makes a server that is not running yet.
func prepare(t testing.TB) *gateway {
	t.Helper()
	home, err := os.MkdirTemp(scratch, "home")
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{
		t: t, log: new(syncBuffer), home: home, ended: make(chan error, 1),
		addr:  freeport.Addr(t),
		admin: freeport.Addr(t),

		reloads: new(configChanges),
	}
}

// environment is the environment of a server: nothing of the tester's own but
// what a process needs.
func (g *gateway) environment(env []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.home, "XDG_DATA_HOME=" + g.home, "XDG_CONFIG_HOME=" + g.home, "XDG_RUNTIME_DIR=" + g.home}, env...)
}

// run starts the binary with the arguments and ends it with the test.
func (g *gateway) run(env []string, args ...string) {
	g.t.Helper()
	g.cmd = exec.Command(binary(g.t), args...)
	g.cmd.Dir = g.home
	g.cmd.Env = g.environment(env)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { g.ended <- g.cmd.Wait() }()
	g.t.Cleanup(func() {
		g.stop()
		if g.t.Failed() {
			g.t.Logf("the server's log ends with:\n%s", tail(g.log.String(), 6000))
		}
	})
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// stop ends the server as an orchestrator does: SIGTERM, then SIGKILL.
func (g *gateway) stop() {
	if g.ended == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(10 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.ended
	}
	g.ended = nil
}

// waitReady waits until the server that was started, and no other process,
// answers on its admin API and its site.
func (g *gateway) waitReady() {
	g.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		select {
		case err := <-g.ended:
			g.ended = nil
			g.t.Fatalf("the server ended: %v\n%s", err, tail(g.log.String(), 4000))
		default:
		}
		if g.owns(g.admin) && g.owns(g.addr) {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("the server does not listen on %s and %s\n%s", g.admin, g.addr, tail(g.log.String(), 4000))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// owns reports whether the server's process listens on the address. Caddy
// shares ports with SO_REUSEPORT, so that a connection alone proves nothing.
func (g *gateway) owns(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	_, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	inodes := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		text, _ := os.ReadFile("/proc/net/" + table)
		for line := range strings.SplitSeq(string(text), "\n") {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", g.cmd.Process.Pid))
	mine := map[string]bool{}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && inodes[link] {
			mine[link] = true
		}
	}
	if len(mine) != len(inodes) && len(mine) > 0 {
		g.t.Fatalf("another process listens on %s too", addr)
	}
	return len(mine) > 0
}

// reload loads a Caddyfile through the admin API, by force, and returns the
// error that the server gave.
func (g *gateway) reload(caddyfile string) error {
	g.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+g.admin+"/load", strings.NewReader(g.expand(caddyfile)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate")
	g.reloads.changes.Add(1)
	defer g.reloads.changes.Add(1)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(body))
	}
	// On connections that are kept the configuration before may answer for a moment.
	http.DefaultClient.CloseIdleConnections()
	return nil
}

// url returns the address of a path of the site.
func (g *gateway) url(path string) string { return "http://" + g.addr + path }

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get sends a GET with headers given as name, value, name, value …
func (g *gateway) get(path string, headers ...string) answer {
	g.t.Helper()
	return g.send(http.MethodGet, path, "", headers...)
}

func (g *gateway) send(method, path, body string, headers ...string) answer {
	g.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, g.url(path), strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body == "" {
		req.Body = http.NoBody
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	changes := g.reloads.changes.Load()
	resp, err := http.DefaultClient.Do(req)
	for tries := 0; method == http.MethodGet && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && g.reloads.mayLose() && tries < 10; tries++ {
		g.t.Logf("%s %s is sent again after a reload: %v", method, path, err)
		resp, err = http.DefaultClient.Do(req)
	}
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	g.reloads.answered.Store(changes)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// adminGet returns the body of a path of the admin API. It asks again where
// Caddy lost the connection, as its sockets do at the change of configurations.
func (g *gateway) adminGet(path string) string {
	g.t.Helper()
	resp, err := http.Get("http://" + g.admin + path)
	for tries := 0; err != nil && tries < 10; tries++ {
		resp, err = http.Get("http://" + g.admin + path)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

var goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

// goroutines returns how many goroutines the server has.
func (g *gateway) goroutines() int {
	g.t.Helper()
	m := goroutineTotal.FindStringSubmatch(g.adminGet("/debug/pprof/goroutine?debug=1"))
	if m == nil {
		g.t.Fatal("the admin API has no goroutine count")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// memory returns the server's peak of resident memory in bytes.
func (g *gateway) memory() int64 {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	g.t.Fatal("/proc has no peak memory")
	return 0
}

// cli runs a subcommand to its end and returns its exit code and output.
func cli(t testing.TB, env []string, args ...string) (int, string) {
	t.Helper()
	g := prepare(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Dir = g.home
	cmd.Env = g.environment(env)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return 0, string(out)
}
