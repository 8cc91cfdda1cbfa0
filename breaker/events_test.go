package breaker

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func init() { caddy.RegisterModule(new(logRecorder)) }

// logged is what logRecorder got.
var logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// logRecorder is an output for logs.
type logRecorder struct{}

func (*logRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.breaker_test", New: func() caddy.Module { return new(logRecorder) }}
}

func (*logRecorder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }
func (*logRecorder) String() string                                { return "breaker_test" }
func (*logRecorder) WriterKey() string                             { return "breaker_test" }
func (*logRecorder) OpenWriter() (io.WriteCloser, error)           { return new(logRecorder), nil }
func (*logRecorder) Close() error                                  { return nil }

func (*logRecorder) Write(p []byte) (int, error) {
	logged.mu.Lock()
	defer logged.mu.Unlock()
	return logged.text.Write(p)
}

// lines returns what was logged and is as wanted.
func lines(t *testing.T, wanted func(entry map[string]any) bool) (found []map[string]any) {
	t.Helper()
	logged.mu.Lock()
	defer logged.mu.Unlock()
	for line := range bytes.Lines(logged.text.Bytes()) {
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if wanted(entry) {
			found = append(found, entry)
		}
	}
	return found
}

// warnings returns the lines of at least the level warn that breakers wrote.
func warnings(t *testing.T) []map[string]any {
	t.Helper()
	return lines(t, func(entry map[string]any) bool {
		return entry["logger"] == "http.handlers.circuit_breaker" && entry["level"] != "info" && entry["level"] != "debug"
	})
}

// refusals returns how many lines of the access log have an open breaker.
func refusals(t *testing.T) int {
	t.Helper()
	return len(lines(t, func(entry map[string]any) bool { return entry["circuit_breaker"] == "open" && entry["status"] == 503. }))
}

// serve runs the site with all of Caddy, until the test ends, and returns its
// address.
func serve(t *testing.T, options, site string) string {
	t.Helper()
	url := "http://" + freeport.Addr(t)
	servertest.Run(t, options, url+" {\n"+site+"\n}")
	return url
}

// Each change of state is an event, and each opening one warning, however many
// requests are refused: with the rule, the counts and the last error.
func TestEventsAndWarnings(t *testing.T) {
	p := newFakeBackend(t)
	url := serve(t, `
	log {
		output breaker_test
		format json
	}
	events {
		on circuit_breaker_opened test_recorder
		on circuit_breaker_half_opened test_recorder
		on circuit_breaker_closed test_recorder
	}`, `
	log
	circuit_breaker reported {
		consecutive 5
		open_for 5s
		half_open 1
	}
	reverse_proxy `+p.addr+` {
		transport http {
			keepalive off
		}
	}`)
	// Circuits of other tests have events too.
	reported := func(e caddy.Event) bool { return e.Data["name"] == "reported" }
	ask := func(n int) {
		t.Helper()
		for range n {
			if a := fetch(t, http.MethodGet, url, nil); a.err != nil {
				t.Fatal(a.err)
			}
		}
	}
	expectEvent := func(name string, want map[string]any) {
		t.Helper()
		var e caddy.Event
		testkit.Eventually(t, name, func() (ok bool) {
			e, ok = servertest.NextEvent(reported)
			return ok
		})
		if e.Name() != name {
			t.Fatalf("event %q, want %q", e.Name(), name)
		}
		if text, _ := e.Data["last_error"].(string); want["last_error"] != nil && bytes.Contains([]byte(text), []byte("connection refused")) {
			want["last_error"] = text
		}
		for field, value := range want {
			if e.Data[field] != value {
				t.Errorf("%s: %s is %v, want %v", name, field, e.Data[field], value)
			}
		}
		if len(e.Data) != len(want) {
			t.Errorf("%s: %v, want %v", name, e.Data, want)
		}
	}
	expectWarning := func(i int, want map[string]any) {
		t.Helper()
		testkit.Eventually(t, "the warning", func() bool { return len(warnings(t)) > i })
		got := warnings(t)
		if len(got) != i+1 {
			t.Fatalf("%d warnings, want %d: %v", len(got), i+1, got)
		}
		if text, _ := got[i]["last_error"].(string); !bytes.Contains([]byte(text), []byte("connection refused")) {
			t.Errorf("last error %q", text)
		}
		for field, value := range want {
			if got[i][field] != value {
				t.Errorf("warning: %s is %v, want %v", field, got[i][field], value)
			}
		}
	}

	ask(2)
	p.stop()
	ask(5)
	expectEvent("circuit_breaker_opened", map[string]any{
		"name": "reported", "scope": "service", "key": "", "from": "closed", "to": "open", "rule": "consecutive", "open_for": "5s",
		"requests": 7, "failures": 5, "slow": 0, "last_error": "",
	})
	ask(50)
	expectWarning(0, map[string]any{
		"level": "warn", "msg": "circuit breaker opened", "name": "reported", "scope": "service", "from": "closed", "to": "open",
		"rule": "consecutive", "requests": 7., "failures": 5., "slow": 0., "open_for": 5.,
	})

	halfOpens(t, "reported", 5*time.Second)
	expectEvent("circuit_breaker_half_opened", map[string]any{"name": "reported", "scope": "service", "key": "", "from": "open", "to": "half_open"})
	ask(10)
	expectEvent("circuit_breaker_opened", map[string]any{
		"name": "reported", "scope": "service", "key": "", "from": "half_open", "to": "open", "rule": "probe", "open_for": "10s",
		"requests": 7, "failures": 5, "slow": 0, "last_error": "",
	})
	expectWarning(1, map[string]any{"rule": "probe", "from": "half_open", "open_for": 10.})

	halfOpens(t, "reported", 10*time.Second)
	expectEvent("circuit_breaker_half_opened", map[string]any{"name": "reported", "scope": "service", "key": "", "from": "open", "to": "half_open"})
	p.restart(t)
	ask(10)
	expectEvent("circuit_breaker_closed", map[string]any{"name": "reported", "scope": "service", "key": "", "from": "half_open", "to": "closed"})
	if got := warnings(t); len(got) != 2 {
		t.Errorf("%d warnings, want 2: %v", len(got), got)
	}
	// The access log says why a request was refused: 50 times, and all but the
	// probe of ten.
	testkit.Eventually(t, "the access log", func() bool { return refusals(t) == 50+9 })
	if e, ok := servertest.NextEvent(reported); ok {
		t.Errorf("one event too many: %+v", e)
	}
}

// Interface guard
var _ caddy.WriterOpener = (*logRecorder)(nil)
