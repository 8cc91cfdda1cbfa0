package servertest

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig" // the global option `events`
)

func init() { caddy.RegisterModule(new(eventRecorder)) }

// Run runs the sites with all of Caddy, on the addresses that they name, until the test
// ends. options are global options. Events that the option events gives to test_recorder
// are returned by NextEvent.
func Run(t testing.TB, options, sites string) {
	t.Helper()
	text := "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n" + options + "\n}\n" + sites + "\n"
	config, err := Adapt(text)
	parsed := new(caddy.Config)
	if err == nil {
		err = json.Unmarshal(config, parsed)
	}
	if err == nil {
		err = caddy.Run(parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// recorded are the events that NextEvent did not return yet.
var recorded struct {
	sync.Mutex
	events []caddy.Event
}

// NextEvent returns the oldest event that is wanted and was not returned before, if there
// is one.
func NextEvent(wanted func(e caddy.Event) bool) (e caddy.Event, ok bool) {
	recorded.Lock()
	defer recorded.Unlock()
	i := slices.IndexFunc(recorded.events, wanted)
	if i < 0 {
		return e, false
	}
	e = recorded.events[i]
	recorded.events = slices.Delete(recorded.events, i, i+1)
	return e, true
}

// eventRecorder is a handler of events.
type eventRecorder struct{}

func (*eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_recorder", New: func() caddy.Module { return new(eventRecorder) }}
}

func (*eventRecorder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	recorded.Lock()
	defer recorded.Unlock()
	recorded.events = append(recorded.events, e)
	return nil
}

// Interface guards
var (
	_ caddyevents.Handler   = (*eventRecorder)(nil)
	_ caddyfile.Unmarshaler = (*eventRecorder)(nil)
)
