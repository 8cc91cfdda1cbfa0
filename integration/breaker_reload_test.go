package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/testkit"
)

// counters returns the counters of the breakers by series.
func (g *gateway) counters() map[string]float64 {
	g.t.Helper()
	found := map[string]float64{}
	for line := range strings.SplitSeq(g.adminGet("/metrics"), "\n") {
		series, text, ok := strings.Cut(line, "} ")
		if !ok || !strings.HasPrefix(series, "tentagate_circuit_breaker_") || !strings.Contains(series, "_total{") {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			g.t.Fatalf("%s: %v", line, err)
		}
		found[series+"}"] = value
	}
	return found
}

// under sends requests to the paths, each of which must always be answered with
// its status, until stop is called. It counts the answers.
func (g *gateway) under(paths map[string]int) (answered map[string]*atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(g.t.Context())
	answered = map[string]*atomic.Int64{}
	var wg sync.WaitGroup
	for path, want := range paths {
		n := new(atomic.Int64)
		answered[path] = n
		wg.Go(func() {
			client := &http.Client{Transport: new(http.Transport), Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				req, _ := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, g.url(path), nil)
				resp, err := client.Do(req)
				if err != nil {
					continue // Caddy's sockets lose some connections at the change of configurations
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != want {
					g.t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
					return
				}
				n.Add(1)
			}
		})
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	g.t.Cleanup(stop)
	return answered, stop
}

// A hundred reloads under load, some of them refused: what is open stays open,
// what is forced stays forced, no counter goes back and nothing is left behind.
func TestBreakersOutliveReloads(t *testing.T) {
	backend := failingService(t)
	dead := freeport.Addr(t)
	config := func(consecutive, extra string) string {
		site := func(name, rules string) string {
			return `
	handle /` + name + ` {
		circuit_breaker ` + name + ` {
			` + rules + `
			open_for 1h
		}
		reverse_proxy ` + backend + ` {
			transport http {
				keepalive off # stock Caddy keeps those of an old configuration a while
			}
		}
	}`
		}
		return `{
	admin $ADMIN
	auto_https off
	metrics
}
http://$ADDR {` + site("well", "consecutive "+consecutive) + site("broken", "consecutive "+consecutive) +
			site("ordered", "consecutive 5") + site("held", "consecutive 5") + `
	handle /dead {
		reverse_proxy ` + dead + ` {
			transport tentagate {
				breaker addresses {
					consecutive ` + consecutive + `
					open_for 1h
				}
			}
		}
	}` + extra + `
}
`
	}
	first, changed := config("5", ""), config("6", "")
	refused := config("7", "\n\thandle {\n\t\tcircuit_breaker ordered {\n\t\t\tconsecutive 6\n\t\t}\n\t}")
	g := start(t, first)
	for range 5 {
		g.get("/broken?fail")
		g.get("/dead")
	}
	g.expectState("broken", "", "open")
	g.expectState("addresses", dead, "open")
	g.forceState("ordered", `{"state":"open","for":"1h"}`)
	g.forceState("held", `{"state":"closed","for":"1h"}`)
	for _, conf := range []string{changed, first} {
		if err := g.reload(conf); err != nil {
			t.Fatal(err)
		}
	}
	goroutines := g.goroutines()

	const times = 100
	paths := map[string]int{"/well": 200, "/broken": 503, "/ordered": 503, "/held?fail": 500, "/dead": 503}
	answered, stop := g.under(paths)
	before := g.counters()
	began := time.Now()
	for i := range times {
		// Each configuration serves a while before the next one comes.
		at := map[string]int64{}
		for path, n := range answered {
			at[path] = n.Load()
		}
		testkit.Eventually(t, "requests between two reloads", func() bool {
			for path, n := range answered {
				if n.Load() < at[path]+5 && !t.Failed() {
					return false
				}
			}
			return true
		})
		var err error
		switch i % 5 {
		case 0, 2:
			err = g.reload(first)
		case 1, 3:
			err = g.reload(changed)
		default:
			if g.reload(refused) == nil {
				t.Fatal("one name with two sets of rules was accepted")
			}
		}
		if _, lost := errors.AsType[*url.Error](err); err != nil && !lost {
			t.Fatal(err)
		}
		now := g.counters()
		for series, was := range before {
			if value, ok := now[series]; !ok || value < was {
				t.Fatalf("after reload %d: %s is %v, it was %v", i+1, series, value, was)
			}
		}
		before = now
		if t.Failed() {
			break
		}
	}
	stop()
	t.Logf("%d reloads in %s", times, time.Since(began).Round(time.Millisecond))
	after := g.counters()
	for path, outcome := range map[string]string{"/well": "success", "/broken": "rejected", "/ordered": "rejected", "/held?fail": "failure"} {
		name, _, _ := strings.Cut(path[1:], "?")
		series := `tentagate_circuit_breaker_requests_total{name="` + name + `",outcome="` + outcome + `",scope="service"}`
		// No answer is uncounted. A few more may be counted, whose connections were
		// lost.
		if n := answered[path].Load(); n == 0 || after[series] < float64(n) {
			t.Errorf("%s: %d answers, %v are counted", path, n, after[series])
		}
	}
	for name, want := range map[string]string{"well": "closed", "broken": "open", "ordered": "open", "held": "closed"} {
		g.expectState(name, "", want)
	}
	g.expectState("addresses", dead, "open")
	if n := after[`tentagate_circuit_breaker_requests_total{name="addresses",outcome="failure",scope="upstream"}`]; n != 5 {
		t.Errorf("the dead upstream was asked %v times", n)
	}
	for _, name := range []string{"ordered", "held"} {
		if left := g.breaker(name, "").Forced; left <= 0 || left >= 3600 {
			t.Errorf("%s is forced for %v seconds more", name, left)
		}
	}
	if c := g.breaker("broken", ""); c.Open <= 0 || c.Open >= 3600 {
		t.Errorf("%+v", c)
	}
	if n := after[`tentagate_circuit_breaker_transitions_total{from="closed",name="broken",scope="service",to="open"}`]; n != 1 {
		t.Errorf("it opened %v times", n)
	}
	testkit.Eventually(t, "the end of the old configurations' goroutines", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return g.goroutines() <= goroutines+5
	})
}

// forceState orders a state.
func (g *gateway) forceState(name, body string) {
	g.t.Helper()
	resp, err := http.Post("http://"+g.admin+"/tentagate/breakers/"+name, "application/json", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		g.t.Fatalf("%s: %d %s", body, resp.StatusCode, text)
	}
}
