package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// kib is the body of most responses.
var kib = strings.Repeat("x", 1024)

// fields are what the backend sends with a response that may be stored.
const fields = `add_header Cache-Control "max-age=86400"; add_header Etag '"0123456789abcdef"'; add_header X-Request-Id f7bd4b1c-6f6b-4f0e-8a54-0f3f4f0b9d57;`

// startBackend starts nginx: /hit and /o/… may be stored, /re/… has to be validated each
// time, /file/<size> is a file, everything else is JSON of 1 KiB with no-store.
func (l *lab) startBackend() (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"1k": 1 << 10, "100k": 100 << 10} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			return nil, err
		}
	}
	file, err := l.file("backend.conf", l.nginx(fmt.Sprintf(`
	open_file_cache max=100;
	server {
		listen %[1]s;
		default_type application/json;
		client_max_body_size 0;
		location / { add_header Cache-Control no-store; return 200 '%[2]s'; }
		location /hit { %[3]s return 200 '%[2]s'; }
		location /o/ { %[3]s return 200 '%[2]s'; }
		location /re/ { root %[4]s; add_header Cache-Control "max-age=0, must-revalidate"; try_files /1k =404; }
		location /file/ { alias %[4]s/; add_header Cache-Control "max-age=86400"; }
	}`, addr, kib, fields, l.dir)))
	if err != nil {
		return nil, err
	}
	return l.start(&server{name: "backend", addr: addr}, otherCPU, "nginx", "-c", file, "-p", l.dir)
}

// nginx is a configuration of one worker with the lines in its http block.
func (l *lab) nginx(lines string) string {
	l.started++
	dir := filepath.Join(l.dir, fmt.Sprintf("nginx-%d", l.started))
	_ = os.Mkdir(dir, 0o700) // nginx says it if it cannot use it
	return fmt.Sprintf(`daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 20000; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	proxy_temp_path %[1]s/temp;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	client_body_temp_path %[1]s/body;
%[2]s
}
`, dir, lines)
}

// caddy returns a function that starts a binary with a site. The site's lines have
// BACKEND for the address of the backend.
func caddy(site string, options ...caddyOption) func(*lab) (*server, error) {
	return func(l *lab) (*server, error) {
		c := caddyConfig{bin: l.bin, scheme: "http"}
		for _, option := range options {
			if err := option(l, &c); err != nil {
				return nil, err
			}
		}
		if c.skip {
			return nil, nil
		}
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		admin, err := freeAddr()
		if err != nil {
			return nil, err
		}
		lines := site
		if c.scheme == "https" {
			lines = "tls internal\n" + site
		}
		text := fmt.Sprintf("{\n\tadmin %s\n\tauto_https disable_redirects\n\tskip_install_trust\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n%s}\n%s://%s {\n%s\n}\n",
			admin, c.global, c.scheme, addr, lines)
		text = strings.NewReplacer("BACKEND", l.backend.addr, "SECRET", l.secret, "PUBLICKEY", l.rsa.public(l)).Replace(text)
		file, err := l.file("Caddyfile", text)
		if err != nil {
			return nil, err
		}
		s := &server{name: filepath.Base(c.bin), addr: addr, tls: c.scheme == "https", metrics: "http://" + admin + "/metrics"}
		return l.start(s, serverCPU, c.bin, "run", "--config", file, "--adapter", "caddyfile")
	}
}

type caddyConfig struct {
	bin, scheme, global string
	skip                bool // what it needs is not installed
}

type caddyOption func(*lab, *caddyConfig) error

// stock uses the stock binary.
func stock(l *lab, c *caddyConfig) error { c.bin = l.stock; return nil }

// secure serves HTTPS.
func secure(_ *lab, c *caddyConfig) error { c.scheme = "https"; return nil }

// metrics switches Caddy's metrics on.
func metrics(_ *lab, c *caddyConfig) error { c.global += "\tmetrics\n"; return nil }

