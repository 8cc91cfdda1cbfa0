package health_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/pythopus/tentagate/health"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	_ "github.com/pythopus/tentagate/internal/servertest" // Caddy's own modules
)

// client asks a server that listens on a unix socket.
type client struct {
	t    *testing.T
	http http.Client
}

// run starts a server with the global options and the site's directives.
func run(t *testing.T, options, directives string) *client {
	t.Helper()
	dir, err := os.MkdirTemp("", "health") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	config, err := servertest.Adapt(`{
	admin off
	auto_https off
	persist_config off
	log {
		output discard
	}
` + options + `
}
http://health.test {
	bind unix/` + socket + `
` + directives + `
}`)
	if err != nil {
		t.Fatal(err)
	}
	if err = caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	c := &client{t: t}
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// get returns status and body, and 0 if the server is not there.
func (c *client) get(path string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://health.test"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// await asks until the answer is the one that must come.
func (c *client) await(path string, status int, body string) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		gotStatus, got := c.get(path)
		if gotStatus == status && strings.Contains(got, body) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: got %d %s, want %d %s", path, gotStatus, got, status, body)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestDraining(t *testing.T) {
	c := run(t, "\tshutdown_delay 2s", "\thealth\n\trespond served")
	c.await("/readyz", 200, "ready")
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	c.await("/readyz", 503, "draining")
	// The others go on while no new traffic is wanted.
	for path, want := range map[string]string{"/livez": "alive", "/health": "healthy", "/": "served"} {
		if status, body := c.get(path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s while draining: got %d %s", path, status, body)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	for directive, lost := range map[string]struct {
		status int
		body   string
	}{
		"health":                           {200, `"redis":"warn"`},
		"health {\n\t\trequire redis\n\t}": {503, `"redis":"down"`},
	} {
		c := run(t, "\ttentagate {\n\t\tredis "+server.URL()+"\n\t}", "\t"+directive)
		c.await("/readyz", 200, `{"status":"ready"}`)
		c.await("/health?verbose", 200, `"gateway:instances":[{"componentType":"system","observedValue":1,"status":"pass"}],"redis:connection":[{"componentType":"datastore","status":"pass"}]`)
		server.Kill()
		c.await("/readyz", lost.status, lost.body)
		for path, want := range map[string]string{"/livez": "alive", "/health": `{"status":"healthy"}`, "/health?verbose": `{"status":"warn"`} {
			if status, body := c.get(path); status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s, %s without Redis: got %d %s", directive, path, status, body)
			}
		}
		server.Restart()
		c.await("/readyz", 200, `{"status":"ready"}`)
	}
}

func TestProbesAreNotLogged(t *testing.T) {
	for directive, want := range map[string]int{"health": 1, "health {\n\t\tlog\n\t}": 4} {
		file := filepath.Join(t.TempDir(), "access.log")
		c := run(t, "", "\tlog {\n\t\toutput file "+file+"\n\t}\n\t"+directive+"\n\trespond ok")
		for _, path := range []string{"/health", "/livez", "/readyz", "/"} {
			c.get(path)
		}
		c.http.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d:\n%s", directive, got, want, text)
		}
	}
}
