package integration

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/testkit"
)

// tracedGateway has each decision in the way of a request, and four ways to a service.
const tracedGateway = `{
	admin $ADMIN
	metrics
}
http://$ADDR {
	tracing
	log {
		format filter {
			user_id delete
		}
	}
	tentagate {
		service users $BACKEND
		service dead $DEAD
		service retried $DEAD $BACKEND
		service plain $BACKEND {
			transport http {
				direct off
			}
		}
		ratelimit 5/1h {
			key {header.X-Client}
		}
		circuit_breaker {
			consecutive 1
		}
		metrics any
	}
}
http://admins.test:$PORT {
	tracing
	log {
		format filter {
			user_id delete
		}
	}
	tentagate {
		service users $BACKEND
		jwt {
			scopes any admin
		}
	}
}
`

// traced is a gateway with tracing, its service and its collector.
type traced struct {
	*gateway
	collector *otlpReceiver

	mu    sync.Mutex
	asked map[string][]string // the values of traceparent that the service got, by path
}

func startTraced(t *testing.T, caddyfile string) *traced {
	t.Helper()
	tr := &traced{collector: newOTLPReceiver(t), asked: map[string][]string{}}
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.asked[r.URL.Path] = append(tr.asked[r.URL.Path], strings.Join(r.Header["Traceparent"], " and "))
		switch r.URL.Path {
		case "/stale": // it is stale when it comes
			w.Header().Set("Cache-Control", "max-age=100, stale-while-revalidate=60")
			w.Header().Set("Age", "100")
		case "/cached":
			w.Header().Set("Cache-Control", "max-age=60")
		default:
			w.Header().Set("Cache-Control", "no-store")
		}
	}))
	t.Cleanup(backend.Close)
	tr.gateway = start(t, strings.NewReplacer("$BACKEND", backend.URL, "$DEAD", "http://"+freeport.Addr(t)).Replace(caddyfile),
		append(tr.collector.environment(), "JWT_SECRET_KEY="+secret, "OTEL_TRACES_SAMPLER=parentbased_always_off",
			"OTEL_SERVICE_NAME=edge", "OTEL_RESOURCE_ATTRIBUTES=team=api")...)
	return tr
}

// ask sends a request that belongs to a trace, and returns the trace's id.
func (tr *traced) ask(path string, sampled bool, headers ...string) (string, answer) {
	tr.t.Helper()
	var random [24]byte
	_, _ = rand.Read(random[:])
	id, flags := hex.EncodeToString(random[:16]), "-00"
	if sampled {
		flags = "-01"
	}
	return id, tr.get(path, append(headers, "Traceparent", "00-"+id+"-"+hex.EncodeToString(random[16:])+flags)...)
}

// reached returns the traces of the requests for a path that the service got.
func (tr *traced) reached(path string) []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	ids := make([]string, len(tr.asked[path]))
	for i, field := range tr.asked[path] {
		if parts := strings.Split(field, "-"); len(parts) == 4 {
			ids[i] = parts[1]
		}
	}
	return ids
}

