package caddyfile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// demoLimit and demoFailures are small enough to be reached with one curl line,
// and demoOpen long enough to see the breaker open.
const (
	demoLimit    = 5
	demoFailures = 5
	demoOpen     = 10 * time.Second
	demoTokenTTL = time.Hour
)

// demo is what `gateway --demo` adds to a gateway: two services and a token.
type demo struct {
	base    string // of the gateway, http://host:port
	token   string
	servers []*http.Server
}

// startDemo starts the services and sets the environment of a gateway in front of
// them. Variables about tokens and services are replaced; that of Redis is kept.
func startDemo(listen string) (*demo, error) {
	host, port, err := splitListen(listen)
	if err != nil {
		return nil, err
	}
	// Caddy would share the port with another server (SO_REUSEPORT).
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("%w: choose another port, such as --listen :8001", err)
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	d := &demo{base: "http://" + net.JoinHostPort(host, port)}
	services := map[string]string{}
	for name, handler := range map[string]http.Handler{"hello": new(hello), "flaky": http.HandlerFunc(flaky)} {
		address, err := d.serve(handler)
		if err != nil {
			d.stop()
			return nil, err
		}
		services[name] = "http://" + address
	}
	value, err := json.Marshal(services)
	if err != nil {
		d.stop()
		return nil, err
	}
	secret := rand.Text() + rand.Text()
	d.token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		// A new name, so that no state of an earlier demo applies.
		"sub": "demo-" + strings.ToLower(rand.Text()[:8]),
		"iat": time.Now().Unix(), "exp": time.Now().Add(demoTokenTTL).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		d.stop()
		return nil, err
	}
	for _, name := range []string{
		envSecretFile, envPublicKey, envJWKS, envDiscovery, envAlgorithm, envIssuer, envAudience, envOrigins,
		"SERVER_NAME", "CADDY_SERVER_EXTRA_DIRECTIVES", envMetricsListen, envAllowHTTP,
	} {
		err = errors.Join(err, os.Unsetenv(name))
	}
	for name, value := range map[string]string{
		envServices: string(value),
		envSecret:   secret,
		// Only errors are logged, so that the commands stay in sight.
		"CADDY_GLOBAL_OPTIONS": "log {\n\tlevel ERROR\n\texclude http.log.access\n}",
		"TENTAGATE_OPTIONS": fmt.Sprintf(`ratelimit 100/1m
		ratelimit /api/hello/limited {
			zone demo
			key {http.auth.user.id}
			limit %d/1m
		}
		circuit_breaker {
			consecutive %d
			open_for %s
			half_open 1
		}`, demoLimit, demoFailures, demoOpen),
	} {
		err = errors.Join(err, os.Setenv(name, value))
	}
	if err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *demo) serve(handler http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	d.servers = append(d.servers, server)
	go func() { _ = server.Serve(l) }() // ends with stop, or with the process
	return l.Addr().String(), nil
}

func (d *demo) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, server := range d.servers {
		_ = server.Shutdown(ctx)
	}
}

// hello counts its answers, so that one from the cache can be recognised.
type hello struct {
	mu      sync.Mutex
	answers map[string]int
}

// demoPaths is the most paths that hello counts.
const demoPaths = 1000

func (h *hello) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	if h.answers == nil || len(h.answers) > demoPaths {
		h.answers = map[string]int{}
	}
	h.answers[r.URL.Path]++
	n := h.answers[r.URL.Path]
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		Service string `json:"service"`
		Path    string `json:"path"`
		Answer  int    `json:"answer"`
	}{"hello", r.URL.Path, n})
}

// flaky fails for paths that begin with /fail.
func flaky(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if strings.HasPrefix(r.URL.Path, "/fail") {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"service":"flaky","state":"broken"}`+"\n")
		return
	}
	_, _ = io.WriteString(w, `{"service":"flaky","state":"working"}`+"\n")
}

// step is a command to paste and the output to expect.
type step struct{ about, expect, line string }

// steps are the commands in their order.
func (d *demo) steps() []step {
	const code = ` -o /dev/null -w '%{http_code}\n'`
	const codes = ` -o /dev/null -w '%{http_code} '`
	curl := func(options, path string) string {
		return fmt.Sprintf("curl -s%s -H 'Authorization: Bearer %s' '%s%s'", options, d.token, d.base, path)
	}
	cached := `{"service":"hello","path":"/cached","answer":1}`
	repeat := func(status, n int) string {
		return strings.TrimSpace(strings.Repeat(strconv.Itoa(status)+" ", n))
	}
	return []step{
		{"A request without a token is refused.", "401", fmt.Sprintf("curl -s%s '%s/api/hello/world'", code, d.base)},
		{"With a token the service answers.", "200", curl(code, "/api/hello/world")},
		{"A service that does not exist is not found.", "404", curl(code, "/api/nobody/world")},
		{"The first answer comes from the service, which counts its answers …", cached, curl("", "/api/hello/cached")},
		{"… and the second from the cache, with the same number.", cached, curl("", "/api/hello/cached")},
		{"The Cache-Status header says so.", "hit", curl(" -D - -o /dev/null", "/api/hello/cached") + " | grep -i '^cache-status' | grep -ow hit"},
		{
			fmt.Sprintf("This path allows %d requests a minute; the next one is refused.", demoLimit),
			repeat(http.StatusOK, demoLimit) + " 429",
			curl(codes, fmt.Sprintf("/api/hello/limited?n=[1-%d]", demoLimit+1)),
		},
		{
			fmt.Sprintf("A service that fails %d times in a row …", demoFailures),
			repeat(http.StatusInternalServerError, demoFailures),
			curl(codes, fmt.Sprintf("/api/flaky/fail?n=[1-%d]", demoFailures)),
		},
		{"… is temporarily unavailable: its circuit is open …", "503", curl(code, "/api/flaky/works")},
		{"… while the other service is available.", "200", curl(code, "/api/hello/meanwhile")},
		{
			fmt.Sprintf("After %d seconds it is probed, and its success closes the circuit. curl waits as long as Retry-After says.", int(demoOpen.Seconds())),
			`{"service":"flaky","state":"working"}`, curl(" -f --retry 3", "/api/flaky/works"),
		},
	}
}

// print writes the commands to try.
func (d *demo) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# TentaGate serves two demo services at %s: hello and flaky.\n", d.base)
	fmt.Fprintf(&b, "# Paste the commands below, in this order, into another terminal. Their token is valid\n# for %d minutes. Ctrl+C ends the demo.\n", int(demoTokenTTL.Minutes()))
	for i, s := range d.steps() {
		fmt.Fprintf(&b, "\n# %d. %s\n# expect: %s\n%s\n", i+1, s.about, s.expect, s.line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
