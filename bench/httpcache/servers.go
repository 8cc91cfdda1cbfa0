package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// lab holds all that runs for a benchmark.
type lab struct {
	dir    string
	origin string // URL
	asked  atomic.Int64
	cmds   []*exec.Cmd
	admin  map[*server]string
}

// server is one that is measured.
type server struct {
	lab        *lab
	name, addr string
	pid        int
}

// fields are what the origin says, and what `respond` says too.
var fields = [][2]string{
	{"Cache-Control", "max-age=86400"},
	{"Content-Type", "application/json"},
	{"Etag", `"0123456789abcdef"`},
	{"Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT"},
	{"X-Request-Id", "f7bd4b1c-6f6b-4f0e-8a54-0f3f4f0b9d57"},
}

// startOrigin serves /<size>[/…], a body of that size.
func (l *lab) startOrigin() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l.origin = "http://" + listener.Addr().String()
	body := bytes.Repeat([]byte("x"), 1<<20)
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			l.asked.Add(1)
			text, _, _ := strings.Cut(r.URL.Path[1:], "/")
			size, err := strconv.Atoi(text)
			if err != nil || size > len(body) {
				http.NotFound(w, r)
				return
			}
			for _, f := range fields {
				w.Header().Set(f[0], f[1])
			}
			w.Header().Set("Content-Length", text)
			_, _ = w.Write(body[:size])
		}))
	}()
}

// respondConfig is the site that answers by `respond`, with as many fields as a
// hit has.
func respondConfig(sizes ...int) string {
	var b strings.Builder
	b.WriteString("header {\n Age 7\n Cache-Status \"tentagate; hit; ttl=86393\"\n")
	for _, f := range fields {
		fmt.Fprintf(&b, " %s %s\n", f[0], "`"+f[1]+"`")
	}
	b.WriteString("}\n")
	for _, size := range sizes {
		// Without it a long answer would be sent in chunks, which costs more.
		fmt.Fprintf(&b, "header /%d Content-Length %d\nrespond /%d `%s`\n", size, size, size, strings.Repeat("x", size))
	}
	return b.String()
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (l *lab) startCaddy(name, site, redis string) (*server, error) {
	s := &server{lab: l, name: name, addr: freeAddr()}
	admin := freeAddr()
	global := "admin " + admin + "\nauto_https off\npersist_config off\nlog {\n level ERROR\n}\n"
	if redis != "" {
		global += "tentagate {\n redis redis://" + redis + "\n}\n"
	}
	_, port, _ := net.SplitHostPort(s.addr)
	file := filepath.Join(l.dir, name+".Caddyfile")
	if err := os.WriteFile(file, []byte("{\n"+global+"}\nhttp://bench.test:"+port+" {\n"+site+"}\n"), 0o600); err != nil {
		return nil, err
	}
	if l.admin == nil {
		l.admin = map[*server]string{}
	}
	l.admin[s] = admin
	return s, l.start(s, *bin, "run", "--config", file, "--adapter", "caddyfile")
}

// start runs a command and waits until the server's address is open.
func (l *lab) start(s *server, command string, args ...string) error {
	cmd := exec.Command(command, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "HOME="+l.dir, "XDG_DATA_HOME="+l.dir, "XDG_CONFIG_HOME="+l.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	l.cmds = append(l.cmds, cmd)
	s.pid = cmd.Process.Pid
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w\n%s", s.name, err, out.String())
		}
	}
}

// missing tells which rows there will not be.
func missing(command string) bool {
	if _, err := exec.LookPath(command); err != nil {
		fmt.Printf("SKIPPED: %s is not installed, its rows are left out\n", command)
		return true
	}
	return false
}

func (l *lab) startRedis() (addr string, ok bool) {
	if missing("redis-server") {
		return "", false
	}
	s := &server{lab: l, name: "redis-server", addr: freeAddr()}
	_, port, _ := net.SplitHostPort(s.addr)
	if err := l.start(s, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", l.dir); err != nil {
		fmt.Println("SKIPPED:", err)
		return "", false
	}
	return s.addr, true
}

func (l *lab) startNginx() (*server, bool) {
	if missing("nginx") {
		return nil, false
	}
	s := &server{lab: l, name: "nginx", addr: freeAddr()}
	dir := l.dir
	if shm, err := os.MkdirTemp("/dev/shm", "tentagate-bench"); err == nil {
		// Its cache is files. These are in memory.
		dir = shm
	}
	config := fmt.Sprintf(`daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	open_file_cache max=10000;
	proxy_temp_path %[1]s/temp;
	client_body_temp_path %[1]s/body;
	proxy_cache_path %[1]s/cache keys_zone=c:64m max_size=2g use_temp_path=off;
	server {
		listen %[2]s;
		location / {
			proxy_cache c;
			proxy_cache_key $scheme$host$request_uri;
			add_header X-Cache $upstream_cache_status;
			proxy_pass %[3]s;
		}
	}
}
`, dir, s.addr, l.origin)
	file := filepath.Join(l.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, false
	}
	if err := l.start(s, "nginx", "-c", file, "-p", dir); err != nil {
		fmt.Println("SKIPPED:", err)
		return nil, false
	}
	return s, true
}

func (l *lab) startVarnish() (*server, bool) {
	if missing("varnishd") {
		return nil, false
	}
	s := &server{lab: l, name: "Varnish", addr: freeAddr()}
	err := l.start(s, "varnishd", "-F", "-a", s.addr, "-b", strings.TrimPrefix(l.origin, "http://"),
		"-n", filepath.Join(l.dir, "varnish"), "-s", "malloc,1g", "-T", "none", "-j", "none")
	if err != nil {
		fmt.Println("SKIPPED:", err)
		return nil, false
	}
	return s, true
}

// profile writes what the server's processor time goes to during the first turn.
func (l *lab) profile(s *server, file string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.admin[s]+"/debug/pprof/profile?seconds="+strconv.Itoa(max(1, int(turn.Seconds()))), nil)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		fmt.Println("profile:", err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		fmt.Println("profile:", err)
	}
}

// stop ends all servers.
func (l *lab) stop() {
	for _, cmd := range l.cmds {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range l.cmds {
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
		}
	}
	left, _ := filepath.Glob("/dev/shm/tentagate-bench*")
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
}

// cpuTime is the processor time that the server and its children have used.
func (s *server) cpuTime() time.Duration {
	const perSecond = 100 // clock ticks, on every Linux that Go runs on
	ticks := int64(0)
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	family := map[int]bool{s.pid: true}
	for range 2 { // children, and theirs
		for _, file := range entries {
			if pid, parent, _, ok := stat(file); ok && family[parent] {
				family[pid] = true
			}
		}
	}
	for pid := range family {
		if _, _, used, ok := stat(fmt.Sprintf("/proc/%d/stat", pid)); ok {
			ticks += used
		}
	}
	return time.Duration(ticks) * time.Second / perSecond
}

func stat(file string) (pid, parent int, ticks int64, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, 0, false
	}
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, 0, 0, false
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(string(text[:open])))
	f := strings.Fields(string(text[end+1:]))
	if len(f) < 13 {
		return 0, 0, 0, false
	}
	parent, _ = strconv.Atoi(f[1])
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return pid, parent, user + system, true
}
