// Package redistest starts real Redis servers for tests, on loopback.
//
// What TentaGate says about Redis is tested on Redis: the doubles there are
// expire no keys by themselves and round numbers differently in scripts.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/freeport"
)

// startTimeout is how long a server may take to answer its first PING.
const startTimeout = 20 * time.Second

// Server is a redis-server of its own.
type Server struct {
	tb   testing.TB
	dir  string
	port int
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// Start runs a redis-server on a free port of 127.0.0.1 until the test ends,
// with the given lines added to its command line ("--maxmemory", "4mb"). The
// test is skipped, and says so, where redis-server is not installed.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	Require(tb)
	s := newServer(tb, args)
	s.Restart()
	return s
}

// Require skips the test where redis-server is not installed.
func Require(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Skip("redis-server is not installed: skipping a test that needs a real Redis")
	}
}

func newServer(tb testing.TB, args []string) *Server {
	tb.Helper()
	// Not tb.TempDir: its name may be longer than a socket's path may be.
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		tb.Fatalf("making a folder for redis-server: %v", err)
	}
	s := &Server{tb: tb, dir: dir, port: freeport.GetPair(tb), args: args}
	tb.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			tb.Logf("removing %s: %v", dir, err)
		}
	})
	return s
}

// Addr returns host:port of the server.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL returns the address of the server as TentaGate's configuration takes it.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Socket returns the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Client returns a client of the server that is closed when the test ends.
func (s *Server) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Flush empties the server.
func (s *Server) Flush() {
	s.tb.Helper()
	if err := s.Client().FlushAll(context.Background()).Err(); err != nil {
		s.tb.Fatalf("emptying redis: %v", err)
	}
}

// Restart starts the server if it is not running, on the same port, and waits
// until it answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--unixsocket", s.Socket(), "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
	}, s.args...)
	cmd := exec.Command("redis-server", args...)
	// A server must not outlive a test process that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	logFile, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.tb.Fatalf("making redis-server's log: %v", err)
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("starting redis-server: %v", err)
	}
	s.cmd = cmd
	if err := s.waitReady(cmd.Process.Pid); err != nil {
		text, _ := os.ReadFile(logFile.Name())
		s.tb.Fatalf("redis-server on port %d: %v\n%s", s.port, err, text)
	}
}

// waitReady waits until the process answers, and checks that no other has the port.
func (s *Server) waitReady(pid int) error {
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	deadline := time.Now().Add(startTimeout)
	for {
		info, err := c.Info(context.Background(), "server").Result()
		switch {
		case err == nil && strings.Contains(info, "process_id:"+strconv.Itoa(pid)+"\r\n"):
			return nil
		case err == nil:
			return errors.New("another process answers on this port")
		case strings.Contains(err.Error(), "NOAUTH"):
			return nil // the test set a password
		case time.Now().After(deadline):
			return fmt.Errorf("no answer: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Kill kills the server. Restart starts it again, without data.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Freeze suspends the server's process (SIGSTOP): connections stay open, and nothing
// answers.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw resumes a frozen server.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.tb.Fatal("redis-server is not running")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("signalling redis-server: %v", err)
	}
}