// A sampled request has a span that says what was decided, also where it was refused, and
// so does its line in the access log.
func TestDecisionsOfTraces(t *testing.T) {
	tr := startTraced(t, tracedGateway)
	const subject = "subject-of-the-traces"
	bearer := "Bearer " + token(t, subject)
	var ids []string
	for _, test := range []struct {
		name, path    string
		host          string // default: the gateway's address
		client, token string
		times         int // the last of them counts
		status        int
		span          map[string]string
		log           map[string]any
		stages        string
		upstream      bool
	}{
		{
			name: "answered by the service", path: "/api/users/cached", client: "a", token: bearer, times: 1, status: 200,
			span: map[string]string{
				"http.route": "/api/users", "tentagate.service": "users", "tentagate.auth": "ok", "tentagate.auth.provider": "main", "tentagate.ratelimit": "allowed",
				"tentagate.ratelimit.zone": "default", "tentagate.ratelimit.remaining": "4", "tentagate.cache": "miss", "tentagate.circuit_breaker": "closed",
			},
			log: map[string]any{
				"service": "users", "auth": "ok", "provider": "main", "user": "-", "ratelimit": "allowed", "ratelimit_zone": "default", "ratelimit_remaining": 4.0,
				"cache": "miss", "circuit_breaker": "closed",
			},
			stages: "auth cache guard limit response upstream", upstream: true,
		},
		{
			name: "answered by the cache", path: "/api/users/cached", client: "a", token: bearer, times: 1, status: 200,
			span:   map[string]string{"tentagate.auth": "ok", "tentagate.ratelimit.remaining": "3", "tentagate.cache": "hit", "tentagate.circuit_breaker": ""},
			log:    map[string]any{"service": "users", "cache": "hit", "ratelimit_remaining": 3.0, "circuit_breaker": nil},
			stages: "auth cache guard limit response",
		},
		{
			name: "stale", path: "/api/users/stale", client: "b", token: bearer, times: 2, status: 200,
			span: map[string]string{"tentagate.cache": "stale", "tentagate.ratelimit.remaining": "3"},
			log:  map[string]any{"cache": "stale"}, stages: "auth cache guard limit response",
		},
		{
			name: "without a token", path: "/api/users/x", client: "c", times: 1, status: 401,
			span:   map[string]string{"http.route": "/api/users", "tentagate.service": "users", "tentagate.auth": "missing", "tentagate.ratelimit.zone": "addresses", "tentagate.cache": "", "tentagate.circuit_breaker": ""},
			log:    map[string]any{"service": "users", "auth": "missing", "provider": nil, "user": nil, "cache": nil},
			stages: "auth guard limit response",
		},
		{
			name: "with a bad token", path: "/api/users/x", client: "c", token: bearer + "x", times: 1, status: 401,
			span: map[string]string{"tentagate.auth": "signature", "tentagate.auth.provider": "main"},
			log:  map[string]any{"auth": "signature", "provider": "main", "user": nil}, stages: "auth guard limit response",
		},
		{
			name: "without the scope", path: "/api/users/x", host: "admins.test", client: "c", token: bearer, times: 1, status: 403,
			span: map[string]string{"tentagate.auth": "insufficient_scope", "tentagate.auth.provider": "main"},
			log:  map[string]any{"auth": "insufficient_scope", "provider": "main", "user": "-", "cache": nil}, stages: "auth guard limit response",
		},
		{
			name: "over the limit", path: "/api/users/x", client: "d", token: bearer, times: 6, status: 429,
			span:   map[string]string{"tentagate.auth": "ok", "tentagate.ratelimit": "limited", "tentagate.ratelimit.zone": "default", "tentagate.ratelimit.remaining": "0", "tentagate.circuit_breaker": ""},
			log:    map[string]any{"auth": "ok", "user": "-", "ratelimit": "limited", "ratelimit_zone": "default", "ratelimit_remaining": 0.0, "cache": nil, "circuit_breaker": nil},
			stages: "auth guard limit response",
		},
		{
			name: "an open circuit", path: "/api/dead/x", client: "e", token: bearer, times: 2, status: 503,
			span:   map[string]string{"tentagate.service": "dead", "tentagate.auth": "ok", "tentagate.ratelimit": "allowed", "tentagate.cache": "miss", "tentagate.circuit_breaker": "open"},
			log:    map[string]any{"service": "dead", "auth": "ok", "ratelimit": "allowed", "cache": "miss", "circuit_breaker": "open"},
			stages: "auth cache guard limit response upstream",
		},
		{
			name: "no service", path: "/api/nobody/x", client: "f", token: bearer, times: 1, status: 404,
			span: map[string]string{"http.route": "", "tentagate.service": "_other", "tentagate.auth": "ok", "tentagate.circuit_breaker": ""},
			log:  map[string]any{"service": "_other", "auth": "ok"}, stages: "auth cache guard limit response",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			headers := []string{"X-Client", test.client}
			if test.token != "" {
				headers = append(headers, "Authorization", test.token)
			}
			if test.host != "" {
				headers = append(headers, "Host", test.host)
			}
			var id string
			var got answer
			for range test.times {
				id, got = tr.ask(test.path, true, headers...)
			}
			ids = append(ids, id)
			if got.status != test.status {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if test.status >= 400 {
				if p := problemOf(t, got); p["trace_id"] != id || p["request_id"] != got.header.Get("X-Request-Id") {
					t.Errorf("want the ids of the trace %s and the request in the problem: %s", id, got.body)
				}
			}
			testkit.Eventually(t, "the span", func() bool { return tr.collector.span(id) != nil })
			span := tr.collector.span(id)
			attributes := attributesOf(span.GetAttributes())
			name := strings.TrimSpace("GET " + attributes["http.route"])
			if span.GetName() != name {
				t.Errorf("the span is named %q, want %q", span.GetName(), name)
			}
			test.span["tentagate.request_id"] = got.header.Get("X-Request-Id")
			for key, want := range test.span {
				if attributes[key] != want {
					t.Errorf("attribute %s is %q, want %q", key, attributes[key], want)
				}
			}
			line := tr.line(t, id)
			test.log["request_id"], test.log["status"] = got.header.Get("X-Request-Id"), float64(test.status)
			for key, want := range test.log {
				if want == "-" && line[key] != nil {
					continue // any value
				}
				if line[key] != want {
					t.Errorf("the access log has %s=%v, want %v", key, line[key], want)
				}
			}
			stages, _ := line["stages"].(map[string]any)
			delete(stages, "other")
			if reached := strings.Join(slices.Sorted(maps.Keys(stages)), " "); reached != test.stages {
				t.Errorf("the stages in the access log are %s, want %s", reached, test.stages)
			}
			if upstream, _ := line["upstream"].(string); (upstream != "") != test.upstream {
				t.Errorf("the upstream in the access log is %q", upstream)
			}
		})
	}
	if strings.Contains(tr.log.String(), subject) || strings.Contains(tr.log.String(), bearer[7:]) {
		t.Error("the log has the user or the token")
	}
	if got := tr.collector.resource; got["service.name"] != "edge" || got["team"] != "api" {
		t.Errorf("resource %v, want that of the environment", got)
	}
	tr.checkExemplars(t, ids)
}

