package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// failingService starts a service that answers 500 to requests with ?fail.
func failingService(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("fail") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// circuitState is a circuit as the admin API shows it.
type circuitState struct {
	Name     string  `json:"name"`
	Scope    string  `json:"scope"`
	Key      string  `json:"key"`
	State    string  `json:"state"`
	Forced   float64 `json:"forced_seconds"`
	Open     float64 `json:"open_seconds"`
	Requests int     `json:"requests"`
	Failures int     `json:"failures"`
	Hinted   bool    `json:"hinted"`
}

// breaker returns how a circuit stands, or nothing if there is none.
func (g *gateway) breaker(name, key string) circuitState {
	g.t.Helper()
	var list []circuitState
	text := g.adminGet("/tentagate/breakers/" + name)
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		g.t.Fatalf("%v: %s", err, text)
	}
	i := slices.IndexFunc(list, func(c circuitState) bool { return c.Key == key })
	if i < 0 {
		return circuitState{}
	}
	return list[i]
}

// ask sends requests of a key and returns the statuses, and how long the slowest
// answer took.
func (g *gateway) ask(n int, path, key string) (statuses []int, slowest time.Duration) {
	g.t.Helper()
	for range n {
		began := time.Now()
		statuses = append(statuses, g.get(path, "X-Key", key).status)
		slowest = max(slowest, time.Since(began))
	}
	return statuses, slowest
}

func (g *gateway) expectState(name, key, want string) {
	g.t.Helper()
	if c := g.breaker(name, key); c.State != want {
		g.t.Fatalf("%s: %+v, want it %s", g.addr, c, want)
	}
}

// A gateway whose circuit opens informs the others, which need half of the minimum of
// requests until then and none of which opens because of it. With Redis frozen
// or gone, everything else is as it was.
func TestBreakersShare(t *testing.T) {
	server := redistest.Start(t)
	conf := `{
	admin $ADMIN
	auto_https off
	tentagate {
		redis ` + server.URL() + `
	}
}
http://$ADDR {
	circuit_breaker shared {
		key {http.request.header.X-Key}
		window 1h
		trip 50% of 20
		open_for 1h
		share
	}
	reverse_proxy ` + failingService(t) + `
}
`
	a, b := start(t, conf), start(t, conf)
	opens := func(key string) (slowest time.Duration) {
		t.Helper()
		statuses, slowest := a.ask(21, "/?fail", key)
		if slices.Index(statuses, http.StatusServiceUnavailable) != 20 {
			t.Fatalf("%s: %v, want it open after 20 failures", key, statuses)
		}
		a.expectState("shared", key, "open")
		return slowest
	}

	// Without hints of others.
	b.ask(10, "/?fail", "alone")
	b.expectState("shared", "alone", "closed")

	// hinted reports whether b got the hint soon. It may be lost: none is sent while
	// Redis is too slow.
	hinted := func(key string) bool {
		for range 100 {
			if b.breaker("shared", key).Hinted {
				return true
			}
		}
		return false
	}
	// opened opens circuits that b has too until b has the hint of one.
	opened := func(prefix string) (key string, slowest time.Duration) {
		t.Helper()
		n := 0
		testkit.Eventually(t, "the hint", func() bool {
			n++
			key = fmt.Sprint(prefix, "-", n)
			b.ask(1, "/", key)
			slowest = opens(key)
			return hinted(key)
		})
		return key, slowest
	}

	// Where b has a circuit, and where it has none yet.
	sub := server.Client().Subscribe(t.Context(), "tentagate:breaker:opened")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	known, up := opened("known")
	for published := false; !published; {
		message, err := sub.ReceiveMessage(t.Context())
		if err != nil || !strings.Contains(message.Payload, `"name":"shared"`) {
			t.Fatalf("published: %v, %v", message, err)
		}
		published = strings.Contains(message.Payload, `"key":"`+known+`"`)
	}
	if a.breaker("shared", known).Hinted {
		t.Error("the gateway applies its own hint")
	}
	b.expectState("shared", known, "closed")
	b.ask(3, "/", known)
	b.ask(5, "/?fail", known)
	b.expectState("shared", known, "closed") // 9 requests
	b.ask(1, "/?fail", known)
	b.expectState("shared", known, "open")

	unknown := ""
	testkit.Eventually(t, "the hint in a circuit that was made after it", func() bool {
		unknown += "x"
		opens(unknown)
		opened("later" + unknown) // so the one before it has come
		b.ask(1, "/", unknown)
		return b.breaker("shared", unknown).Hinted
	})
	b.expectState("shared", unknown, "closed")

	// Redis hangs, and then is gone: no request waits for it, none is refused.
	server.Freeze()
	frozen := opens("frozen")
	b.ask(10, "/?fail", "frozen")
	b.expectState("shared", "frozen", "closed")
	server.Thaw()
	server.Kill()
	gone := opens("gone")
	b.ask(19, "/?fail", "gone")
	b.expectState("shared", "gone", "closed")
	b.ask(1, "/?fail", "gone")
	b.expectState("shared", "gone", "open")
	t.Logf("the slowest of 21 answers: %s with Redis, %s with it frozen, %s with it gone", up, frozen, gone)

	server.Restart()
	opened("back")
}
