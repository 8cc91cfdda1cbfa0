package main

import (
	"bufio"
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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lab holds what runs for a benchmark.
type lab struct {
	dir    string
	bin    string // TentaGate
	stock  string // Caddy
	turns  time.Duration
	secret string
	rsa    *rsaKeys

	backend *server   // on all the time
	servers []*server // of the group that is measured
	missing []string  // commands that are not on PATH
	started int
}

// server is a process that is measured, or that others need.
type server struct {
	name string
	addr string
	tls  bool
	// metrics is the URL of its Prometheus endpoint; empty if it has none.
	metrics string
	cmd     *exec.Cmd
	output  *bytes.Buffer
}

// Processors: one for the server that is measured, one for all else.
const (
	serverCPU = "0"
	otherCPU  = "1"
)

func newLab(ctx context.Context, o *options) (*lab, error) {
	for _, command := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(command); err != nil {
			return nil, fmt.Errorf("%s is not installed: it is the %s of every measurement", command, map[string]string{"nginx": "backend", "wrk": "client"}[command])
		}
	}
	l, err := newGateway(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := l.build(ctx, &l.stock, "stock-caddy", "github.com/caddyserver/caddy/v2/cmd/caddy"); err != nil {
		l.close()
		return nil, err
	}
	if l.rsa, err = newRSAKeys(); err == nil {
		l.backend, err = l.startBackend()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	l.servers = nil // the backend stays
	return l, nil
}

// newGateway is a lab with nothing but TentaGate's binary.
func newGateway(ctx context.Context, o *options) (*lab, error) {
	dir, err := os.MkdirTemp("", "tentagate-bench")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, bin: o.bin, stock: o.stock, turns: o.turn, secret: "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa"}
	if err := l.build(ctx, &l.bin, "tentagate", "github.com/pythopus/tentagate/cmd/tentagate"); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// build builds a binary unless a flag names one.
func (l *lab) build(ctx context.Context, bin *string, name, pkg string) error {
	if *bin != "" {
		return nil
	}
	progress("building %s", name)
	*bin = filepath.Join(l.dir, name)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", *bin, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s, from the root of the source tree: %w\n%s", name, err, out)
	}
	return nil
}

// pinned returns the command that runs a command on one processor.
func pinned(cpu, command string, args ...string) *exec.Cmd {
	if runtime.NumCPU() < 2 {
		return exec.Command(command, args...)
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return exec.Command(command, args...)
	}
	return exec.Command("taskset", append([]string{"-c", cpu, command}, args...)...)
}

// installed reports whether a command is there, and notes it if not.
func (l *lab) installed(command string) bool {
	if _, err := exec.LookPath(command); err == nil {
		return true
	}
	if !slices.Contains(l.missing, command) {
		l.missing = append(l.missing, command)
	}
	return false
}

// freeAddr returns a loopback address below the range of outgoing connections.
func freeAddr() (string, error) {
	for port := 20000 + os.Getpid()%5000; port < 32768; port++ {
		listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		if used[port] {
			continue
		}
		used[port] = true
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	}
	return "", errors.New("no port is free")
}

// used are the ports that were given out.
var used = map[int]bool{}

// file writes a file into the lab's folder and returns its name.
func (l *lab) file(name, content string) (string, error) {
	l.started++
	path := filepath.Join(l.dir, strconv.Itoa(l.started)+"-"+name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// start runs a command and waits until the server answers.
func (l *lab) start(s *server, cpu, command string, args ...string) (*server, error) {
	s.cmd, s.output = pinned(cpu, command, args...), new(bytes.Buffer)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Env = append(os.Environ(), "HOME="+l.dir, "XDG_DATA_HOME="+l.dir, "XDG_CONFIG_HOME="+l.dir, "GOMAXPROCS=1", "JWT_SECRET_KEY="+l.secret)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	l.servers = append(l.servers, s)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := s.ready()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not listen: %w\n%s", s.name, err, s.output)
		}
	}
}

// ready reports whether the server answers; Redis and TLS ports do so with an error.
func (s *server) ready() error {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "HEAD / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// stop ends a server.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	killer.Stop()
}

// stopServers ends the servers of a group.
func (l *lab) stopServers() {
	for _, s := range l.servers {
		s.stop()
	}
	l.servers = nil
}

func (l *lab) close() {
	l.stopServers()
	if l.backend != nil {
		l.backend.stop()
	}
	_ = os.RemoveAll(l.dir)
}

// family are the process and its descendants.
func (s *server) family() []int {
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	parents := map[int]int{}
	for _, file := range entries {
		if f := procStat(file); len(f) > 1 {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	list := []int{s.cmd.Process.Pid}
	for i := 0; i < len(list); i++ {
		for pid, parent := range parents {
			if parent == list[i] {
				list = append(list, pid)
			}
		}
	}
	return list
}

// procStat returns the fields of a stat file from the state on (proc(5)).
func procStat(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// cpuTime is the processor time that the server and its descendants have used.
func (s *server) cpuTime() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	total := time.Duration(0)
	for _, pid := range s.family() {
		if f := procStat(fmt.Sprintf("/proc/%d/stat", pid)); len(f) > 12 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			total += time.Duration(user+system) * tick
		}
	}
	return total
}

// resident is the memory that the server and its descendants have in use, in bytes.
func (s *server) resident() int64 {
	total := int64(0)
	for _, pid := range s.family() {
		if f := procStat(fmt.Sprintf("/proc/%d/stat", pid)); len(f) > 21 {
			pages, _ := strconv.ParseInt(f[21], 10, 64)
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}

// mallocs is how many objects the server has allocated; 0 if it does not tell.
func (s *server) mallocs(ctx context.Context) float64 {
	return s.metric(ctx, "go_memstats_mallocs_total")
}

// metric is the value of a series without labels; 0 if the server does not tell.
func (s *server) metric(ctx context.Context, name string) float64 {
	if s.metrics == "" {
		return 0
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseFloat(value, 64)
			return n
		}
	}
	return 0
}
