package discovery_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/pythopus/tentagate"
	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// nameserver answers for names below test., and for no others.
type nameserver struct {
	mu    sync.Mutex
	zone  map[string][]string
	quiet bool // it answers SERVFAIL
	asked int
}

func (n *nameserver) set(name string, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zone[name] = ips
}

func (n *nameserver) fail(so bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quiet, n.asked = so, 0
}

func (n *nameserver) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func (n *nameserver) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	ips, known := n.zone[strings.TrimSuffix(q.Name.String(), ".")]
	switch {
	case n.quiet:
		m.RCode = dnsmessage.RCodeServerFailure
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		for _, ip := range ips {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()},
			})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// serveNames makes the process ask this nameserver.
func serveNames(t *testing.T) *nameserver {
	t.Helper()
	n := &nameserver{zone: map[string][]string{}}
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := n.answer(buf[:size]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	net.DefaultResolver.PreferGo = true
	net.DefaultResolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}
	t.Cleanup(func() {
		_ = conn.Close()
		net.DefaultResolver.PreferGo, net.DefaultResolver.Dial = false, nil
	})
	return n
}

// instances are servers of one service, at one port of several addresses.
type instances struct {
	t       *testing.T
	port    string
	mu      sync.Mutex
	servers map[string]*http.Server
}

func (i *instances) start(ip string) {
	i.t.Helper()
	listener, err := new(net.ListenConfig).Listen(i.t.Context(), "tcp", net.JoinHostPort(ip, i.port))
	if err != nil {
		i.t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
		_, _ = fmt.Fprintf(w, "%s %s %s", ip, r.Proto, r.Host)
	})}
	go func() { _ = server.Serve(listener) }()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.servers[ip] = server
}

func (i *instances) stop(ip string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = i.servers[ip].Close()
}

func load(t *testing.T, config string) {
	t.Helper()
	adapted, err := servertest.Adapt(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		t.Fatal(err)
	}
}

// TestDiscover has the service's instances come and go, over HTTP/1.1 and h2c.
func TestDiscover(t *testing.T) {
	names := serveNames(t)
	port := strings.Split(freeport.Addr(t), ":")[1]
	service := &instances{t: t, port: port, servers: map[string]*http.Server{}}
	t.Cleanup(func() {
		for _, s := range service.servers {
			_ = s.Close()
		}
	})
	service.start("127.0.0.1")
	service.start("127.0.0.2")
	names.set("pods.test", "127.0.0.1", "127.0.0.2")

	gateway := freeport.Addr(t)
	config := func(more string) string {
		return `{
	admin off
	persist_config off
	log {
		output discard
	}
}
http://` + gateway + ` {
	tentagate {
		jwt off
		cache off
		ratelimit off
		service plain http://pods.test:` + port + ` {
			discover dns 1s
		}
		service grpc h2c://pods.test:` + port + ` {
			discover dns 1s
		}
		service none http://none.test:` + port + ` {
			discover dns 1s
		}
	}
	` + more + `
}
`
	}
	load(t, config(""))
	t.Cleanup(func() { _ = caddy.Stop() })

	get := func(service string) (status int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+gateway+"/api/"+service+"/x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data)
	}
	// answering returns who answers a number of requests, none of which may fail.
	answering := func(service string) string {
		seen := map[string]bool{}
		for range 8 {
			status, body := get(service)
			if status != http.StatusOK {
				t.Errorf("%s: %d %s", service, status, body)
				continue
			}
			ip, rest, _ := strings.Cut(body, " ")
			seen[ip] = true
			if proto := map[string]string{"plain": "HTTP/1.1", "grpc": "HTTP/2.0"}[service]; rest != proto+" "+gateway {
				t.Errorf("%s: the service saw %q", service, rest)
			}
		}
		return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
	}
	until := func(want string) {
		t.Helper()
		for _, service := range []string{"plain", "grpc"} {
			testkit.Eventually(t, service+" is answered by "+want, func() bool { return answering(service) == want })
		}
	}
	until("127.0.0.1 127.0.0.2")

	// One that dies before the DNS knows costs no request.
	service.stop("127.0.0.1")
	until("127.0.0.2")

	service.start("127.0.0.3")
	names.set("pods.test", "127.0.0.2", "127.0.0.3")
	until("127.0.0.2 127.0.0.3")

	// Neither does a DNS that is down, over a reload too.
	names.fail(true)
	testkit.Eventually(t, "the DNS was asked", func() bool { return names.count() > 4 })
	until("127.0.0.2 127.0.0.3")
	load(t, config("header X-Reloaded yes"))
	until("127.0.0.2 127.0.0.3")

	if status, body := get("none"); status != http.StatusBadGateway {
		t.Errorf("a name that does not exist: %d %s, want 502", status, body)
	}
	// An alert is for the names without an address.
	const series = "tentagate_discovery_addresses"
	want := fmt.Sprintf("# HELP %[1]s Addresses that the DNS has for a name that is looked up, as of its last answer: 0 while the name itself is used.\n"+
		"# TYPE %[1]s gauge\n%[1]s{name=\"none.test:%[2]s\"} 0\n%[1]s{name=\"pods.test:%[2]s\"} 2\n", series, port)
	running := caddy.ActiveContext()
	if err := testutil.GatherAndCompare(running.GetMetricsRegistry(), strings.NewReader(want), series); err != nil {
		t.Error(err)
	}
}
