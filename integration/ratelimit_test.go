package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// from makes a request of another client.
func from(ip string, headers ...string) []string {
	return append([]string{"X-Forwarded-For", ip}, headers...)
}

// statuses sends n requests and returns how many were answered with each status.
func (g *gateway) statuses(n int, path string, headers ...string) map[int]int {
	g.t.Helper()
	m := map[int]int{}
	for range n {
		m[g.get(path, headers...).status]++
	}
	return m
}

// want checks how many of n requests were admitted; the others are 429.
func (g *gateway) want(admitted, n int, path string, headers ...string) {
	g.t.Helper()
	if m := g.statuses(n, path, headers...); m[200] != admitted || m[200]+m[429] != n {
		g.t.Errorf("%s %v: %v, want %d of %d admitted", path, headers, m, admitted, n)
	}
}

// Everything that the directive can do, through the built server, in memory,
// in Redis strictly, and by leases.
func TestRatelimit(t *testing.T) {
	server := redistest.Start(t)
	options := "tentagate {\n\t\tredis " + server.URL() + " {\n\t\t\ttimeout 20s\n\t\t\tdial_timeout 20s\n\t\t}\n\t}"
	for _, store := range []struct{ name, site, global, open string }{
		{"memory", "store memory", "", "store memory"},
		{"redis", "budget 20s", options, "budget 20s"},
	} {
		t.Run(store.name, func(t *testing.T) {
			enter, leave := make(chan struct{}), make(chan struct{})
			backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave }))
			defer backend.Close()
			g := start(t, strings.ReplaceAll(fmt.Sprintf(limited, store.site, store.global, store.open), "$BACKEND", backend.URL))
			testAnswers(t, g)
			testKeys(t, g)
			testOptions(t, g)
			testTogether(t, g)
			testAdmin(t, g, store.name)

			// One at a time, and the other is refused.
			first := make(chan int)
			go func() { first <- g.get("/busy").status }()
			<-enter
			if a := g.get("/busy"); a.status != 429 || !strings.Contains(a.header.Get("RateLimit-Policy"), `qu="concurrent-requests"`) || !strings.Contains(a.body, "busy-concurrent") {
				t.Errorf("a second at once: %d %v %s", a.status, a.header, a.body)
			}
			close(leave)
			if status := <-first; status != 200 {
				t.Errorf("the first: %d", status)
			}
		})
	}
}

