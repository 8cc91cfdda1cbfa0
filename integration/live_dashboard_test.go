package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const liveDashboardConf = `{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	telemetry {
		services /api/ <i>users
	}
	basic_auth /secret/* {
		ann $2a$14$yqtQZwXCBR0Yce/Pj1aVr.gfUZAn4Ou6gm.W8QxeIX1SqCVzfHZWm
	}
	dashboard {
		path /secret/state
	}
	dashboard {
		actions
	}
	guard
	circuit_breaker live-dashboard
	reverse_proxy $SERVICE
}
`

// liveEvent is what is checked of an event of the dashboard.
type liveEvent struct {
	Rated, Telemetry bool
	Services         []liveService
	Failures         []struct {
		RequestID string `json:"request_id"`
	}
	Status struct {
		Breakers []struct{ Name, State string }
	}
}

type liveService struct {
	Name           string
	Rate, Requests float64
	P50            *float64
	Last           *string `json:"last_request"`
}

// liveEvents opens a stream. Its channel is closed when the stream ends.
func liveEvents(t *testing.T, url string) <-chan liveEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		close(done)
		t.Fatalf("%v %v", err, resp)
	}
	events := make(chan liveEvent, 100)
	go func() {
		defer close(done)
		defer close(events)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e liveEvent
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Errorf("%v: %s", err, text)
				}
				events <- e
			}
		}
		if err := lines.Err(); err != nil && ctx.Err() == nil {
			t.Errorf("the stream was cut off: %v", err)
		}
	}()
	return events
}

// until reads events up to one that is as wanted.
func until(t *testing.T, events <-chan liveEvent, what string, wanted func(e *liveEvent) bool) {
	t.Helper()
	for e := range events {
		if wanted(&e) {
			return
		}
	}
	t.Fatalf("the stream ended before %s", what)
}

func ended(events <-chan liveEvent) bool {
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return true
			}
		case <-time.After(10 * time.Second):
			return false
		}
	}
}

// The dashboard's events have what requests do, at the admin endpoint and at the handler, and
// end with the configuration and the process.
func TestLiveDashboard(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer service.Close()
	conf := strings.ReplaceAll(liveDashboardConf, "$SERVICE", service.URL)
	g := start(t, conf)
	for path, status := range map[string]int{"/secret/state/": 401, "/secret/state/events": 401, "/dashboard/": 200, "/dashboard": 200} {
		if a := g.get(path); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
	streams := []<-chan liveEvent{liveEvents(t, "http://"+g.admin+"/tentagate/dashboard/events"), liveEvents(t, g.url("/dashboard/events"))}
	for _, events := range streams {
		until(t, events, "there are rates", func(e *liveEvent) bool { return e.Rated && e.Telemetry })
		for range 20 {
			g.get("/api/%3Ci%3Eusers/x")
		}
		until(t, events, "the requests are seen", func(e *liveEvent) bool {
			return slices.ContainsFunc(e.Services, func(s liveService) bool {
				return s.Name == "<i>users" && s.Rate > 0 && s.Requests >= 20 && s.P50 != nil && s.Last != nil
			})
		})
	}
	if a := g.send("POST", "/dashboard/breakers/live-dashboard", `{"state":"open"}`, "Origin", "http://"+g.addr, "X-Tentagate-Dashboard", "1"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	until(t, streams[0], "the circuit is open", func(e *liveEvent) bool {
		return len(e.Status.Breakers) == 1 && e.Status.Breakers[0].State == "open"
	})
	refused := map[string]bool{}
	until(t, streams[1], "it has the id of a refused request", func(e *liveEvent) bool {
		for _, f := range e.Failures {
			if refused[f.RequestID] {
				return true
			}
		}
		if id := g.get("/api/x").header.Get("X-Request-Id"); id != "" {
			refused[id] = true
		}
		return false
	})
	if err := g.reload(conf); err != nil {
		t.Fatal(err)
	}
	for i, events := range streams {
		if !ended(events) {
			t.Errorf("stream %d goes on after a reload", i)
		}
	}
	again := liveEvents(t, g.url("/dashboard/events"))
	until(t, again, "there are rates after the reload", func(e *liveEvent) bool { return e.Rated })
	before := time.Now()
	g.stop()
	if took := time.Since(before); took > 9*time.Second || !ended(again) {
		t.Errorf("the process took %s to end while a dashboard was open", took)
	}
}
