package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// Good answers are stored whatever the state of a circuit that lets everything
// through, and what a breaker answers in place of the service never is.
func TestCacheBeforeBreakerStates(t *testing.T) {
	for _, tc := range []struct {
		name, options, force string
		stored               bool
	}{
		{"observe, open", "mode observe", `{"state":"open"}`, true},
		{"observe, closed", "mode observe", `{"state":"closed"}`, true},
		{"closed", "", `{"state":"closed"}`, true},
		{"open with a fallback", "open {\n respond \"come back later\" 200\n }", `{"state":"open"}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked atomic.Int64
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, "answer %d", asked.Add(1))
			}))
			defer service.Close()
			g := start(t, `{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	http_cache 60s
	circuit_breaker users {
		`+tc.options+`
	}
	reverse_proxy `+strings.TrimPrefix(service.URL, "http://")+`
}
`)
			g.forceState("users", tc.force)
			first := g.get("/")
			second := g.get("/")
			if got := strings.Contains(second.header.Get("Cache-Status"), "; hit"); got != tc.stored || second.body != first.body {
				t.Errorf("%d %q %q, want stored %v", second.status, second.body, second.header.Get("Cache-Status"), tc.stored)
			}
			if !tc.stored && asked.Load() != 0 {
				t.Error("an open circuit let a request through")
			}
		})
	}
}