func testAnswers(t *testing.T, g *gateway) {
	// A unit comes back every 20 minutes, less what the machine was busy since.
	const soon = `1(200|1[4-9][0-9])`
	for i, left := range []int{2, 1, 0, 0} {
		a := g.get("/rate", from("198.51.100.1")...)
		if got, want := a.header.Get("RateLimit"), fmt.Sprintf(`^"rate";r=%d;t=%s$`, left, soon); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("request %d: RateLimit %s, want %s", i, got, want)
		}
		if got := a.header.Get("RateLimit-Policy"); got != `"rate";q=3;w=3600` {
			t.Errorf("RateLimit-Policy %s", got)
		}
		if i < 3 {
			if want := fmt.Sprintf(`^allowed %d %s \*$`, left, soon); a.status != 200 || !regexp.MustCompile(want).MatchString(a.body) {
				t.Errorf("request %d: %d %q, want %q", i, a.status, a.body, want)
			}
			continue
		}
		var p struct {
			Type     string
			Status   int
			Violated []string `json:"violated-policies"`
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 429 || p.Status != 429 ||
			p.Type != "https://iana.org/assignments/http-problem-types#quota-exceeded" || len(p.Violated) != 1 || p.Violated[0] != "rate" ||
			a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
		if after := a.header.Get("Retry-After"); !regexp.MustCompile("^" + soon + "$").MatchString(after) {
			t.Errorf("Retry-After %q", after)
		}
	}
	// After Retry-After, the request is admitted.
	g.want(1, 1, "/second")
	a := g.get("/second")
	for range 3 {
		if a.status == 200 {
			continue // the machine was busy for a second
		}
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || wait != 1 {
			t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
		}
		time.Sleep(time.Duration(wait) * time.Second)
		if a = g.get("/second"); a.status != 200 {
			t.Errorf("after Retry-After of %d s: %d %v", wait, a.status, a.header)
		}
		a = g.get("/second")
	}

	g.want(2, 4, "/burst")
	if got := g.get("/burst").header.Get("RateLimit-Policy"); got != `"burst";q=10;w=3600;tg-burst=2` {
		t.Errorf("%s", got)
	}
	g.want(2, 4, "/several")
	a = g.get("/several")
	if got := a.header.Get("RateLimit-Policy"); got != `"several-1h";q=2;w=3600, "several-1d";q=100;w=86400` {
		t.Errorf("%s", got)
	}
	if a.header.Get("X-RateLimit-Limit") != "2" || a.header.Get("X-RateLimit-Remaining") != "0" || a.header.Get("X-RateLimit-Reset") == "" ||
		!strings.Contains(a.header.Get("RateLimit"), `"several-1d";r=98;`) || strings.Contains(a.body, "several-1d") || !strings.Contains(a.body, "several-1h") {
		t.Errorf("%v %s", a.header, a.body)
	}
	g.want(3, 5, "/window")
	if a := g.get("/window"); a.header.Get("RateLimit-Policy") != `"window";q=3;w=3600` {
		t.Errorf("%v", a.header)
	}
	g.want(1, 2, "/off")
	if a := g.get("/off"); a.header.Get("RateLimit") != "" || a.header.Get("RateLimit-Policy") != "" || a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	if a := g.get("/legacy"); a.header.Get("RateLimit") != "" || a.header.Get("X-RateLimit-Remaining") != "4" || a.header.Get("X-RateLimit-Limit") != "5" {
		t.Errorf("%v", a.header)
	}
}

func testKeys(t *testing.T, g *gateway) {
	g.want(1, 2, "/by-user", from("198.51.100.1", "X-User", "ann")...)
	g.want(0, 1, "/by-user", from("198.51.100.2", "X-User", "ann")...)
	g.want(1, 2, "/by-user", from("198.51.100.2", "X-User", "bob")...)
	// Without a user each address has its own key, which no user has.
	g.want(1, 2, "/by-user", from("198.51.100.3")...)
	g.want(1, 2, "/by-user", from("198.51.100.4")...)
	g.want(1, 2, "/by-user", from("198.51.100.4", "X-User", "198.51.100.4")...)
	g.want(3, 3, "/skip", "X-User", "ann")
	g.want(1, 3, "/skip", "X-User", "ann", "X-App", "a")
	g.want(1, 3, "/skip", "X-User", "an", "X-App", "na")
	g.want(1, 3, "/skip", "X-User", "ann|a", "X-App", "b")
	g.want(1, 3, "/skip", "X-User", "ann", "X-App", "a|b")
	if a := g.get("/reject"); a.status != 400 || a.header.Get("Retry-After") != "" || !strings.Contains(a.body, "no rate-limit key") {
		t.Errorf("%d %s", a.status, a.body)
	}
	g.want(1, 2, "/reject", "X-User", "ann")
	// By default, one network is one client.
	g.want(3, 4, "/rate", from("2001:db8:1:2::1")...)
	g.want(0, 1, "/rate", from("2001:db8:1:2:ffff::9")...)
	g.want(3, 4, "/rate", from("2001:db8:1:3::1")...)
	g.want(1, 2, "/whole", from("2001:db8:1:2::1")...)
	g.want(1, 2, "/whole", from("2001:db8:1:2::2")...)
	g.want(5, 5, "/exempt", from("10.9.8.7")...)
	g.want(5, 5, "/exempt", from("2001:db8::5")...)
	g.want(5, 5, "/exempt", from("192.0.2.7")...)
	g.want(1, 5, "/exempt", from("192.0.2.8")...)
	for plan, n := range map[string]int{"gold": 4, "staff": 7, "copper": 2, "": 2, "*": 2} {
		g.want(n, 7, "/tier", "X-User", "user-"+plan, "X-Plan", plan)
	}
}

