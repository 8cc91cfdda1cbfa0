package rediscache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"  // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // reverse_proxy
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"        // the storage that certificates default to
	_ "github.com/caddyserver/caddy/v2/modules/logging"            // log outputs

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// gatewayEnv holds the Caddyfile for a process that is a gateway.
const gatewayEnv = "TENTAGATE_TEST_GATEWAY"

// TestGatewayProcess is no test: it is the gateway of the tests below, which run
// this binary again, because tiers are shared within a process.
func TestGatewayProcess(t *testing.T) {
	caddyfile := os.Getenv(gatewayEnv)
	if caddyfile == "" {
		return
	}
	config, err := servertest.Adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// gatewayProcess is a running gateway.
type gatewayProcess struct {
	t           testing.TB
	http, admin string
	redisURL    string
	written     int         // paths of writeOne
	reloaded    atomic.Bool // no request is answered since: Caddy's sockets may lose a connection
}

// caddyfile returns the configuration with the site's directives.
func (g *gatewayProcess) caddyfile(site string) string {
	return fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	log {
		output discard
	}
	tentagate {
		redis %s
	}
}

http://gateway.test:%s {
	%s
}

`, g.admin, g.redisURL, g.http[strings.LastIndex(g.http, ":")+1:], site)
}

// reload loads another configuration and returns the status of the answer.
func (g *gatewayProcess) reload(site string) int {
	g.t.Helper()
	resp, err := replicaClient.Post("http://"+g.admin+"/load", "text/caddyfile", strings.NewReader(g.caddyfile(site)))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	g.reloaded.Store(true)
	return resp.StatusCode
}

// startGateway runs a gateway in a process of its own until the test ends.
func startGateway(t testing.TB, redisURL, site string) *gatewayProcess {
	t.Helper()
	g := &gatewayProcess{t: t, http: freeport.Addr(t), admin: freeport.Addr(t), redisURL: redisURL}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGatewayProcess$")
	cmd.Env = append(os.Environ(), gatewayEnv+"="+g.caddyfile(site))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = stdin.Close()
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("the gateway: %v\n%s", err, out.String())
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Errorf("the gateway does not end\n%s", out.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		// The admin API is there before the site; the site's port is what counts.
		conn, err := net.Dial("tcp", g.http)
		if err == nil {
			_ = conn.Close()
			return g
		}
		if time.Now().After(deadline) || len(exited) > 0 {
			t.Fatalf("the gateway does not start: %v\n%s", err, out.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reply is an answer of a gateway.
type reply struct {
	status int
	body   string
	header http.Header
}

func (r reply) hit() bool { return strings.Contains(r.header.Get("Cache-Status"), "hit") }

var replicaClient = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	Timeout:   30 * time.Second,
}

func (g *gatewayProcess) do(method, path string, fields ...string) (reply, error) {
	r, err := http.NewRequest(method, "http://"+g.http+path, nil)
	if err != nil {
		return reply{}, err
	}
	// One name for all gateways, as behind a load balancer.
	r.Host = "gateway.test"
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := replicaClient.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(body), resp.Header}, err
}

func (g *gatewayProcess) get(path string) reply {
	g.t.Helper()
	var r reply
	var err error
	for range 10 {
		if r, err = g.do(http.MethodGet, path); err == nil {
			g.reloaded.Store(false)
			return r
		}
		if !g.reloaded.Load() {
			break
		}
	}
	g.t.Fatal(err)
	return r
}

func (g *gatewayProcess) purge(body string) string {
	g.t.Helper()
	resp, err := replicaClient.Post("http://"+g.admin+purgeURI, "application/json", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var compact bytes.Buffer
	if err != nil || resp.StatusCode != http.StatusOK || json.Compact(&compact, text) != nil {
		g.t.Fatalf("purge: %d %s %v", resp.StatusCode, text, err)
	}
	return compact.String()
}

func (g *gatewayProcess) stats() cacheStats {
	g.t.Helper()
	resp, err := replicaClient.Get("http://" + g.admin + statsURI)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s cacheStats
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// writeOne returns a path whose response the gateway has written to Redis. It may drop a
// write, and then another one is tried.
func (g *gatewayProcess) writeOne() (path string) {
	g.t.Helper()
	testkit.Eventually(g.t, "a write to Redis", func() bool {
		g.written++ // another path, also in a further call
		path = fmt.Sprint("/first/", g.written)
		before := g.stats().Redis[0]
		if r := g.get(path); r.hit() || r.body != path+" version 0" {
			g.t.Fatalf("%+v", r)
		}
		after := before
		testkit.Eventually(g.t, "the end of the write", func() bool {
			after = g.stats().Redis[0]
			return after.Writes+after.WriteErrors+after.Dropped > before.Writes+before.WriteErrors+before.Dropped
		})
		return after.Writes > before.Writes
	})
	return path
}

// versions is an origin whose answers have a version, which changes when asked.
type versions struct {
	*httptest.Server
	version atomic.Int64
	asked   atomic.Int64
}

func newVersions(t testing.TB) *versions {
	v := &versions{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			v.version.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		v.asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=600, stale-while-revalidate=600")
		w.Header().Set("X-Padding", strings.Repeat("x", 4<<10)) // so that memory cannot hold all that Redis has
		w.Header().Set("Surrogate-Key", "all "+strings.Trim(r.URL.Path, "/"))
		fmt.Fprintf(w, "%s version %d", r.URL.Path, v.version.Load())
	}))
	t.Cleanup(v.Close)
	return v
}

// Two gateways with one Redis are one cache.
func TestTwoGateways(t *testing.T) {
	redisServer := redistest.Start(t)
	origin := newVersions(t)
	site := "http_cache {\n\t\tpurge_method {\n\t\t\tallow private_ranges\n\t\t}\n\t}\n\treverse_proxy " + origin.URL
	a := startGateway(t, redisServer.URL(), site)
	first := a.writeOne()
	asked := origin.asked.Load()
	b := startGateway(t, redisServer.URL(), site)
	if r := b.get(first); !r.hit() || r.body != first+" version 0" {
		// It waits no longer than 20ms for Redis, which a busy machine may need.
		t.Logf("the first request of the second gateway: %+v", r)
		testkit.Eventually(t, "a hit at the second gateway", func() bool {
			first = a.writeOne()
			r := b.get(first)
			return r.hit() && r.body == first+" version 0"
		})
	} else if n := origin.asked.Load(); n != asked {
		t.Errorf("the service was asked again by the second gateway: %d times", n-asked)
	}

	// Whatever the purge names, the other gateway applies it.
	for name, purge := range map[string]func(){
		"url":    func() { a.purge(`{"url":"http://gateway.test/x"}`) },
		"prefix": func() { a.purge(`{"prefix":"https://gateway.test/"}`) },
		"host":   func() { a.purge(`{"host":"gateway.test"}`) },
		"tag":    func() { a.purge(`{"tag":"x"}`) },
		"all":    func() { a.purge(`{"all":true}`) },
		"PURGE": func() {
			if r, err := a.do("PURGE", "/x"); err != nil || r.status != 200 || !strings.Contains(r.body, `"shared":"yes"`) {
				t.Errorf("PURGE: %+v %v", r, err)
			}
		},
		"POST": func() {
			if r, err := a.do(http.MethodPost, "/x"); err != nil || r.status != http.StatusNoContent {
				t.Errorf("POST: %+v %v", r, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !a.get("/x").hit() || !b.get("/x").hit() {
				a.get("/x")
				testkit.Eventually(t, "a hit at both", func() bool { return a.get("/x").hit() && b.get("/x").hit() })
			}
			want := fmt.Sprint("/x version ", origin.version.Add(1))
			if name == "POST" {
				want = fmt.Sprint("/x version ", origin.version.Load()+1)
			}
			purge()
			if r := a.get("/x"); r.body != want {
				t.Errorf("here: %+v", r)
			}
			testkit.Eventually(t, "the other gateway", func() bool { return b.get("/x").body == want })
			if r := a.get("/x"); r.body != want {
				t.Errorf("here, after the other gateway stored: %+v", r)
			}
		})
	}
	if got := a.purge(`{"tag":"nothing"}`); got != `{"purged":true,"shared":"yes"}` {
		t.Errorf("%s", got)
	}
	t.Run("soft", func(t *testing.T) {
		testkit.Eventually(t, "a hit at both", func() bool { return a.get("/x").hit() && b.get("/x").hit() })
		want := fmt.Sprint("/x version ", origin.version.Add(1))
		old := a.get("/x").body
		a.purge(`{"tag":"all","soft":true}`)
		if r := a.get("/x"); r.body != old || !r.hit() {
			t.Errorf("what may be used stale is not: %+v", r)
		}
		testkit.Eventually(t, "the refresh", func() bool { return a.get("/x").body == want && b.get("/x").body == want })
	})
}

// A purge reaches the other gateway also where subscribing is forbidden in Redis.
func TestPurgeWithoutPubSub(t *testing.T) {
	redisServer := redistest.Start(t)
	origin := newVersions(t)
	site := "http_cache\n\treverse_proxy " + origin.URL
	a, b := startGateway(t, redisServer.URL(), site), startGateway(t, redisServer.URL(), site)
	ctx := context.Background()
	admin := redisServer.Client()
	if err := admin.Do(ctx, "ACL", "SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe").Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		testkit.Eventually(t, "a hit at both", func() bool { return a.get("/x").hit() && b.get("/x").hit() })
		want := fmt.Sprint("/x version ", origin.version.Add(1))
		began := time.Now()
		a.purge(`{"url":"http://gateway.test/x"}`)
		testkit.Eventually(t, "the other gateway", func() bool { return b.get("/x").body == want })
		t.Logf("purge %d: seen at the other gateway after %v", i, time.Since(began).Round(time.Millisecond))
	}
}

// What is stored outlives a reload, also one that is refused, and so does a
// purge.
func TestReloadKeeps(t *testing.T) {
	redisServer := redistest.Start(t)
	origin := newVersions(t)
	for _, store := range []string{"memory", "both"} {
		t.Run(store, func(t *testing.T) {
			site := func(more string) string {
				return "http_cache {\n\t\tstore " + store + "\n" + more + "\t}\n\treverse_proxy " + origin.URL
			}
			g := startGateway(t, redisServer.URL(), site(""))
			testkit.Eventually(t, "hits", func() bool { return g.get("/kept").hit() && g.get("/purged").hit() })
			g.purge(`{"tag":"purged"}`)
			for _, reload := range []struct {
				more   string
				status int
			}{
				{"", http.StatusOK},
				{"\t\tmemory 32MiB\n\t\tttl 404 5s\n", http.StatusOK},
				{"\t\tmemory nonsense\n", http.StatusBadRequest},
				{"\t\tmemory 64MiB\n\t\tkey {\n\t\t\theader Authorization\n\t\t}\n", http.StatusBadRequest}, // refused by Provision
				{"", http.StatusOK},
			} {
				if got := g.reload(site(reload.more)); got != reload.status {
					t.Fatalf("%q: %d, want %d", reload.more, got, reload.status)
				}
				if r := g.get("/kept"); !r.hit() {
					t.Errorf("after %q: %+v", reload.more, r)
				}
			}
			if r := g.get("/purged"); r.hit() {
				t.Errorf("%+v", r)
			}
			s := g.stats()
			if s.Memory.Entries != 2 || s.Memory.Maximum != 256<<20 {
				t.Errorf("%+v", s.Memory)
			}
		})
	}
}
