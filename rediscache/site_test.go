package rediscache

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/testkit"
)

func init() { caddy.RegisterModule(namer{}) }

// namer authenticates who says a name in X-User.
type namer struct{}

func (namer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_namer", New: func() caddy.Module { return new(namer) }}
}

func (namer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if name := r.Header.Get("X-User"); name != "" {
		identity.Set(r, &identity.Identity{Provider: "main", Subject: name})
	}
	return next.ServeHTTP(w, r)
}

// site is a Caddy in this process with a cache in front of a service.
type site struct {
	t     *testing.T
	url   string
	asked atomic.Int64
	held  chan struct{} // closed by release
	once  sync.Once
}

// startSite runs a site whose service is given the number of each request.
func startSite(t *testing.T, block string, service func(w http.ResponseWriter, r *http.Request, n int64)) *site {
	t.Helper()
	s := &site{t: t, held: make(chan struct{})}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service(w, r, s.asked.Add(1))
	}))
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		t.Fatal(err)
	}
	addr := freeport.Addr(t)
	config, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "PANIC"}}},
		"apps": map[string]any{"http": map[string]any{"servers": map[string]any{"s": map[string]any{
			"listen": []string{addr}, "automatic_https": map[string]any{"disable": true},
			"routes": []any{map[string]any{"handle": []any{
				map[string]any{"handler": "test_namer"},
				caddyconfig.JSONModuleObject(h, "handler", "http_cache", nil),
				map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": strings.TrimPrefix(origin.URL, "http://")}}},
			}}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + addr
	t.Cleanup(func() {
		s.release()
		origin.CloseClientConnections()
		_ = caddy.Stop()
		origin.Close()
	})
	return s
}

// release lets requests of the service go on that wait for hold.
func (s *site) release() { s.once.Do(func() { close(s.held) }) }

func (s *site) hold() { <-s.held }

var httpClient = &http.Client{Transport: &persistent{Transport: &http.Transport{MaxIdleConnsPerHost: 50, DisableCompression: true}}, CheckRedirect: func(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse
}}

// persistent is a transport for a Caddy that is reloaded. It keeps no connections over a
// reload, since the configuration before answers on them for a moment. And it sends a
// request again whose connection was lost while it was being made, until the first answer
// of the configuration: nothing has answered the request.
type persistent struct {
	*http.Transport
	mu       sync.Mutex
	running  context.Context // of the configuration
	answered context.Context // of the configuration that has answered
}

// configuration returns the context of the present configuration.
func (p *persistent) configuration() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := caddy.ActiveContext().Context; now != p.running {
		p.running = now
		p.CloseIdleConnections()
	}
	return p.running
}

// mayLose reports whether Caddy's sockets may still lose connections of a reload.
func (p *persistent) mayLose() bool {
	running := p.configuration()
	p.mu.Lock()
	defer p.mu.Unlock()
	return running != p.answered
}

func (p *persistent) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	running := p.configuration()
	for range 10 {
		resp, err = p.Transport.RoundTrip(r)
		if r.Body != nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) || !p.mayLose() {
			break
		}
	}
	if err == nil {
		p.mu.Lock()
		p.answered = running
		p.mu.Unlock()
	}
	return resp, err
}

func (s *site) request(method, path string, fields ...string) *http.Request {
	r, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

// do returns the whole response; its error is also that of its body.
func (s *site) do(method, path string, fields ...string) (*http.Response, string, error) {
	resp, err := httpClient.Do(s.request(method, path, fields...))
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func (s *site) get(path string, fields ...string) (*http.Response, string) {
	s.t.Helper()
	resp, body, err := s.do(http.MethodGet, path, fields...)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return resp, body
}

// wantAsked waits until the service was asked n times.
func (s *site) wantAsked(n int64) {
	s.t.Helper()
	testkit.Eventually(s.t, "asking the service", func() bool { return s.asked.Load() >= n })
	if got := s.asked.Load(); got != n {
		s.t.Errorf("the service was asked %d times, want %d", got, n)
	}
}

// waiting is how many requests wait for those of others.
func waiting() int {
	_, followers := calls.Stats()
	return followers
}

// all runs f for many clients at once.
func all(n int, f func(i int)) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	return wg.Wait
}

// cut sends text on the connection of a request and breaks it off.
func cut(t *testing.T, w http.ResponseWriter, text string, reset bool) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = rw.WriteString(text)
	_ = rw.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
