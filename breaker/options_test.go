package breaker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// The handlers of `open` answer in place of the backend, with any status.
func TestFallback(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker fallback {
		consecutive 1
		open {
			header X-From fallback
			respond "state {http.circuit_breaker.state}" 200
		}
	}
	reverse_proxy `+p.addr+`
}`)
	p.handle(withStatus(500))
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 500 || a.header.Get("X-From") != "" {
		t.Errorf("closed: %d %v", a.status, a.header)
	}
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 200 || a.body != "state open" || a.header.Get("X-From") != "fallback" {
		t.Errorf("open: %d %q %v", a.status, a.body, a.header)
	}
	if n := p.served.Load(); n != 1 {
		t.Errorf("%d requests reached the backend", n)
	}
}

// No more requests than max_inflight are under way; some wait, and the others
// are refused at once.
func TestMaxInflight(t *testing.T) {
	for _, tc := range []struct{ name, option string }{
		{"fixed", "max_inflight 2 queue 3 1h"},
		{"adaptive", "max_inflight adaptive min 2 max 2 queue 3 1h"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newFakeBackend(t)
			name := "in-flight-" + tc.name
			gateway := servertest.New(t, ":80 {\n\tcircuit_breaker "+name+" {\n\t\t"+tc.option+"\n\t}\n\treverse_proxy "+p.addr+"\n}")
			release := make(chan struct{})
			p.handle(func(http.ResponseWriter, *http.Request) { <-release })
			answers := make(chan answer, 20)
			for range 20 {
				go func() { answers <- fetch(t, http.MethodGet, gateway.URL, nil) }()
			}
			for range 15 {
				if a := <-answers; a.status != 503 || a.header.Get("Proxy-Status") != "tentagate; error=connection_limit_reached" || a.header.Get("Retry-After") != "1" {
					t.Errorf("%d %v", a.status, a.header)
				}
			}
			testkit.Eventually(t, "two requests", func() bool { return p.served.Load() == 2 })
			if s := stands(t, name); s.InFlight != 2 || s.Limit != 2 || s.State != "closed" {
				t.Errorf("%+v", s)
			}
			close(release)
			for range 5 {
				if a := <-answers; a.status != 200 {
					t.Errorf("of the queue: %d", a.status)
				}
			}
			testkit.Eventually(t, "all places free", func() bool { return stands(t, name).InFlight == 0 })
		})
	}
}

// Who waits in the queue is refused when its time is over.
func TestQueueTime(t *testing.T) {
	for _, option := range []string{"max_inflight 1 queue 1 1ms", "max_inflight adaptive min 1 max 1 queue 1 1ms"} {
		p := newFakeBackend(t)
		gateway := servertest.New(t, ":80 {\n\tcircuit_breaker "+strings.Fields(option)[1]+"-queue {\n\t\t"+option+"\n\t}\n\treverse_proxy "+p.addr+"\n}")
		release := make(chan struct{})
		p.handle(func(http.ResponseWriter, *http.Request) { <-release })
		first := make(chan answer, 1)
		go func() { first <- fetch(t, http.MethodGet, gateway.URL, nil) }()
		testkit.Eventually(t, "the first request", func() bool { return p.served.Load() == 1 })
		if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 503 || !strings.Contains(a.body, "none finished in time") {
			t.Errorf("%s: %d %s", option, a.status, a.body)
		}
		close(release)
		if a := <-first; a.status != 200 {
			t.Errorf("%s: %d", option, a.status)
		}
	}
}

// The Retry-After of the backend lengthens the open time, up to the maximum.
func TestHonoredRetryAfter(t *testing.T) {
	for asked, want := range map[string]string{"40": "40", "4000": "60", "1": "5", "soon": "5"} {
		p := newFakeBackend(t)
		gateway := servertest.New(t, `
