package upstream_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
)

// slotConfig has a reverse_proxy with the slot, which no Caddyfile can say.
func slotConfig(slot string, upstreams ...string) []byte {
	var dials []string
	for _, u := range upstreams {
		dials = append(dials, fmt.Sprintf(`{"dial": %q}`, u))
	}
	return fmt.Appendf(nil, `{
	"admin": {"disabled": true},
	"apps": {"http": {"servers": {"s": {
		"listen": ["127.0.0.1:0"],
		"automatic_https": {"disable": true},
		"routes": [{"handle": [{
			"handler": "reverse_proxy",
			"circuit_breaker": %s,
			"upstreams": [%s]
		}]}]
	}}}}
}`, slot, strings.Join(dials, ","))
}

// reverse_proxy's own slot: all its upstreams are one circuit, which opens by
// what they answer, refuses, lets through again when half-open and closes.
func TestSlot(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	config := slotConfig(`{"type": "tentagate", "name": "slot", "ratio": 0.5, "min_requests": 10, "open_for": "5s", "half_open": 2}`, a.addr(), b.addr())
	handler, err := servertest.LoadJSON(t, config)
	if err != nil {
		t.Fatal(err)
	}
	gateway := httptest.NewServer(handler)
	defer gateway.Close()
	ask := func(n, want int) {
		t.Helper()
		for i := range n {
			if got := send(t, http.MethodGet, gateway.URL, "").status; got != want {
				t.Fatalf("request %d of %d: %d, want %d", i+1, n, got, want)
			}
		}
	}
	served := func() int64 { return a.served.Load() + b.served.Load() }

	ask(4, 200)
	a.status.Store(500)
	b.status.Store(500)
	ask(5, 500)
	expectState(t, "slot", "", "closed")
	ask(1, 500) // 6 of 10
	expectState(t, "slot", "", "open")
	reached := served()
	ask(10, http.StatusServiceUnavailable)
	if served() != reached {
		t.Error("an upstream was asked when the circuit was open")
	}

	testClock.Add(5 * time.Second)
	expectState(t, "slot", "", "half_open")
	ask(1, 500)
	expectState(t, "slot", "", "open")
	ask(1, http.StatusServiceUnavailable)
	testClock.Add(5 * time.Second)
	expectState(t, "slot", "", "open") // twice as long
	testClock.Add(5 * time.Second)
	expectState(t, "slot", "", "half_open")
	a.status.Store(200)
	b.status.Store(200)
	ask(1, 200)
	expectState(t, "slot", "", "half_open")
	ask(1, 200)
	expectState(t, "slot", "", "closed")

	// A newer configuration has the same circuit.
	a.status.Store(500)
	b.status.Store(500)
	ask(10, 500)
	expectState(t, "slot", "", "open")
	if handler, err = servertest.LoadJSON(t, config); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("the newer configuration: %d", w.Code)
	}
}

// The documented limit: a backend that refuses connections does not open it.
func TestSlotLimits(t *testing.T) {
	handler, err := servertest.LoadJSON(t, slotConfig(`{"type": "tentagate", "name": "blind", "consecutive": 1}`, dead(t)))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusBadGateway {
			t.Errorf("%d", w.Code)
		}
	}
	if s := states(t, "blind")[""]; s != "closed" && s != "" {
		t.Errorf("it is %s", s)
	}
}

// What the slot cannot mean is refused, and the error says why.
func TestSlotRefuses(t *testing.T) {
	for slot, want := range map[string]string{
		`{"type": "tentagate"}`:                                         "name: missing",
		`{"type": "tentagate", "name": "wrong", "ratio": 2}`:            "ratio",
		`{"type": "tentagate", "name": "wrong", "failure": ["600"]}`:    `failure "600"`,
		`{"type": "tentagate", "name": "wrong", "key": "{http.host}"}`:  "key",
		`{"type": "tentagate", "name": "wrong", "consecutive": "five"}`: "consecutive",
	} {
		if _, err := servertest.LoadJSON(t, slotConfig(slot, "127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", slot, err, want)
		}
	}
}
