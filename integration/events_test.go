package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig" // the global option `events`

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func init() { caddy.RegisterModule(new(eventNotes)) }

// eventNotes is a handler of events that notes them.
type eventNotes struct{}

var noted struct {
	sync.Mutex
	events []caddy.Event
}

func (*eventNotes) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.integration_notes", New: func() caddy.Module { return new(eventNotes) }}
}

func (*eventNotes) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*eventNotes) Handle(_ context.Context, e caddy.Event) error {
	noted.Lock()
	defer noted.Unlock()
	noted.events = append(noted.events, e)
	return nil
}

// eventOf returns the data of an event that was noted, or nil.
func eventOf(name string) map[string]any {
	noted.Lock()
	defer noted.Unlock()
	for _, e := range noted.events {
		if e.Name() == name {
			return e.Data
		}
	}
	return nil
}

// A Caddyfile reacts to what happens to the gateway.
func TestEvents(t *testing.T) {
	redis := redistest.Start(t)
	var broken atomic.Bool
	broken.Store(true)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprint(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"1","alg":"EdDSA"}]}`)
	}))
	defer issuer.Close()
	url := "http://" + freeport.Addr(t)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	auto_https off
	persist_config off
	log {
		output discard
	}
	tentagate {
		redis `+redis.URL()+`
	}
	events {
		on redis_unavailable integration_notes
		on redis_available integration_notes
		on jwt_keys_failed integration_notes
		on jwt_keys_refreshed integration_notes
		on circuit_breaker_opened integration_notes
	}
}
`+url+` {
	route /limited {
		ratelimit 1000000/1s {
			key everybody
		}
		respond ok
	}
	route /users {
		jwt_auth {
			provider main {
				jwks `+issuer.URL+`
				issuer https://issuer.example.com
				audience api
			}
		}
	}
	route {
		circuit_breaker events_of_a_service {
			consecutive 1
		}
		reverse_proxy `+freeport.Addr(t)+`
	}
}
`), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	parsed := new(caddy.Config)
	if err = json.Unmarshal(config, parsed); err == nil {
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
	send := func(path string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		// A token of an unknown key has the keys fetched.
		req.Header.Set("Authorization", "Bearer eyJhbGciOiJFZERTQSIsImtpZCI6IjIifQ.e30.AAAA")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	expect := func(name, path string, want map[string]any) {
		t.Helper()
		testkit.Eventually(t, name, func() bool {
			send(path)
			return eventOf(name) != nil
		})
		for key, value := range want {
			if got := eventOf(name)[key]; got != value {
				t.Errorf("%s: %s is %v, want %v", name, key, got, value)
			}
		}
	}
	expect("circuit_breaker_opened", "/", map[string]any{"name": "events_of_a_service", "scope": "service", "from": "closed", "to": "open"})
	expect("jwt_keys_failed", "/users", map[string]any{"provider": "main"})
	broken.Store(false)
	expect("jwt_keys_refreshed", "/users", map[string]any{"provider": "main", "result": "ok"})
	send("/limited")
	redis.Kill()
	expect("redis_unavailable", "/limited", map[string]any{"state": "unavailable", "node": ""})
	redis.Restart()
	expect("redis_available", "/limited", map[string]any{"state": "available", "node": ""})
	if text, _ := eventOf("redis_unavailable")["error"].(string); text == "" {
		t.Error("the event does not say why Redis is not available")
	}
}

var _ caddyevents.Handler = (*eventNotes)(nil)
