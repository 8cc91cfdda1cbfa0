//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package admin

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// onlyRuntimeDir has sockets in one directory of the test, which it returns.
func onlyRuntimeDir(t *testing.T) string {
	t.Helper()
	// The directory of a test has a name that is too long for a socket on some systems.
	dir, err := os.MkdirTemp("/tmp", "tg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	system := systemDirs
	systemDirs = nil
	t.Cleanup(func() { systemDirs = system })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv(addressVariable, "")
	return dir
}

// listen is what a gateway does with its socket; the file stays when it ends.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// claimOf claims a socket until the test ends.
func claimOf(t *testing.T, address string) string {
	t.Helper()
	path, err := ClaimSocket(address)
	if err != nil {
		t.Fatal(err)
	}
	lock := claimed
	t.Cleanup(func() { _ = lock.Close() })
	return path
}

// What a process left behind is taken over; what one uses is not.
func TestClaimSocket(t *testing.T) {
	onlyRuntimeDir(t)
	first := claimOf(t, ":8000")
	dir, name := filepath.Split(first)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || name != "8000.sock" {
		t.Errorf("%s: %v %v", first, info.Mode(), err)
	}
	if got := claimOf(t, ":8001"); got != dir+"8001.sock" {
		t.Errorf("another address: %s", got)
	}
	listen(t, first)
	if got := claimOf(t, ":8000"); got != dir+"8000-2.sock" {
		t.Errorf("while a gateway has it: %s", got)
	}
	if got := sockets(); len(got) != 1 || got[0] != first {
		t.Errorf("sockets: %v", got)
	}
	l := listen(t, dir+"9000.sock")
	if got := claimOf(t, ":9000"); got != dir+"9000-2.sock" {
		t.Errorf("while another program listens there: %s", got)
	}
	_ = claimed.Close()
	_ = l.Close()
	if got := claimOf(t, ":9000"); got != dir+"9000.sock" {
		t.Errorf("a file that was left behind: %s", got)
	}
	if err := os.WriteFile(dir+"9001.sock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := claimOf(t, ":9001"); got != dir+"9001-2.sock" {
		t.Errorf("a file that is no socket: %s", got)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), dir+"9002.lock"); err != nil {
		t.Fatal(err)
	}
	if got := claimOf(t, ":9002"); got != dir+"9002-2.sock" {
		t.Errorf("a lock that is a link: %s", got)
	}
}

// Commands that are run without $XDG_RUNTIME_DIR, as by sudo or cron, find the socket of a
// gateway that had it. A gateway has no socket there by itself.
func TestSocketOfASession(t *testing.T) {
	dir := onlyRuntimeDir(t)
	before := userRuntime
	userRuntime = dir
	t.Cleanup(func() { userRuntime = before })
	session := filepath.Join(dir, strconv.Itoa(os.Geteuid()))
	t.Setenv("XDG_RUNTIME_DIR", session)
	if err := os.Mkdir(session, 0o700); err != nil {
		t.Fatal(err)
	}
	path := claimOf(t, ":8000")
	listen(t, path)
	t.Setenv("XDG_RUNTIME_DIR", "")
	if got := sockets(); len(got) != 1 || got[0] != path {
		t.Errorf("sockets: %v, want %s", got, path)
	}
	if got := socketDirs(); len(got) > 0 {
		t.Errorf("a gateway would have its socket in %v", got)
	}
}

// Where nothing can listen there is no socket.
func TestFreeSocket(t *testing.T) {
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := free(lock, "/proc/tentagate.sock"); err == nil {
		t.Error("a socket where no file can be made")
	}
}

// A directory in which others could put something in the place of the socket is not used.
func TestSocketDirectories(t *testing.T) {
	for what, prepare := range map[string]func(runtime, dir string) error{
		"others can write": func(runtime, _ string) error { return os.Chmod(runtime, 0o777) },
		"others can enter": func(_, dir string) error { return os.Mkdir(dir, 0o755) },
		"a link":           func(runtime, dir string) error { return os.Symlink(runtime, dir) },
		"no directory":     func(_, dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a link to $XDG_RUNTIME_DIR": func(runtime, _ string) error {
			if err := os.Rename(runtime, runtime+"-real"); err != nil {
				return err
			}
			return os.Symlink(runtime+"-real", runtime)
		},
	} {
		t.Run(what, func(t *testing.T) {
			runtime := onlyRuntimeDir(t)
			t.Cleanup(func() { _ = os.RemoveAll(runtime + "-real") })
			dir := socketDirs()[0]
			if err := prepare(runtime, dir); err != nil {
				t.Fatal(err)
			}
			if path, err := ClaimSocket(":8000"); err == nil {
				t.Errorf("got %s", path)
			}
			// The directory of a test has a name that is too long for a socket.
			other, err := os.MkdirTemp("/tmp", "tg")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(other) })
			systemDirs = []string{other}
			if got := claimOf(t, ":8000"); !strings.HasPrefix(got, other+"/tentagate-") {
				t.Errorf("got %s, want one in the next directory", got)
			}
		})
	}
	t.Run("others can write, and not replace", func(t *testing.T) {
		if err := os.Chmod(onlyRuntimeDir(t), 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		claimOf(t, ":8000")
	})
}

// Commands find the one gateway that runs.
func TestAddressOfSocket(t *testing.T) {
	onlyRuntimeDir(t)
	t.Chdir(t.TempDir())
	find := func() string {
		t.Helper()
		got, err := address(command(t).Flags())
		if err != nil {
			return err.Error()
		}
		return got
	}
	if got := find(); got != caddy.DefaultAdminListen {
		t.Errorf("without a gateway: %s", got)
	}
	path := claimOf(t, ":8000")
	listen(t, path)
	_ = listen(t, claimOf(t, ":8001")).Close()
	if got := find(); got != "unix/"+path {
		t.Errorf("one gateway: %s", got)
	}
	t.Setenv(addressVariable, off)
	if got := find(); got != "unix/"+path {
		t.Errorf("without a variable: %s", got)
	}
	second := claimOf(t, ":8002")
	listen(t, second)
	if got := find(); got != "several gateways run here: choose one by --address: unix/"+path+", unix/"+second {
		t.Errorf("two gateways: %s", got)
	}
	if err := os.WriteFile("Caddyfile", []byte("{\n\tadmin localhost:3001\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := find(); got != "localhost:3001" {
		t.Errorf("with a Caddyfile: %s", got)
	}
	t.Setenv(addressVariable, "localhost:3002")
	if got := find(); got != "localhost:3002" {
		t.Errorf("with a variable: %s", got)
	}
}

func TestSocketName(t *testing.T) {
	for address, want := range map[string]string{
		":8000": "8000", "127.0.0.1:8000": "127.0.0.1_8000", "[::1]:8000": "1__8000", "": "gateway", "https://a.example/../x": "https___a.example_.._x",
		"a.example.com, b.example.com, c.example.com": "a.example.com__b.example.com__c.",
	} {
		if got := socketName(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