// line returns the line of the access log of a trace.
func (tr *traced) line(t *testing.T, id string) map[string]any {
	t.Helper()
	var line map[string]any
	testkit.Eventually(t, "the line in the access log", func() bool {
		for text := range strings.Lines(tr.log.String()) {
			if strings.Contains(text, `"traceID":"`+id) && strings.Contains(text, `"msg":"handled request"`) {
				return json.Unmarshal([]byte(text), &line) == nil
			}
		}
		return false
	})
	return line
}

// checkExemplars checks that sampled requests alone leave exemplars, which OpenMetrics alone
// has.
func (tr *traced) checkExemplars(t *testing.T, sampled []string) {
	t.Helper()
	var others []string
	for range 3 {
		id, _ := tr.ask("/api/users/x", false)
		others = append(others, id)
	}
	text := tr.get("/metrics").body
	if strings.Contains(text, "trace_id") {
		t.Error("the text format has exemplars")
	}
	open := tr.get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0").body
	found := 0
	for line := range strings.Lines(open) {
		_, exemplar, ok := strings.Cut(line, ` # {trace_id="`)
		if !ok {
			continue
		}
		found++
		if id, _, _ := strings.Cut(exemplar, `"`); !strings.HasPrefix(line, "tentagate_request_duration_seconds_bucket{") || slices.Contains(others, id) || tr.collector.span(id) == nil {
			t.Errorf("an exemplar of no sampled request: %s", line)
		}
	}
	if found == 0 || !slices.ContainsFunc(sampled, func(id string) bool { return strings.Contains(open, id) }) {
		t.Errorf("OpenMetrics has %d exemplars, none of a request that was sampled", found)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tr.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); strings.Contains(ct, "openmetrics") {
		t.Errorf("the admin endpoint serves %s: docs/metrics.md says that it does not", ct)
	}
}

// The trace goes on to the service, on whatever way a request is sent there.
func TestTraceReachesTheService(t *testing.T) {
	tr := startTraced(t, tracedGateway)
	bearer := "Bearer " + token(t, "ann")
	ask := func(path string) string {
		t.Helper()
		id, got := tr.ask(path, true, "Authorization", bearer, "X-Client", rand.Text())
		if got.status != 200 {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		return id
	}
	check := func(path string, want ...string) {
		t.Helper()
		if got := tr.reached(path); !slices.Equal(got, want) {
			t.Errorf("%s: the service got the traces %v, want %v", path, got, want)
		}
	}
	first := ask("/api/users/cached") // a miss
	ask("/api/users/cached")
	check("/cached", first)
	check("/own", ask("/api/users/own"))     // by the gateway's HTTP client
	check("/plain", ask("/api/plain/plain")) // by Go's

	begun := ask("/api/users/stale")
	again := ask("/api/users/stale") // has it refreshed in the background
	testkit.Eventually(t, "the refresh", func() bool { return len(tr.reached("/stale")) == 2 })
	check("/stale", begun, again)

	var retried []string
	for range 4 { // half of them are for the dead address first
		retried = append(retried, ask("/api/retried/x"))
	}
	check("/x", retried...)
	const failures = `tentagate_circuit_breaker_requests_total{name="retried",outcome="failure",scope="upstream"} `
	if _, n, ok := strings.Cut(tr.get("/metrics").body, failures); !ok || strings.HasPrefix(n, "0") {
		t.Error("no request was retried")
	}

	// A client that sends no trace, or what is none, gets one of the gateway's.
	for _, field := range []string{"", "00-zz-1-01", `00-","x":"-0000000000000001-01`} {
		got := tr.get("/api/users/x", "Traceparent", field)
		p := problemOf(t, got)
		id, _ := p["trace_id"].(string)
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 || strings.Contains(got.body, "zz") {
			t.Errorf("traceparent %q: %s", field, got.body)
		}
	}
}
