package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// While the breaker is open the cache before it answers with what is stored,
// fresh or, where that is allowed, stale; the fallback answers the rest.
func TestBreakerBehindCache(t *testing.T) {
	const (
		allowed = "max-age=60, stale-if-error=600"
		plain   = "max-age=60"
		must    = "max-age=60, stale-if-error=600, must-revalidate"
	)
	var failing atomic.Bool
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if failing.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		w.Header().Set("Age", r.URL.Query().Get("age"))
		_, _ = fmt.Fprintf(w, "answer %d", n)
	}))
	defer service.Close()
	const fallback = `
		open {
			header X-From fallback
			respond "fallback" `
	for _, tc := range []struct {
		name, open string
		// What becomes of a stale response that may stand in, and of everything else
		// that is not fresh.
		stale, otherwise string
	}{
		{"plain", "", "stale", "503"},
		{"a fallback with an error", fallback + "503\n\t\t}", "stale", "503 fallback"},
		{"a fallback", fallback + "200\n\t\t}", "200 fallback", "200 fallback"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			failing.Store(false)
			g := start(t, `{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	http_cache 60s
	circuit_breaker users {
		consecutive 3
		open_for 1h`+tc.open+`
	}
	reverse_proxy `+strings.TrimPrefix(service.URL, "http://")+`
}
`)
			path := func(cc string, age int) string {
				return "/?age=" + strconv.Itoa(age) + "&cc=" + strings.ReplaceAll(cc, " ", "%20")
			}
			entries := []struct {
				name, path, want string
			}{
				{"fresh", path(plain, 5), "fresh"},
				{"stale, which may stand in", path(allowed, 70), tc.stale},
				{"too stale", path(allowed, 700), tc.otherwise},
				{"stale", path(plain, 70), tc.otherwise},
				{"stale, to be revalidated", path(must, 70), tc.otherwise},
			}
			stored := map[string]string{}
			for _, e := range entries {
				stored[e.path] = g.get(e.path).body
			}
			failing.Store(true)
			for range 3 {
				g.get("/down")
			}
			g.expectState("users", "", "open")
			reached := asked.Load()
			for _, e := range entries {
				a := g.get(e.path)
				status, from := a.header.Get("Cache-Status"), a.header.Get("X-From")
				age, err := strconv.Atoi(a.header.Get("Age"))
				ok := false
				switch e.want {
				case "fresh":
					ok = a.status == 200 && a.body == stored[e.path] && err == nil && age >= 5 && strings.Contains(status, "; hit; ttl=5")
				case "stale":
					ok = a.status == 200 && a.body == stored[e.path] && err == nil && age >= 70 && strings.Contains(status, "; hit; ttl=-") &&
						strings.Contains(status, "stale-if-error")
				case "503":
					seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
					ok = a.status == 503 && err == nil && seconds > 3500 && seconds <= 3600 && a.header.Get("Proxy-Status") == "tentagate; error=destination_unavailable" &&
						a.header.Get("Cache-Control") == "no-store" && a.header.Get("Content-Type") == "application/problem+json" && strings.Contains(status, "fwd=")
				case "503 fallback":
					ok = a.status == 503 && a.body == "fallback" && from == "fallback"
				case "200 fallback":
					ok = a.status == 200 && a.body == "fallback" && from == "fallback" && !strings.Contains(status, "stored")
				}
				if !ok {
					t.Errorf("%s: %d %q %v, want %s", e.name, a.status, a.body, a.header, e.want)
				}
			}
			if n := asked.Load() - reached; n != 0 {
				t.Errorf("%d requests reached the service", n)
			}

			// After recovery no client gets the substitute response.
			failing.Store(false)
			g.forceState("users", `{"state":"closed"}`)
			for _, e := range entries[1:] {
				if a := g.get(e.path); a.status != 200 || !strings.HasPrefix(a.body, "answer ") || a.body == stored[e.path] || a.header.Get("X-From") != "" {
					t.Errorf("%s, closed again: %d %q %v", e.name, a.status, a.body, a.header)
				}
			}
		})
	}
}
