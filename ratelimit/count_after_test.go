package ratelimit

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/redistest"
)

// What is counted after the answer costs requests that are answered otherwise
// nothing, however many there are and however many are in progress at once.
func TestCountAfter(t *testing.T) {
	h := provision(t, &Handler{Limits: []string{"3/1h"}, CountStatus: []string{"401", "403", "502"}, CountAfter: true})
	s := serverOf(h)
	status := 200
	s.status = func(*http.Request) int { return status }
	if codes := s.statuses(50, client{}); count(codes, 200) != 50 {
		t.Fatalf("answers that do not count: %v", codes)
	}
	if got := s.send(client{}).Header().Get("RateLimit"); got != "" {
		t.Errorf("an answer that does not count: RateLimit %s", got)
	}

	// More than the limit at once, all of them good.
	const n = 20
	var inside, done sync.WaitGroup
	inside.Add(n)
	s.block = func() { inside.Done(); inside.Wait() }
	codes := make([]int, n)
	for i := range n {
		done.Go(func() { codes[i] = s.send(client{}).Code })
	}
	done.Wait()
	s.block = nil
	if count(codes, 200) != n {
		t.Fatalf("in progress at once: %v", codes)
	}

	for i, code := range []int{401, 403, 0} { // 0 is an error of a handler, 502
		status = code
		w := s.send(client{})
		if got := w.Header().Get("RateLimit"); w.Code == 429 || !strings.Contains(got, ";r="+string(rune('2'-i))) {
			t.Errorf("refusal %d: %d, RateLimit %s", i, w.Code, got)
		}
	}
	status = 200
	w := s.send(client{})
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Header().Get("RateLimit"), ";r=0") {
		t.Errorf("after three refusals: %d %v", w.Code, w.Header())
	}
	if w := s.send(client{ip: "192.0.2.7"}); w.Code != 200 {
		t.Errorf("another address: %d", w.Code)
	}
	if used := s.statuses(5, client{}); count(used, 429) != 5 {
		t.Errorf("%v", used)
	}
}

// In front of other limits: what they refuse is no refusal of the request.
func TestCountAfterBeforeOtherLimits(t *testing.T) {
	after := provision(t, &Handler{Zone: zoneName(t) + "a", Limits: []string{"1/1h"}, CountStatus: []string{"401"}, CountAfter: true})
	own := provision(t, &Handler{Zone: zoneName(t) + "o", Limits: []string{"2/1h"}})
	s := serverOf(after, own)
	if codes := s.statuses(5, client{}); count(codes, 200) != 2 || count(codes, 429) != 3 {
		t.Errorf("%v", codes)
	}
	s.status = func(*http.Request) int { return 401 }
	if codes := s.statuses(3, client{ip: "192.0.2.8"}); count(codes, 401) != 1 {
		t.Errorf("%v", codes)
	}
}

func TestCountAfterShadow(t *testing.T) {
	s := serverOf(provision(t, &Handler{Limits: []string{"1/1h"}, CountStatus: []string{"401"}, CountAfter: true, Shadow: true}))
	s.status = func(*http.Request) int { return 401 }
	for range 5 {
		if w := s.send(client{}); w.Code != 401 || w.Header().Get("RateLimit") != "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	}
}

func TestCountAfterInvalid(t *testing.T) {
	for want, h := range map[string]*Handler{
		"count_after: it needs count_status":       {Limits: []string{"1/1h"}, CountAfter: true},
		"count after: not possible with mode leas": {Limits: []string{"1/1h"}, CountStatus: []string{"401"}, CountAfter: true, Delay: caddy.Duration(time.Second)},
	} {
		h.Zone = zoneName(t)
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		err := h.Provision(ctx)
		if err == nil {
			err = h.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		_ = h.Cleanup()
		cancel()
	}
}

// With Redis the count is shared, and good requests do not ask it.
func TestCountAfterInRedis(t *testing.T) {
	server := redistest.Start(t)
	g := startGateway(t, `
	tentagate {
		redis %s {
			timeout 10s
			dial_timeout 10s
		}
	}
	----
	ratelimit {
		zone refusals
		limit 3/1h
		count after 401 403
		budget 10s
	}
	error /refused 403
	respond /unknown 401`, server.URL())
	calls := func() uint64 {
		var m dto.Metric
		if err := batches.Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.GetHistogram().GetSampleCount()
	}
	if codes := g.statuses(3, "/"); count(codes, 200) != 3 {
		t.Fatalf("%v", codes)
	}
	before := calls()
	if codes := g.statuses(20, "/"); count(codes, 200) != 20 {
		t.Fatalf("%v", codes)
	}
	if after := calls(); after != before {
		t.Errorf("good requests asked Redis: %d calls, then %d", before, after)
	}
	for i, path := range []string{"/refused", "/unknown", "/refused"} {
		if code := g.get(path).StatusCode; code == 429 {
			t.Fatalf("refusal %d: %d", i, code)
		}
	}
	if resp := g.get("/"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after three refusals: %d %v", resp.StatusCode, resp.Header)
	}
	server.Kill()
	if code := g.get("/").StatusCode; code != 429 {
		t.Errorf("Redis unreachable, the client has no units: %d", code)
	}
}
