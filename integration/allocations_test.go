package integration

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/servertest"
)

func init() { caddy.RegisterModule(new(cannedTransport)) }

// cannedTransport answers at once, so that what is counted is the gateway's own.
type cannedTransport struct{}

func (*cannedTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.canned", New: func() caddy.Module { return new(cannedTransport) }}
}

func (*cannedTransport) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*cannedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Date": {"Sat, 28 Nov 2026 12:00:00 GMT"}},
		ContentLength: 2, Body: io.NopCloser(strings.NewReader("{}")), Request: r,
	}, nil
}

// discard is a writer of an answer that keeps nothing but its status.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) WriteHeader(status int)      { w.status = status }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) Flush()                        {}

const allocationSecret = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa"

// gatewayUnderLoad returns a function that sends one request through Caddy's
// server with a site that has these lines.
func gatewayUnderLoad(t testing.TB, lines, path string) func() {
	t.Helper()
	setEnvironment(t, "# env JWT_SECRET_KEY="+allocationSecret)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\nadmin off\nauto_https off\nmetrics\nlog {\noutput discard\n}\n}\n:80 {\n"+lines+"\n}\n"), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := servertest.LoadJSON(t, config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(allocationSecret))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		own := *target
		r := &http.Request{
			Method: http.MethodGet, URL: &own, RequestURI: path, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "gateway.test",
			RemoteAddr: "192.0.2.1:1234", Body: http.NoBody,
			Header: http.Header{"Accept": {"*/*"}, "User-Agent": {"test"}, "Authorization": {"Bearer " + token}},
		}
		w := &discard{header: http.Header{}}
		if handler.ServeHTTP(w, r); w.status != http.StatusOK {
			t.Fatalf("%s: %d", path, w.status)
		}
	}
	for range 100 {
		send()
	}
	return send
}

const cannedProxy = "reverse_proxy 127.0.0.1:9 {\ntransport canned\n}"

var allocationChain = "guard\ncors https://app.example.com\njwt_auth " + allocationSecret + "\nratelimit 50000000/1m\ncircuit_breaker allocations\n"

func directiveOf(services int) string {
	var b strings.Builder
	b.WriteString("tentagate allocations {\nratelimit 50000000/1m\nallowed_origins https://app.example.com\n")
	for i := range services {
		fmt.Fprintf(&b, "service users%d http://127.0.0.1:9 {\ntransport canned\n}\n", i)
	}
	return b.String() + "}\n"
}

// fewestAllocations returns how often a request through a site with these lines
// allocates at least, measured anew while that is more than most. The race
// detector makes every sync.Pool drop objects at random, and other goroutines
// allocate too; both only add.
func fewestAllocations(t *testing.T, lines string, most float64) float64 {
	t.Helper()
	fewest := math.MaxFloat64
	for attempt := 0; attempt < 3 && fewest > most; attempt++ {
		send := gatewayUnderLoad(t, lines, "/api/users0/x")
		for range 300 {
			fewest = min(fewest, testing.AllocsPerRun(1, send))
		}
	}
	return fewest
}

// What the gateway's handlers add to what Caddy's reverse_proxy allocates for a
// request.
func TestAllocations(t *testing.T) {
	bare := fewestAllocations(t, cannedProxy, 0)
	for _, tc := range []struct {
		name, lines string
		most        float64
	}{
		{"guard", "guard\n" + cannedProxy, 4},
		{"cors", "cors https://app.example.com\n" + cannedProxy, 3},
		{"jwt_auth", "jwt_auth " + allocationSecret + "\n" + cannedProxy, 3},
		{"ratelimit", "ratelimit 50000000/1m\n" + cannedProxy, 5},
		{"circuit_breaker", "circuit_breaker allocations1\n" + cannedProxy, 3},
		{"http_cache", "http_cache 60s\n" + cannedProxy, 9},
		{"the chain", allocationChain + cannedProxy, 12},
		{"the directive", directiveOf(1), 27},
		{"the directive, 1000 services", directiveOf(1000), 27},
	} {
		got := fewestAllocations(t, tc.lines, bare+tc.most)
		if got-bare > tc.most {
			t.Errorf("%s: %.0f allocations more than the bare proxy's %.0f, at most %.0f are right", tc.name, got-bare, bare, tc.most)
		}
	}
}

func BenchmarkGateway(b *testing.B) {
	for _, bc := range []struct{ name, lines string }{
		{"bare", cannedProxy},
		{"chain", allocationChain + cannedProxy},
		{"directive/1", directiveOf(1)},
		{"directive/1000", directiveOf(1000)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			send := gatewayUnderLoad(b, bc.lines, "/api/users0/x")
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}
