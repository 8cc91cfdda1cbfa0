package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

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
	servertest.Run(t, `
	log {
		output discard
	}
	tentagate {
		redis `+redis.URL()+`
	}
	events {
		on redis_unavailable test_recorder
		on redis_available test_recorder
		on jwt_keys_failed test_recorder
		on jwt_keys_refreshed test_recorder
		on circuit_breaker_opened test_recorder
	}`, url+` {
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
}`)
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
	expect := func(name, path string, want map[string]any) map[string]any {
		t.Helper()
		var found caddy.Event
		testkit.Eventually(t, name, func() (ok bool) {
			send(path)
			found, ok = servertest.NextEvent(func(e caddy.Event) bool { return e.Name() == name })
			return ok
		})
		for key, value := range want {
			if got := found.Data[key]; got != value {
				t.Errorf("%s: %s is %v, want %v", name, key, got, value)
			}
		}
		return found.Data
	}
	expect("circuit_breaker_opened", "/", map[string]any{"name": "events_of_a_service", "scope": "service", "from": "closed", "to": "open"})
	expect("jwt_keys_failed", "/users", map[string]any{"provider": "main"})
	broken.Store(false)
	expect("jwt_keys_refreshed", "/users", map[string]any{"provider": "main", "result": "ok"})
	send("/limited")
	redis.Kill()
	data := expect("redis_unavailable", "/limited", map[string]any{"state": "unavailable", "node": ""})
	if text, _ := data["error"].(string); text == "" {
		t.Error("the event does not say why Redis is not available")
	}
	redis.Restart()
	expect("redis_available", "/limited", map[string]any{"state": "available", "node": ""})
}
