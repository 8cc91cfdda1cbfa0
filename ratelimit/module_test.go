package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

func TestHundredPerMinute(t *testing.T) {
	s := serverOf(provision(t, &Handler{Zone: "api-100", Limits: []string{"100/1m"}}))
	began := time.Now()
	// back is how many units may have come back since: one each 600 ms.
	back := func() int { return int(time.Since(began) / (600 * time.Millisecond)) }
	w := s.send(client{})
	i := 0
	for ; w.Code == 200; w = s.send(client{}) {
		remaining := -1
		_, err := fmt.Sscanf(w.Header().Get("RateLimit"), `"api-100";r=%d;t=1`, &remaining)
		if err != nil || remaining < max(0, 99-i) || remaining > 99-i+back() {
			t.Fatalf("request %d: RateLimit %s, want r=%d", i+1, w.Header().Get("RateLimit"), 99-i)
		}
		i++
	}
	if i < 100 || w.Code != 429 {
		t.Fatalf("request %d: %d", i+1, w.Code)
	}
	for name, want := range map[string]string{
		"RateLimit":        `"api-100";r=0;t=1`,
		"RateLimit-Policy": `"api-100";q=100;w=60`,
		"Retry-After":      "1",
		"Content-Type":     "application/problem+json",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var body struct {
		Type     string   `json:"type"`
		Title    string   `json:"title"`
		Status   int      `json:"status"`
		Violated []string `json:"violated-policies"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if body.Type != typeQuotaExceeded || body.Status != 429 || len(body.Violated) != 1 || body.Violated[0] != "api-100" || body.Title == "" {
		t.Errorf("body %s", w.Body)
	}
	if w := s.send(client{ip: "192.0.2.2"}); w.Code != 200 {
		t.Errorf("another client: %d", w.Code)
	}
}

func TestSeveralLimitsFields(t *testing.T) {
	s := serverOf(provision(t, &Handler{Zone: "m", Limits: []string{"1000/1h", "2/1s burst 3"}, Headers: headersBoth}))
	w := s.send(client{})
	for name, want := range map[string]string{
		"RateLimit":             `"m-1s";r=2;t=1, "m-1h";r=999;t=4`,
		"RateLimit-Policy":      `"m-1s";q=2;w=1;tg-burst=3, "m-1h";q=1000;w=3600`,
		"X-RateLimit-Limit":     "3",
		"X-RateLimit-Remaining": "2",
		"X-RateLimit-Reset":     "1",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s = serverOf(provision(t, &Handler{Zone: "off", Limits: []string{"1/1h"}, Headers: headersOff}))
	s.send(client{})
	w = s.send(client{})
	if w.Code != 429 || w.Header().Get("RateLimit") != "" || !regexp.MustCompile(`^3(600|5[0-9][0-9])$`).MatchString(w.Header().Get("Retry-After")) {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestKeys(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    *Handler
		a, b client
		same bool
	}{
		{"ip", &Handler{}, client{ip: "192.0.2.1"}, client{ip: "192.0.2.2"}, false},
		{"ipv6 within one network", &Handler{}, client{ip: "2001:db8::1"}, client{ip: "2001:db8::ffff:1"}, true},
		{"ipv6 of two networks", &Handler{}, client{ip: "2001:db8::1"}, client{ip: "2001:db8:0:1::1"}, false},
		{"ipv6 whole", &Handler{IPv6Prefix: 128}, client{ip: "2001:db8::1"}, client{ip: "2001:db8::2"}, false},
		{"ipv4 mapped", &Handler{}, client{ip: "::ffff:192.0.2.9"}, client{ip: "192.0.2.9"}, true},
		{"user", &Handler{Key: []string{"{http.auth.user.id}"}}, client{vars: map[string]string{"http.auth.user.id": "a"}}, client{ip: "192.0.2.9", vars: map[string]string{"http.auth.user.id": "a"}}, true},
		{"no user: by address", &Handler{Key: []string{"{http.auth.user.id}"}}, client{ip: "192.0.2.1"}, client{ip: "192.0.2.2"}, false},
		{"no user, a user named like the address", &Handler{Key: []string{"{http.auth.user.id}"}}, client{ip: "192.0.2.1"}, client{vars: map[string]string{"http.auth.user.id": "\x01ip:192.0.2.1"}}, false},
		{"constant", &Handler{Key: []string{"global"}}, client{ip: "192.0.2.1"}, client{ip: "192.0.2.2"}, true},
		{
			"joined values do not run together", &Handler{Key: []string{"{a}", "{b}"}},
			client{vars: map[string]string{"a": "x|y", "b": "z"}},
			client{vars: map[string]string{"a": "x", "b": "y|z"}},
			false,
		},
		{
			"values in one text do not run together", &Handler{Key: []string{"{a}-{b}"}},
			client{vars: map[string]string{"a": "x-y", "b": "z"}},
			client{vars: map[string]string{"a": "x", "b": "y-z"}},
			false,
		},
		{
			"long values differ at the end", &Handler{Key: []string{"{a}"}},
			client{vars: map[string]string{"a": strings.Repeat("x", 5000) + "1"}},
			client{vars: map[string]string{"a": strings.Repeat("x", 5000) + "2"}},
			false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := tc.h
			h.Limits = []string{"1/1h"}
			s := serverOf(provision(t, h))
			if w := s.send(tc.a); w.Code != 200 {
				t.Fatalf("first: %d", w.Code)
			}
			want := 200
			if tc.same {
				want = 429
			}
			if w := s.send(tc.b); w.Code != want {
				t.Errorf("second: %d, want %d", w.Code, want)
			}
		})
	}
}

func TestMissingKey(t *testing.T) {
	skip := serverOf(provision(t, &Handler{Zone: "skip", Limits: []string{"1/1h"}, Key: []string{"{nothing}"}, MissingKey: missingSkip}))
	if codes := skip.statuses(5, client{}); count(codes, 200) != 5 {
		t.Errorf("skip: %v", codes)
	}
	reject := serverOf(provision(t, &Handler{Zone: "reject", Limits: []string{"1/1h"}, Key: []string{"{nothing}"}, MissingKey: missingReject}))
	if codes := reject.statuses(2, client{}); count(codes, 400) != 2 {
		t.Errorf("reject: %v", codes)
	}
}

func TestExemptCostShadowTier(t *testing.T) {
	t.Run("exempt", func(t *testing.T) {
		s := serverOf(provision(t, &Handler{Limits: []string{"1/1h"}, Exempt: []string{"10.0.0.0/8", "2001:db8::/32"}}))
		for _, ip := range []string{"10.1.2.3", "2001:db8::1"} {
			if codes := s.statuses(3, client{ip: ip}); count(codes, 200) != 3 {
				t.Errorf("%s: %v", ip, codes)
			}
		}
		if codes := s.statuses(3, client{ip: "11.1.2.3"}); count(codes, 200) != 1 {
			t.Errorf("others: %v", codes)
		}
	})
	t.Run("cost", func(t *testing.T) {
		s := serverOf(provision(t, &Handler{Limits: []string{"10/1h"}, Cost: "{cost}"}))
		if codes := s.statuses(4, client{vars: map[string]string{"cost": "3"}}); count(codes, 200) != 3 {
			t.Errorf("cost 3 of 10: %v", codes)
		}
		if codes := s.statuses(3, client{}); count(codes, 200) != 1 {
			t.Errorf("without a value the cost is 1: %v", codes)
		}
		if codes := s.statuses(2, client{vars: map[string]string{"cost": "0"}}); count(codes, 200) != 2 {
			t.Errorf("cost 0: %v", codes)
		}
		for _, cost := range []string{"11", "9223372036854775808", "1" + strings.Repeat("0", 40)} {
			w := s.send(client{ip: "192.0.2.77", vars: map[string]string{"cost": cost}})
			if w.Code != 429 || w.Header().Get("Retry-After") != "" {
				t.Errorf("a cost that is never possible, %s: %d, Retry-After %q", cost, w.Code, w.Header().Get("Retry-After"))
			}
		}
		if codes := s.statuses(11, client{ip: "192.0.2.78", vars: map[string]string{"cost": "-9223372036854775809"}}); count(codes, 200) != 10 {
			t.Errorf("a cost below zero is 1: %v", codes)
		}
	})
	t.Run("shadow", func(t *testing.T) {
		s := serverOf(provision(t, &Handler{Limits: []string{"1/1h"}, Shadow: true}))
		w := s.send(client{})
		if codes := s.statuses(3, client{}); count(codes, 200) != 3 || w.Header().Get("RateLimit") != "" {
			t.Errorf("%v %v", codes, w.Header())
		}
	})
	t.Run("tier", func(t *testing.T) {
		s := serverOf(provision(t, &Handler{Key: []string{"{user}"}, Tier: &Tier{Key: "{plan}", Limits: map[string][]string{
			"gold": {"5/1h"}, "staff": {unlimited}, anyTier: {"2/1h"},
		}}}))
		for plan, want := range map[string]int{"gold": 5, "staff": 9, "": 2, "copper": 2} {
			if codes := s.statuses(9, client{vars: map[string]string{"user": "u" + plan, "plan": plan}}); count(codes, 200) != want {
				t.Errorf("plan %q: %v, want %d", plan, codes, want)
			}
		}
	})
}

func TestCountStatus(t *testing.T) {
	s := serverOf(provision(t, &Handler{Limits: []string{"3/1h"}, CountStatus: []string{"401", "5xx"}}))
	status := 200
	s.status = func(*http.Request) int { return status }
	if codes := s.statuses(10, client{}); count(codes, 200) != 10 {
		t.Fatalf("answers that do not count: %v", codes)
	}
	// The fields say that nothing was used, and otherwise what was.
	if got := s.send(client{}).Header().Get("RateLimit"); !strings.HasSuffix(got, ";r=3;t=0") {
		t.Errorf("an answer that does not count: RateLimit %s", got)
	}
	status = 401
	if got := s.send(client{ip: "192.0.2.55"}).Header().Get("RateLimit"); !strings.Contains(got, ";r=2;t=1") {
		t.Errorf("an answer that counts: RateLimit %s", got)
	}
	if codes := s.statuses(2, client{}); count(codes, 401) != 2 {
		t.Fatalf("the first failures: %v", codes)
	}
	status = 0 // an error of the backend, 502
	s.send(client{})
	if codes := s.statuses(2, client{}); count(codes, 429) != 2 {
		t.Errorf("after three failures: %v", codes)
	}
}

// Of several handlers in a row, a refusal of one consumes nothing of another,
// whatever their order, and a client cannot use up what is for all.
func TestGroupAllOrNone(t *testing.T) {
	for _, order := range []string{"global first", "client first"} {
		t.Run(order, func(t *testing.T) {
			global := provision(t, &Handler{Zone: zoneName(t) + "g", Key: []string{"all"}, Limits: []string{"10/1h"}})
			own := provision(t, &Handler{Zone: zoneName(t) + "c", Limits: []string{"3/1h"}})
			s := serverOf(global, own)
			if order == "client first" {
				s = serverOf(own, global)
			}
			if codes := s.statuses(50, client{ip: "192.0.2.1"}); count(codes, 200) != 3 {
				t.Fatalf("greedy client: %v", codes)
			}
			var d gcra.Decision
			global.zone.memory.Peek("all", global.tiers["*"].plan, 1, &d)
			if d.Meters[0].Remaining != 7 {
				t.Errorf("%d of the global limit remain, want 7", d.Meters[0].Remaining)
			}
			w := s.send(client{ip: "192.0.2.2"})
			if w.Code != 200 || strings.Count(w.Header().Get("RateLimit"), ";r=") != 2 {
				t.Errorf("%d, RateLimit %s", w.Code, w.Header().Get("RateLimit"))
			}
			for i := range 20 {
				s.send(client{ip: fmt.Sprintf("192.0.2.%d", 10+i)})
			}
			w = s.send(client{ip: "192.0.2.99"})
			if w.Code != 429 || !strings.Contains(w.Body.String(), global.Zone) || strings.Contains(w.Body.String(), own.Zone) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			own.zone.memory.Peek("192.0.2.99", own.tiers["*"].plan, 1, &d)
			if d.Meters[0].Remaining != 3 {
				t.Errorf("the refusal by the global limit consumed of the client's own: %d remain", d.Meters[0].Remaining)
			}
		})
	}
}

// A handler that is not directly behind the first is decided later; what the
// first took is given back then.
func TestLaterRefusalRefunds(t *testing.T) {
	first := provision(t, &Handler{Zone: zoneName(t) + "1", Limits: []string{"10/1h"}})
	second := provision(t, &Handler{Zone: zoneName(t) + "2", Limits: []string{"2/1h"}})
	s := serverOf(first)
	s.server.Routes = append(s.server.Routes,
		caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{passThrough{}}},
		caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{second}})
	if codes := s.statuses(20, client{}); count(codes, 200) != 2 {
		t.Fatalf("%v", codes)
	}
	var d gcra.Decision
	first.zone.memory.Peek("192.0.2.1", first.tiers["*"].plan, 1, &d)
	if d.Meters[0].Remaining != 8 {
		t.Errorf("%d of the first limit remain, want 8", d.Meters[0].Remaining)
	}
}

type passThrough struct{}

func (passThrough) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func TestMaxConcurrent(t *testing.T) {
	s := serverOf(provision(t, &Handler{MaxConcurrent: 2}))
	entered, leave := make(chan struct{}), make(chan struct{})
	s.block = func() { entered <- struct{}{}; <-leave }
	results := make(chan int)
	for range 2 {
		go func() { results <- s.send(client{}).Code }()
		<-entered
	}
	if w := s.send(client{}); w.Code != 429 || !strings.Contains(w.Header().Get("RateLimit-Policy"), `qu="concurrent-requests"`) {
		t.Errorf("third at once: %d %v", w.Code, w.Header())
	}
	close(leave)
	for range 2 {
		if code := <-results; code != 200 {
			t.Errorf("%d", code)
		}
	}
	s.block = nil
	if w := s.send(client{}); w.Code != 200 {
		t.Errorf("after the others left: %d", w.Code)
	}
}

func TestDelay(t *testing.T) {
	h := provision(t, &Handler{Limits: []string{"100/1s burst 1"}, Delay: caddy.Duration(45 * time.Millisecond)})
	s := serverOf(h)
	// One at once and four that wait 10, 20, 30 and 40 ms.
	codes := make(chan int, 20)
	for range 20 {
		go func() { codes <- s.send(client{}).Code }()
	}
	admitted := 0
	for range 20 {
		if <-codes == 200 {
			admitted++
		}
	}
	if admitted < 5 {
		t.Errorf("admitted %d, want at least 5", admitted)
	}
	if len(h.delayed) != 0 {
		t.Errorf("%d requests still in the queue", len(h.delayed))
	}
}

// A reload with another limit keeps what was used, in proportion.
func TestStateSurvivesReload(t *testing.T) {
	first := provision(t, &Handler{Zone: "reload", Limits: []string{"10/1h"}})
	s := serverOf(first)
	if codes := s.statuses(12, client{}); count(codes, 200) != 10 {
		t.Fatalf("%v", codes)
	}
	second := provision(t, &Handler{Zone: "reload", Limits: []string{"20/1h"}})
	_ = first.Cleanup()
	if codes := serverOf(second).statuses(3, client{}); count(codes, 429) != 3 {
		t.Errorf("after the reload: %v", codes)
	}
	// A configuration that is rejected must not take the counters with it.
	third := &Handler{Zone: "reload", Limits: []string{"nonsense"}}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := third.Provision(ctx); err == nil {
		t.Error("nonsense was accepted")
	}
	_ = third.Cleanup()
	if codes := serverOf(second).statuses(1, client{}); codes[0] != 429 {
		t.Error("a rejected configuration reset the counters")
	}
}

func TestPlaceholders(t *testing.T) {
	h := provision(t, &Handler{Zone: "p", Limits: []string{"5/1h"}})
	s := serverOf(h)
	s.status = func(r *http.Request) int {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if got := repl.ReplaceAll("{http.ratelimit.p.remaining} {http.ratelimit.p.outcome} {http.ratelimit.p.tier} {http.ratelimit.pp.remaining}", "-"); got != "4 allowed * -" {
			t.Errorf("%q", got)
		}
		return 200
	}
	s.send(client{})
}

// A limit allocates its checks and the value of RateLimit, and without guard in
// front, two objects for the placeholders.
func TestAllocations(t *testing.T) {
	h := provision(t, &Handler{Limits: []string{"1000000/1s"}})
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	if n := testing.AllocsPerRun(100, func() {
		delete(vars, "tentagate")
		clear(w.Header())
		_ = h.ServeHTTP(w, r, next)
	}); n > 4 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHandler(b *testing.B) {
	h := provision(b, &Handler{Limits: []string{"1000000/1s"}})
	s := serverOf(h)
	b.ReportAllocs()
	for b.Loop() {
		s.send(client{})
	}
}
