package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// attackReloadSite has a service with two addresses and a cache.
const attackReloadSite = `{
	admin $ADMIN
	tentagate {
		redis {env.REDIS_URL}
	}
}
http://:$PORT {
	tentagate {
		service users ONE TWO
		jwt off
		ratelimit off
		cache TTL
		limits {
			max_body_size 64KiB
			refusals off
		}
	}
}
`

// Whatever clients send, and whatever is reloaded meanwhile, others are served,
// from the cache and past it, and no service sees a request that nobody sent.
func TestAttacksDuringReloads(t *testing.T) {
	var stolen, asked atomic.Int64
	service := func() string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			switch {
			case strings.Contains(r.RequestURI, "smuggled"):
				stolen.Add(1)
			case r.URL.Path == "/early":
				w.WriteHeader(http.StatusUnauthorized)
				return
			case r.URL.Path == "/large":
				for range 64 {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok")
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	conf := strings.NewReplacer("ONE", service(), "TWO", service()).Replace(attackReloadSite)
	redis := redistest.Start(t)
	g := start(t, strings.Replace(conf, "TTL", "60s", 1), "REDIS_URL="+redis.URL())

	const next = "GET /api/users/smuggled HTTP/1.1\r\nHost: users.test\r\n\r\n"
	post := func(path, header, body string) string {
		return "POST /api/users" + path + " HTTP/1.1\r\nHost: users.test\r\n" + header + "\r\n" + body
	}
	const chunked = "Transfer-Encoding: chunked\r\n"
	attacks := []string{
		post("/x", chunked, "5\r\nhello\r\nZZZ\r\n"+next),
		post("/x", chunked, "5\r\nhello\r\n0\r\nno field\r\n\r\n"+next),
		post("/x", chunked+"Content-Length: 4\r\n", "5\r\nhello\r\n0\r\n\r\n"+next),
		post("/x", "Content-Length: 100000\r\n", strings.Repeat("x", 100000)),
		post("/x", chunked, strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 20)+"0\r\n\r\n"),
		post("/x", "Content-Length: 50000\r\n", "the client leaves"),
		post("/x", "Expect: 100-continue\r\n"+chunked, "ZZZ\r\n"+next),
		post("/early", "Content-Length: 60000\r\n", strings.Repeat("AAAA /smuggled HTTP/1.1\r\n\r\n", 60000/27)),
		"GET /api/users/large?n=N HTTP/1.1\r\nHost: users.test\r\n\r\n", // and does not read it
		"G@T /api/users/x HTTP/1.1\r\nHost: users.test\r\n\r\n",
	}
	done := make(chan struct{})
	var attackers sync.WaitGroup
	var sent atomic.Int64
	for worker := range 3 {
		attackers.Go(func() {
			for i := worker; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				conn, err := net.Dial("tcp", g.addr)
				if err != nil {
					continue // between two configurations
				}
				_, _ = io.WriteString(conn, strings.Replace(attacks[i%len(attacks)], "n=N", fmt.Sprint("n=", i), 1))
				if i%2 == 0 {
					_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					_, _ = io.CopyN(io.Discard, conn, 64<<10)
				}
				_ = conn.Close()
				sent.Add(1)
			}
		})
	}
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for i := range 12 {
		if i == 8 {
			redis.Kill()
		}
		if err := g.reload(strings.Replace(conf, "TTL", []string{"60s", "61s"}[i%2], 1)); err != nil {
			t.Error(err)
		}
		at := sent.Load()
		testkit.Eventually(t, "attacks between two reloads", func() bool { return sent.Load() > at+30 })
		for n, path := range []string{"/kept", fmt.Sprint("/page", i), "/x"} {
			method := []string{http.MethodGet, http.MethodGet, http.MethodPost}[n]
			got := g.send(method, "/api/users"+path, "")
			if got.status != http.StatusOK || got.body != "ok" {
				t.Errorf("reload %d, %s %s: %d %q", i, method, path, got.status, got.body)
			}
		}
	}
	close(done)
	attackers.Wait()
	if n := stolen.Load(); n > 0 {
		t.Errorf("the services were asked %d times what nobody asked", n)
	}
	for line := range strings.Lines(g.adminGet("/metrics")) {
		if strings.HasPrefix(line, "tentagate_circuit_breaker_state{") && strings.Contains(line, `state="closed"`) && strings.HasSuffix(line, " 0\n") {
			t.Errorf("a circuit is not closed: %s", line)
		}
	}
	for _, sign := range []string{"panic", "superfluous", "DATA RACE"} {
		if strings.Contains(g.log.String(), sign) {
			t.Errorf("the log has %q", sign)
		}
	}
	if asked.Load() == 0 {
		t.Error("no service was asked")
	}
}
