package upstream_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func init() { caddy.RegisterModule(new(countingEncoder)) }

// encodedRequests is how many requests were encoded for a log.
var encodedRequests atomic.Int64

// countingEncoder is Caddy's JSON, and counts requests.
type countingEncoder struct{ zapcore.Encoder }

func (*countingEncoder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.counting", New: func() caddy.Module { return new(countingEncoder) }}
}

func (*countingEncoder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (e *countingEncoder) Provision(ctx caddy.Context) error {
	json := new(logging.JSONEncoder)
	e.Encoder = json
	return json.Provision(ctx)
}

func (e *countingEncoder) Clone() zapcore.Encoder { return &countingEncoder{e.Encoder.Clone()} }

func (e *countingEncoder) AddObject(key string, o zapcore.ObjectMarshaler) error {
	if key == "request" {
		encodedRequests.Add(1)
	}
	return e.Encoder.AddObject(key, o)
}

// reverse_proxy's line about each round trip is encoded only where it is written, and the
// lines that are written have the request and the upstream.
func TestRequestsAreEncodedWhenWritten(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
		}
	}))
	t.Cleanup(backend.Close)
	file := filepath.Join(t.TempDir(), "log")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`
{
	admin off
	auto_https off
	log {
		output file `+file+`
		format counting
	}
}
:80 {
	reverse_proxy `+backend.Listener.Addr().String()+` {
		transport tentagate
	}
}`), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := servertest.LoadJSON(t, config)
	if err != nil {
		t.Fatal(err)
	}
	gateway := httptest.NewServer(handler)
	t.Cleanup(gateway.Close)

	for range 3 {
		if got := send(t, http.MethodGet, gateway.URL+"/whole", ""); got.status != http.StatusOK {
			t.Fatalf("%d", got.status)
		}
	}
	if n := encodedRequests.Load(); n != 0 {
		t.Errorf("%d requests were encoded for lines that are not written", n)
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL+"/broken", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a response that broke off: %v", err)
	}
	testkit.Eventually(t, "the line about the response that broke off, with its request", func() bool {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "aborting with incomplete response") {
				return strings.Contains(line, `"uri":"/broken"`) && strings.Contains(line, `"upstream":"`+backend.Listener.Addr().String())
			}
		}
		return false
	})
}