func testOptions(t *testing.T, g *gateway) {
	g.want(3, 4, "/cost", from("198.51.100.1", "X-Cost", "3")...) // 9 of 10
	g.want(1, 2, "/cost", from("198.51.100.1")...)                // the tenth
	g.want(3, 3, "/cost", from("198.51.100.1", "X-Cost", "0")...)
	if a := g.get("/cost", from("198.51.100.2", "X-Cost", "11")...); a.status != 429 || a.header.Get("Retry-After") != "" {
		t.Errorf("a cost that no waiting makes possible: %d %v", a.status, a.header)
	}
	g.want(10, 11, "/cost", from("198.51.100.3", "X-Cost", "nonsense")...)

	// Only failures count, however many successes there are.
	if m := g.statuses(5, "/login", "X-Answer", "200"); m[200] != 5 {
		t.Errorf("successes: %v", m)
	}
	if m := g.statuses(1, "/login", "X-Answer", "401"); m[401] != 1 {
		t.Errorf("a failure: %v", m)
	}
	if m := g.statuses(3, "/login", "X-Answer", "204"); m[204] != 3 {
		t.Errorf("successes again: %v", m)
	}
	if a := g.get("/login", "X-Answer", "200"); !strings.Contains(a.header.Get("RateLimit"), ";r=1;") {
		t.Errorf("one failure so far: RateLimit %s", a.header.Get("RateLimit"))
	}
	if m := g.statuses(3, "/login", "X-Answer", "503"); m[503] != 1 || m[429] != 2 {
		t.Errorf("failures: %v", m)
	}

	for i, want := range []string{"allowed", "shadow_limited", "shadow_limited"} {
		if a := g.get("/shadow"); a.status != 200 || a.body != want || a.header.Get("RateLimit") != "" {
			t.Errorf("shadow, request %d: %d %q %v", i, a.status, a.body, a.header)
		}
	}

	// Ten per second: six requests at once take half a second, and all are answered.
	began := time.Now()
	bodies := make(chan string, 6)
	for range 6 {
		go func() { a := g.get("/delay"); bodies <- fmt.Sprint(a.status, " ", a.body) }()
	}
	outcomes := map[string]int{}
	for range 6 {
		outcomes[<-bodies]++
	}
	if took := time.Since(began); outcomes["200 delayed"] < 1 || outcomes["200 delayed"]+outcomes["200 allowed"] != 6 || took < 490*time.Millisecond {
		t.Errorf("%v in %v", outcomes, took)
	}
	// The queue has one place: if it is taken, requests are refused; a client
	// that disconnects leaves it.
	g.want(1, 1, "/queue")
	ask := func(ctx context.Context) int {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/queue"), nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0 // it was held until the time was over
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == 429 && (resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"violated-policies":["queue"]`)) {
			t.Errorf("a full queue: %v %s", resp.Header, body)
		}
		return resp.StatusCode
	}
	briefly := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		return ask(ctx)
	}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan struct{})
	go func() {
		defer close(left)
		for ctx.Err() == nil {
			ask(ctx)
		}
	}()
	testkit.Eventually(t, "the queue is full", func() bool { return briefly() == 429 })
	cancel()
	<-left
	testkit.Eventually(t, "the place is free", func() bool { return briefly() == 0 })
}

// Directives that follow one another are decided together.
func testTogether(t *testing.T, g *gateway) {
	g.want(3, 9, "/two", from("198.51.100.1")...)
	if n := g.remaining("everybody", "everybody"); n != 5 {
		t.Errorf("%d remain for everybody, want 5: what one refused must not count for the other", n)
	}
	g.want(3, 9, "/two", from("198.51.100.2")...)
	g.want(2, 9, "/two", from("198.51.100.3")...)
	a := g.get("/two", from("198.51.100.4")...)
	if a.status != 429 || !strings.Contains(a.body, `["everybody"]`) || strings.Count(a.header.Get("RateLimit"), ";r=") != 2 {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if n := g.remaining("each", "198.51.100.4"); n != 3 {
		t.Errorf("%d of its own remain, want 3", n)
	}
}

// remaining asks the admin API.
func (g *gateway) remaining(zone, key string) int64 {
	g.t.Helper()
	text := g.adminGet("/tentagate/ratelimit/" + zone + "/" + key)
	var states []struct {
		Tiers []struct{ Limits []struct{ Remaining int64 } }
	}
	if err := json.Unmarshal([]byte(text), &states); err != nil || len(states) == 0 {
		g.t.Fatalf("%s %s: %v %s", zone, key, err, text)
	}
	return states[0].Tiers[0].Limits[0].Remaining
}

func testAdmin(t *testing.T, g *gateway, store string) {
	if text := g.adminGet("/tentagate/ratelimit/"); !strings.Contains(text, `"zone": "rate"`) || !strings.Contains(text, "sliding_window, 3/1h") || !strings.Contains(text, "quota 2/month") {
		t.Errorf("%s", text)
	}
	if text := g.adminGet("/tentagate/ratelimit/rate"); !strings.Contains(text, "198.51.100.1") {
		t.Errorf("the top keys: %s", text)
	}
	if text := g.adminGet("/tentagate/ratelimit/rate/198.51.100.1"); !strings.Contains(text, `"remaining": 0`) || !strings.Contains(text, `"tat"`) || !strings.Contains(text, `"reset": 1`) {
		t.Errorf("%s", text)
	}
	limits := func(args ...string) (int, string) {
		return cli(t, nil, append(append([]string{"limits"}, args...), "--address", g.admin)...)
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "rate"},
		{[]string{"rate"}, 0, "198.51.100.1"},
		{[]string{"rate", "198.51.100.1"}, 0, "rate    " + store},
		{[]string{"rate", "198.51.100.1", "--json"}, 0, `"remaining": 0`},
		{[]string{"rate", "198.51.100.1", "--reset"}, 0, "cleared what"},
		{[]string{"rate", "203.0.113.77", "--reset"}, 1, "has no usage in zone"},
		{[]string{"nothing"}, 1, `no zone \"nothing\"`},
	} {
		if code, out := limits(tc.args...); code != tc.code || !strings.Contains(out, tc.want) && !strings.Contains(out, strings.ReplaceAll(tc.want, `\`, "")) {
			t.Errorf("limits %v: %d\n%s", tc.args, code, out)
		}
	}
	g.want(3, 4, "/rate", from("198.51.100.1")...)
	metrics := g.get("/metrics").body
	for _, line := range []string{
		`tentagate_ratelimit_decisions_total{outcome="limited",zone="rate"}`,
		`tentagate_ratelimit_decisions_total{outcome="shadow_limited",zone="shadow"}`,
		`tentagate_ratelimit_decisions_total{outcome="exempt",zone="exempt"}`,
		`tentagate_ratelimit_decisions_total{outcome="delayed",zone="delay"}`,
		`tentagate_ratelimit_sources_total{source="` + store + `",zone="rate"}`,
		`tentagate_ratelimit_evictions_total{`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %s", line)
		}
	}
	if store == "redis" {
		for _, line := range []string{
			`tentagate_ratelimit_store_duration_seconds_count{zone="rate"}`, "tentagate_ratelimit_batch_decisions_count",
			"tentagate_ratelimit_outage 0", "tentagate_ratelimit_round_trip_duration_seconds_count{", `tentagate_ratelimit_leases{zone="rate"} 0`,
		} {
			if !strings.Contains(metrics, line) {
				t.Errorf("no %s", line)
			}
		}
	}
	if strings.Contains(metrics, "198.51.100") {
		t.Error("a key is a label")
	}
}
