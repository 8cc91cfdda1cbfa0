package rediscache

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
)

// missRequest returns a request as a client's that may leave, with fields that
// handlers in front have set, and the client's header.
func missRequest(tb testing.TB, path, user string) (*http.Request, *sink, http.Header) {
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	w := &sink{header: http.Header{}}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://misses.test"+path, nil)
	r.Header.Set("User-Agent", "benchmark")
	r.Header.Set("Accept-Encoding", "gzip")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	if user != "" {
		r.Header.Set("Authorization", "Bearer of-"+user)
		identity.Set(r, &identity.Identity{Provider: "main", Subject: user})
	}
	return r, w, http.Header{"Server": {"Caddy"}, "X-Request-Id": {"f7bd4b1c-6f6b-4f0e-8a54-0f3f4f0b9d57"}, "Ratelimit": {`"default";r=99;t=60`}, "Vary": {"Origin"}}
}

// missCases are the kinds of misses that are measured.
var missCases = []struct {
	name, block, control, user string
	stored                     bool
}{
	{"stored", "http_cache", "max-age=600", "", true},
	{"no-store", "http_cache 60s", "no-store", "", false},
	{"private", "http_cache 60s", "private", "", false},
	{"user-stored", "http_cache 60s {\n key {\n per_user\n}\n}", "private, max-age=600", "ann", true},
	{"user-no-store", "http_cache 60s {\n key {\n per_user\n}\n}", "no-store", "ann", false},
}

// missRunner returns what makes one miss.
func missRunner(tb testing.TB, i int) func() {
	tc := missCases[i]
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.block)); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	tb.Cleanup(func() { cancel(); _ = h.Cleanup() })
	if err := h.Provision(ctx); err != nil {
		tb.Fatal(err)
	}
	body := strings.Repeat("x", 1000)
	asked, sent := 0, 0
	service := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		asked++
		w.Header()["Cache-Control"] = []string{tc.control}
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{"1000"}
		w.Header()["Date"] = []string{"Mon, 02 Jan 2006 15:04:05 GMT"}
		w.WriteHeader(http.StatusOK)
		_, err := io.WriteString(w, body)
		return err
	})
	path := strings.ReplaceAll("/"+tb.Name(), "#", "-")
	r, w, outer := missRequest(tb, path, tc.user)
	return func() {
		w.reset()
		maps.Copy(w.header, outer)
		if tc.stored {
			r.URL.Path = fmt.Sprintf("%s/%d", path, sent)
		}
		sent++
		if err := h.ServeHTTP(w, r, service); err != nil || w.n != len(body) || asked != sent {
			tb.Fatal(err, w, asked, sent)
		}
	}
}

// A miss: what is stored, and what may not be.
func BenchmarkMiss(b *testing.B) {
	for i, tc := range missCases {
		b.Run(tc.name, func(b *testing.B) {
			miss := missRunner(b, i)
			b.ReportAllocs()
			for b.Loop() {
				miss()
			}
		})
	}
}

// What a miss allocates is bounded, most of all where nothing can be stored: then
// nothing is recorded, buffered or prepared. Four of the allocations are the origin's;
// the bounds are those of the race detector, which has the pools forget some.
func TestMissAllocations(t *testing.T) {
	most := map[string]float64{"stored": 34, "no-store": 20, "private": 20, "user-stored": 40, "user-no-store": 20}
	for i, tc := range missCases {
		t.Run(tc.name, func(t *testing.T) {
			miss := missRunner(t, i)
			miss()
			if n := testing.AllocsPerRun(1000, miss); n > most[tc.name] {
				t.Errorf("%v allocations, want at most %v", n, most[tc.name])
			}
		})
	}
}
