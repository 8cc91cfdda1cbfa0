package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/pythopus/tentagate/internal/testkit"
)

func init() {
	caddy.RegisterModule(new(recorder))
	caddy.RegisterModule(new(logRecorder))
}

// recorder is a handler of events that can be slow and can panic.
type recorder struct{}

var record struct {
	sync.Mutex
	names []string
	hold  chan struct{} // what the handler waits for, if anything
}

func (*recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.recorder", New: func() caddy.Module { return new(recorder) }}
}

func (*recorder) Handle(_ context.Context, e caddy.Event) error {
	record.Lock()
	hold := record.hold
	record.names = append(record.names, fmt.Sprint(e.Name(), e.Data["n"]))
	record.Unlock()
	if hold != nil {
		<-hold
	}
	if e.Data["panic"] != nil {
		panic("a mistake of the handler")
	}
	return nil
}

// logRecorder is an output for logs.
type logRecorder struct{}

var logged struct {
	sync.Mutex
	bytes.Buffer
}

func (*logRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.recorder", New: func() caddy.Module { return new(logRecorder) }}
}

func (*logRecorder) String() string                      { return "recorder" }
func (*logRecorder) WriterKey() string                   { return "recorder" }
func (*logRecorder) OpenWriter() (io.WriteCloser, error) { return new(logRecorder), nil }
func (*logRecorder) Close() error                        { return nil }

func (*logRecorder) Write(p []byte) (int, error) {
	logged.Lock()
	defer logged.Unlock()
	return logged.Buffer.Write(p)
}

// warnings returns how many there were of events that were dropped.
func warnings() int {
	logged.Lock()
	defer logged.Unlock()
	return strings.Count(logged.String(), "events were dropped")
}

func names() []string {
	record.Lock()
	defer record.Unlock()
	return record.names
}

func TestEmit(t *testing.T) {
	Emit(caddy.Context{}, "too_early", nil) // there is no configuration
	config := &caddy.Config{AppsRaw: caddy.ModuleMap{"events": json.RawMessage(`{"subscriptions":[{"events":["seen"],"handlers":[{"handler":"recorder"}]}]}`)}}
	config.Admin = &caddy.AdminConfig{Disabled: true}
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"recorder"}`)}}}}
	if err := caddy.Run(config); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = caddy.Stop() }()

	ended, end := caddy.NewContext(caddy.Context{Context: t.Context()})
	end() // events outlive the configuration that they come from
	Emit(ended, "seen", map[string]any{"n": 0, "panic": true})
	Emit(caddy.Context{}, "unseen", nil)
	Emit(caddy.Context{}, "seen", map[string]any{"n": 1})
	testkit.Eventually(t, "two events", func() bool { return len(names()) == 2 })

	// A slow handler holds nobody up, and does not fill the memory.
	hold := make(chan struct{})
	record.Lock()
	record.hold = hold
	record.Unlock()
	Emit(caddy.Context{}, "seen", map[string]any{"n": 2})
	testkit.Eventually(t, "the slow handler", func() bool { return len(names()) == 3 })
	for i := range 2 * maxWaiting {
		Emit(caddy.Context{}, "seen", map[string]any{"n": 3 + i})
	}
	testkit.Eventually(t, "the warning while the handler hangs", func() bool { return warnings() == 1 })
	close(hold)
	testkit.Eventually(t, "the queue is empty", func() bool {
		queue.Lock()
		defer queue.Unlock()
		return !queue.delivering
	})
	testkit.Eventually(t, "the warning of those that were dropped since", func() bool { return warnings() == 2 })
	got := names()
	if len(got) != 3+maxWaiting {
		t.Errorf("%d events were delivered, want %d", len(got), 3+maxWaiting)
	}
	for i, name := range got {
		if name != fmt.Sprint("seen", i) {
			t.Fatalf("event %d is %s: want the order in which they came", i, name)
		}
	}
}

var (
	_ caddyevents.Handler = (*recorder)(nil)
	_ caddy.WriterOpener  = (*logRecorder)(nil)
)
