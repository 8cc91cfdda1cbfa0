package rediscache

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"  // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // reverse_proxy
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"        // the storage that certificates default to
	_ "github.com/caddyserver/caddy/v2/modules/logging"            // log outputs

	"github.com/pythopus/tentagate/internal/redistest"
)

// Whatever happens to Redis under load, every answer is right and none is an
// error.
func TestGatewaysInTrouble(t *testing.T) {
	redisServer := redistest.Start(t, "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru", "--enable-debug-command", "yes")
	origin := newVersions(t)
	site := "http_cache {\n\t\tmemory 64KiB\n\t}\n\treverse_proxy " + origin.URL
	gateways := []*gatewayProcess{startGateway(t, redisServer.URL(), site), startGateway(t, redisServer.URL(), site)}
	var phase atomic.Value
	phase.Store("well")
	took := map[string][]time.Duration{}
	var mu sync.Mutex
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := g; ; i += 7 {
				select {
				case <-stop:
					return
				default:
				}
				path := "/" + strconv.Itoa(i%1000)
				began, name := time.Now(), phase.Load().(string)
				r, err := gateways[i%2].do(http.MethodGet, path)
				d := time.Since(began)
				if err != nil || r.status != http.StatusOK || r.body != path+" version 0" {
					t.Errorf("%s: %s: %d %q %v", name, path, r.status, r.body, err)
					return
				}
				mu.Lock()
				took[name] = append(took[name], d)
				mu.Unlock()
			}
		})
	}
	count := func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return len(took[name])
	}
	run := func(name string, begin, end func()) {
		begin()
		phase.Store(name)
		within(t, name, func() bool { return t.Failed() || count(name) > 1500 })
		end()
		phase.Store("well after " + name)
		within(t, "well after "+name, func() bool { return t.Failed() || count("well after "+name) > 300 })
	}
	nothing := func() {}
	ctx := context.Background()
	within(t, "well", func() bool { return t.Failed() || count("well") > 1500 })
	run("frozen", redisServer.Freeze, redisServer.Thaw)
	run("killed", redisServer.Kill, redisServer.Restart)
	run("flushed", redisServer.Flush, nothing)
	run("full", func() {
		c := redisServer.Client()
		for i := range 100 {
			c.Set(ctx, "filler"+strconv.Itoa(i), strings.Repeat("x", 100_000), 0)
		}
	}, nothing)
	spoil := func() {
		c := redisServer.Client()
		for _, key := range c.Keys(ctx, "*:v:*").Val() {
			c.SetRange(ctx, key, 20, "\x00\xff\x00")
		}
	}
	run("corrupted", spoil, nothing)
	within(t, "reading what is corrupted", func() bool {
		if t.Failed() || gateways[0].stats().Redis[0].Corrupt > 0 {
			return true
		}
		spoil()
		return false
	})
	run("busy", func() { go redisServer.Client().Do(ctx, "DEBUG", "SLEEP", "1") }, nothing)
	close(stop)
	wg.Wait()
	var hits, skipped, late, evictions int64
	for _, g := range gateways {
		s := g.stats()
		hits += s.Redis[0].Hits
		skipped += s.Redis[0].Skipped
		late += s.Redis[0].Late
		evictions += s.Memory.Evictions
	}
	if hits == 0 || skipped == 0 || late == 0 || evictions == 0 {
		t.Errorf("the second tier was not in use, or not in trouble: %d hits, %d skipped, %d late, %d evicted", hits, skipped, late, evictions)
	}
	for name, list := range took {
		slices.Sort(list)
		t.Logf("%-20s %6d requests, p50 %8v, p99 %8v, longest %8v", name, len(list), list[len(list)/2], list[len(list)*99/100], list[len(list)-1])
	}
}
