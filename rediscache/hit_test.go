package rediscache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// sink is a client that takes everything. It is used again and again.
type sink struct {
	header http.Header
	status int
	n      int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }
func (s *sink) reset()                      { clear(s.header); s.status, s.n = 0, 0 }

// hitFields are the fields of the answers that are compared.
var hitFields = [][2]string{
	{"Cache-Control", "max-age=600, stale-while-revalidate=30"},
	{"Content-Type", "application/json"},
	{"Etag", `"0123456789abcdef"`},
	{"Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT"},
	{"X-Request-Id", "f7bd4b1c-6f6b-4f0e-8a54-0f3f4f0b9d57"},
}

// prepareRequest returns what Caddy's server gives its handlers. The same request
// serves a whole benchmark: what Caddy adds to it is no part of what is measured.
func prepareRequest(url string) (*http.Request, *sink) {
	w := &sink{header: http.Header{}}
	r := httptest.NewRequest(http.MethodGet, url, nil)
	r.Header.Set("User-Agent", "benchmark")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("Accept-Encoding", "gzip")
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{}), w
}

// filledCache returns a handler that has the answers to n URLs in memory, and
// the handler of the service that must not be asked any more.
func filledCache(tb testing.TB, block string, n, size int) (*Handler, caddyhttp.Handler) {
	tb.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	tb.Cleanup(func() { cancel(); _ = h.Cleanup() })
	if err := h.Provision(ctx); err != nil {
		tb.Fatal(err)
	}
	body := strings.Repeat("x", size)
	asked := 0
	service := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		asked++
		for _, f := range hitFields {
			w.Header().Set(f[0], f[1])
		}
		_, err := io.WriteString(w, body)
		return err
	})
	for i := range n {
		r, w := prepareRequest(fmt.Sprintf("http://hits.test/objects/%d", i))
		if err := h.ServeHTTP(w, r, service); err != nil {
			tb.Fatal(err)
		}
	}
	if asked != n {
		tb.Fatalf("asked %d times for %d objects", asked, n)
	}
	return h, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { panic("the service is asked") })
}

// What a hit allocates is bounded: the key, the values of its fields, and the text
// of those that are new.
func TestHitAllocations(t *testing.T) {
	h, service := filledCache(t, "http_cache", 1, 1000)
	r, w := prepareRequest("http://hits.test/objects/0")
	hit := func() {
		w.reset()
		if err := h.ServeHTTP(w, r, service); err != nil || w.status != http.StatusOK || w.n != 1000 {
			t.Fatalf("%v %+v", err, w)
		}
	}
	hit()
	if n := testing.AllocsPerRun(1000, hit); n > 3 {
		t.Errorf("%v allocations, want at most 3", n)
	}
}

// Caddy's static answer with the same body and fields, and a hit of one and of many
// objects.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprintf("respond/%dKiB", size>>10), func(b *testing.B) {
			set := http.Header{"Age": {"7"}, "Cache-Status": {"tentagate; hit; ttl=593"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}}
			for _, f := range hitFields {
				set.Set(f[0], f[1])
			}
			fields := &headers.Handler{Response: &headers.RespHeaderOps{HeaderOps: &headers.HeaderOps{Set: set}}}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			if err := fields.Provision(ctx); err != nil {
				b.Fatal(err)
			}
			respond := caddyhttp.StaticResponse{Body: strings.Repeat("x", size)}
			last := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return respond.ServeHTTP(w, r, nil) })
			r, w := prepareRequest("http://hits.test/objects/0")
			b.ReportAllocs()
			for b.Loop() {
				w.reset()
				if err := fields.ServeHTTP(w, r, last); err != nil || w.n != size {
					b.Fatal(err, w)
				}
			}
		})
		b.Run(fmt.Sprintf("hit/%dKiB", size>>10), func(b *testing.B) {
			h, service := filledCache(b, "http_cache", 1, size)
			r, w := prepareRequest("http://hits.test/objects/0")
			b.ReportAllocs()
			for b.Loop() {
				w.reset()
				if err := h.ServeHTTP(w, r, service); err != nil || w.n != size {
					b.Fatal(err, w)
				}
			}
		})
	}
}

// A hit costs the same whatever the number of objects; what grows is the share of
// memory that the processor does not have at hand.
func BenchmarkHitOf(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, service := filledCache(b, "http_cache {\n memory 8GiB\n}", n, 256)
			const asked = 4096
			requests := make([]*http.Request, asked)
			var w *sink
			for i := range requests {
				// Spread over all objects, in an order that no prefetcher guesses.
				requests[i], w = prepareRequest(fmt.Sprintf("http://hits.test/objects/%d", i*2654435761%n))
				if err := h.ServeHTTP(w, requests[i], service); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w.reset()
				if err := h.ServeHTTP(w, requests[i%asked], service); err != nil || w.n != 256 {
					b.Fatal(err, w)
				}
				i++
			}
		})
	}
}
