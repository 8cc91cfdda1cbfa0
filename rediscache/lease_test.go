package rediscache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// With `lease`, a gateway waits for what another one is fetching already.
func TestLeaseBetweenGateways(t *testing.T) {
	for name, tc := range map[string]struct{ options, says, one, other string }{
		"everybody": {"", "max-age=600", "", ""},
		"two users": {"key {\n\t\t\tper_user header X-User\n\t\t}", "public, max-age=600", "ann", "bob"},
		"one user":  {"key {\n\t\t\tper_user header X-User\n\t\t}", "private, max-age=600", "ann", "ann"},
	} {
		t.Run(name, func(t *testing.T) { testLease(t, tc.options, tc.says, tc.one, tc.other) })
	}
}

func testLease(t *testing.T, options, says, one, other string) {
	redisServer := redistest.Start(t)
	var asked atomic.Int64
	var held atomic.Pointer[chan struct{}]
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		<-*held.Load()
		w.Header().Set("Cache-Control", says)
		fmt.Fprint(w, n)
	}))
	t.Cleanup(origin.Close)
	site := "http_cache {\n\t\tlease\n\t\t" + options + "\n\t}\n\treverse_proxy " + origin.URL
	a, b := startGateway(t, redisServer.URL(), site), startGateway(t, redisServer.URL(), site)

	// A gateway waits for Redis no longer than its budget, which a busy machine
	// may need: then it asks for itself, rightly, and it is tried again.
	attempt := 0
	testkit.Eventually(t, "an attempt with one fetch for both", func() bool {
		attempt++
		path := fmt.Sprint("/", attempt)
		hold := make(chan struct{})
		held.Store(&hold)
		before := asked.Load()
		answers := make(chan string, 2)
		get := func(g *gatewayProcess, user string) {
			r, err := g.do(http.MethodGet, path, "X-User", user)
			answers <- fmt.Sprint(r.status, " ", r.body, " ", err)
		}
		go get(a, one)
		testkit.Eventually(t, "the first fetch", func() bool { return asked.Load() == before+1 })
		waits := waitsForLeases(t, redisServer)
		go get(b, other)
		testkit.Eventually(t, "the second gateway", func() bool {
			return waitsForLeases(t, redisServer) > waits || asked.Load() > before+1
		})
		close(hold)
		first, second := <-answers, <-answers
		return asked.Load() == before+1 && first == second && strings.HasPrefix(first, "200 ")
	})
}

// waitsForLeases is how often gateways looked whether a lease has ended.
func waitsForLeases(t *testing.T, server *redistest.Server) int {
	t.Helper()
	text, err := server.Client().Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, calls, ok := strings.Cut(text, "cmdstat_exists:calls=")
	n := 0
	if ok {
		_, _ = fmt.Fscan(strings.NewReader(strings.ReplaceAll(calls, ",", " ")), &n)
	}
	return n
}

// A gateway that is stuck while it fetches holds the others up no longer than
// they wait for anybody.
func TestLeaseOfAStuckGateway(t *testing.T) {
	redisServer := redistest.Start(t)
	stuck := make(chan struct{})
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			<-stuck
		}
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(origin.Close)
	site := "http_cache {\n\t\tlease\n\t\tcollapse_timeout 500ms\n\t}\n\treverse_proxy " + origin.URL
	a, b := startGateway(t, redisServer.URL(), site), startGateway(t, redisServer.URL(), site)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = a.do(http.MethodGet, "/x")
	}()
	testkit.Eventually(t, "the first fetch", func() bool { return asked.Load() == 1 })
	if r := b.get("/x"); r.status != http.StatusOK || r.body != "answer" || asked.Load() != 2 {
		t.Errorf("%+v, asked %d times", r, asked.Load())
	}
	close(stuck)
	<-done
}