// withRedis starts a Redis for the server.
func withRedis(l *lab, c *caddyConfig) error {
	if !l.installed("redis-server") {
		c.skip = true
		return nil
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	c.global += "\ttentagate {\n\t\tredis redis://" + addr + "\n\t}\n"
	_, err = l.start(&server{name: "redis-server", addr: addr}, otherCPU, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", l.dir)
	return err
}

// peer returns a function that starts another server, if it is installed, with a
// configuration file that has ADDR and BACKEND for the addresses.
func peer(command, name, config string, args ...string) func(*lab) (*server, error) {
	return func(l *lab) (*server, error) {
		if !l.installed(command) {
			return nil, nil
		}
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		file := ""
		replace := func(text string) string {
			return strings.NewReplacer("FILE", file, "ADDR", addr, "PORT", port, "BACKEND", l.backend.addr, "DIR", l.dir, "BODY", kib).Replace(text)
		}
		if config != "" {
			text := replace(config)
			if command == "nginx" {
				text = l.nginx(text)
			}
			if file, err = l.file(name, text); err != nil {
				return nil, err
			}
		}
		list := make([]string, len(args))
		for i, arg := range args {
			list[i] = replace(arg)
		}
		return l.start(&server{name: command, addr: addr}, serverCPU, command, list...)
	}
}

var (
	nginxProxy = peer("nginx", "nginx.conf", `
	upstream backend { server BACKEND; keepalive 64; keepalive_requests 1000000000; }
	server { listen ADDR; location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; } }`, "-c", "FILE", "-p", "DIR")
	nginxCache = peer("nginx", "nginx.conf", `
	open_file_cache max=10000;
	proxy_cache_path DIR/cache keys_zone=c:64m max_size=2g use_temp_path=off;
	server { listen ADDR; location / { proxy_cache c; proxy_cache_key $scheme$host$request_uri; proxy_pass http://BACKEND; } }`, "-c", "FILE", "-p", "DIR")
	varnish = peer("varnishd", "", "", "-F", "-a", "ADDR", "-b", "BACKEND", "-n", "DIR/varnish", "-s", "malloc,1g", "-T", "none", "-j", "none")
	haproxy = peer("haproxy", "haproxy.cfg", `
global
	nbthread 1
defaults
	mode http
	timeout client 60s
	timeout server 60s
	timeout connect 5s
	http-reuse always
frontend f
	bind ADDR
	default_backend b
backend b
	server s BACKEND
`, "-f", "FILE")
	traefik = peer("traefik", "traefik.toml", `
[global]
  checkNewVersion = false
  sendAnonymousUsage = false
[log]
  level = "ERROR"
[entryPoints.web]
  address = "ADDR"
[providers.file]
  filename = "FILE"
[http.routers.r]
  rule = "PathPrefix(`+"`/`"+`)"
  service = "s"
  middlewares = ["limit", "breaker"]
[http.middlewares.limit.rateLimit]
  average = 50000000
  period = "1m"
  burst = 1000000
[http.middlewares.breaker.circuitBreaker]
  expression = "NetworkErrorRatio() > 0.50"
[[http.services.s.loadBalancer.servers]]
  url = "http://BACKEND"
`, "--configFile=FILE")
	krakend = peer("krakend", "krakend.json", `{
	"version": 3, "port": PORT, "listen_ip": "127.0.0.1", "output_encoding": "no-op",
	"endpoints": [{
		"endpoint": "/x", "output_encoding": "no-op",
		"extra_config": {"qos/ratelimit/router": {"max_rate": 1000000, "every": "1s"}},
		"backend": [{"url_pattern": "/x", "host": ["http://BACKEND"], "encoding": "no-op",
			"extra_config": {"qos/circuit-breaker": {"interval": 60, "timeout": 10, "max_errors": 5}}}]
	}]
}`, "run", "-c", "FILE")
)