:80 {
	circuit_breaker honored-`+asked+` {
		consecutive 1
		open_for 5s
		retry_after honor max 1m
	}
	reverse_proxy `+p.addr+`
}`)
		p.handle(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", asked)
			w.WriteHeader(503)
		})
		fetch(t, http.MethodGet, gateway.URL, nil)
		if a := fetch(t, http.MethodGet, gateway.URL, nil); a.header.Get("Retry-After") != want {
			t.Errorf("asked for %s: %q, want %s", asked, a.header.Get("Retry-After"), want)
		}
	}
}

// Operators force states, for all keys or one, for a time.
func TestForcedStates(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker forced {
		key {http.request.header.X-Key}
		consecutive 1
	}
	reverse_proxy `+p.addr+`
}`)
	ask := func(key string) int { return fetch(t, http.MethodGet, gateway.URL, nil, "X-Key", key).status }
	force := func(path, body string) {
		t.Helper()
		if code, _ := admin(t, http.MethodPost, "/forced"+path, body); code != 200 {
			t.Fatalf("%s %s: %d", path, body, code)
		}
	}
	ask("a")
	force("", `{"state":"open","for":"1m"}`)
	if ask("a") != 503 || ask("later") != 503 {
		t.Error("it lets requests through")
	}
	force("/a", `{"state":"auto"}`)
	if ask("a") != 200 || ask("later") != 503 {
		t.Error("two keys share a circuit")
	}
	testClock.Add(time.Minute)
	if ask("later") != 200 {
		t.Error("it does not end")
	}
	force("/a", `{"state":"closed"}`)
	p.handle(withStatus(500))
	for range 3 {
		if got := ask("a"); got != 500 {
			t.Errorf("forced closed: %d", got)
		}
	}
	for body, want := range map[string]int{
		"": 400, "{}": 400, `{"state":"ajar"}`: 400, `{"state":"open","for":"0s"}`: 400, `{"state":"open","for":"31d"}`: 400,
		`{"state":"open","to":1}`: 400, `{"state":"open"} {}`: 400, `{"state":"open","for":"` + strings.Repeat("1", 5000) + `"}`: 400,
	} {
		if code, _ := admin(t, http.MethodPost, "/forced", body); code != want {
			t.Errorf("%.40s: %d, want %d", body, code, want)
		}
	}
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "", 405},
		{http.MethodPost, "/", 400},
		{http.MethodPost, "/unheard-of", 404},
		{http.MethodGet, "/unheard-of", 404},
		{http.MethodGet, "/forced/unheard-of", 404},
		{http.MethodPost, "/forced/unheard-of", 404},
		{http.MethodPut, "/forced", 405},
		{http.MethodDelete, "/forced", 405},
		{http.MethodGet, "", 200},
	} {
		if code, _ := admin(t, tc.method, tc.path, `{"state":"open"}`); code != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, code, tc.want)
		}
	}
}

// The metrics have the states, the outcomes and the changes.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics.Register(reg, registry.Collectors()...)
	value := func(name string, labels ...string) float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() != "tentagate_circuit_breaker_"+name {
				continue
			}
			for _, m := range family.GetMetric() {
				text := m.String()
				has := strings.Contains(text, `"metered"`)
				for _, l := range labels {
					has = has && strings.Contains(text, `"`+l+`"`)
				}
				if has {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		return -1
	}
	h := mustLoad(t, "circuit_breaker metered {\n consecutive 2\n open_for 5s\n half_open 1\n}")
	ask(h, get(), status(200))
	ask(h, get(), status(500))
	if got := value("failure_ratio"); got != .5 {
		t.Errorf("failure ratio %v", got)
	}
	ask(h, get(), status(500))
	ask(h, get(), status(500))
	testClock.Add(3 * time.Second)
	if got := value("open_seconds_total"); got != 3 {
		t.Errorf("open for %v", got)
	}
	halfOpens(t, "metered", 2*time.Second)
	ask(h, get(), status(200))
	for want, got := range map[string][2]float64{
		"success":   {2, value("requests_total", "success")},
		"failure":   {2, value("requests_total", "failure")},
		"rejected":  {1, value("requests_total", "rejected")},
		"closed":    {1, value("state", "closed")},
		"open":      {0, value("state", "open")},
		"opened":    {1, value("transitions_total", "closed", "open")},
		"half_open": {1, value("transitions_total", "open", "half_open")},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", want, got[1], got[0])
		}
	}
}
