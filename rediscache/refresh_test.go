package rediscache

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// A refresh in the background asks for what the request asked for, whichever
// handler the values of its placeholders come from.
func TestRefreshKeepsPlaceholders(t *testing.T) {
	for name, tc := range map[string]struct{ front, value string }{
		"map":       {"map {http.request.header.X-T} {tenant} {\ndefault nobody\n1 first\n2 second\n}", "{tenant}"},
		"map twice": {"map {http.request.header.X-T} {number} {\ndefault 0\n1 n1\n2 n2\n}\nmap {number} {tenant} {\ndefault nobody\nn1 first\nn2 second\n}", "{tenant}"},
		"vars":      {"vars tenant {http.request.header.X-T}", "{http.vars.tenant}"},
		"regexp":    {"@t header_regexp t X-T ^(.)$\nvars @t seen 1", "{http.regexp.t.1}"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCaddyfile(t, "http://:$1 {\nroute {\n"+tc.front+"\nhttp_cache {\nkey {\nvalue "+tc.value+"\n}\n}\n"+
				"reverse_proxy $PUBLIC {\nheader_up X-Say \""+tc.value+"\"\nheader_down Cache-Control \"max-age=0, stale-while-revalidate=60\"\n}\n}\n}")
			want := map[string]string{}
			for _, tenant := range []string{"1", "2"} {
				want[tenant] = strings.SplitN(r.get(1, "/", "Host", "a.test", "X-T", tenant), " ", 2)[1]
			}
			if want["1"] == want["2"] {
				t.Fatalf("both are %s", want["1"])
			}
			testkit.Eventually(t, "refreshes", func() bool {
				for tenant, body := range want {
					if got := r.get(1, "/", "Host", "a.test", "X-T", tenant); !strings.HasSuffix(got, " "+body) {
						t.Fatalf("after %d requests to the service: %s, want %s", r.asked.Load(), got, body)
					}
				}
				return r.asked.Load() >= 12
			})
		})
	}
}

// Requests that are answered at once with what is stale do not add up to any number of
// refreshes of a service that is slow.
func TestRefreshesAreBounded(t *testing.T) {
	const more = 5
	var running atomic.Int64
	var slow atomic.Bool
	finish := make(chan struct{})
	g := newGateway(t, "http_cache {\n jitter 0\n}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Age", "200")
		w.Header().Set("Cache-Control", "max-age=100, stale-while-revalidate=10000")
		if slow.Load() {
			running.Add(1)
			defer running.Add(-1)
			<-finish
		}
	})
	ask := func() {
		for i := range maxRefreshes + more {
			g.send("GET", fmt.Sprint("/", i))
		}
	}
	ask()
	slow.Store(true)
	ask()
	testkit.Eventually(t, "refreshes", func() bool { return running.Load() == maxRefreshes })
	if got := g.h.refresher.count.Load(); got != maxRefreshes {
		t.Errorf("%d refreshes, want at most %d", got, maxRefreshes)
	}
	close(finish)
	testkit.Eventually(t, "the end of the refreshes", func() bool { return g.h.refresher.count.Load() == 0 })
}
