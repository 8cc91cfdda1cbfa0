package past

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/stage"
)

var began = time.Unix(1_800_000_000, 0)

func request(id string, status int) *Request {
	r := &Request{ID: id, Method: "GET", Host: "api.example.com", Path: "/api/users/1", Client: "203.0.113.7", Status: status, Remaining: -1, Began: began}
	for i := range r.Stages {
		r.Stages[i] = -1
	}
	return r
}

// A flood of one class leaves the requests of the others.
func TestClassesAreKeptApart(t *testing.T) {
	s := newStore(began)
	slowOne, upgraded := request("slow", 200), request("upgraded", 101)
	slowOne.Took, upgraded.Took = slowAfter, time.Hour
	for _, r := range []*Request{request("good", 200), request("refused", 403), request("failed", 503), slowOne} {
		s.add(r)
	}
	for i := range sizes[other] {
		if i%2 == 0 {
			s.add(request(fmt.Sprint("flood-", i), 200))
		} else {
			s.add(upgraded)
		}
	}
	for i := range sizes[refused] - 1 {
		s.add(request(fmt.Sprint("scan-", i), 404))
	}
	for id, want := range map[string]int{"good": 0, "refused": 1, "failed": 1, "slow": 1, "upgraded": sizes[other] / 2, "flood-0": 1, "unknown": 0} {
		if got := len(s.find(id)); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
	s.add(request("one more", 404))
	if len(s.find("refused")) != 0 {
		t.Error("more requests are kept than there is room for")
	}
	n := uintptr(0)
	for i := range s.rings {
		n += uintptr(len(s.rings[i].slots)) * reflect.TypeFor[slot]().Size()
	}
	if n > 4<<20 {
		t.Errorf("%d bytes, the documentation says at most 4 MiB", n)
	}
}

func TestFailures(t *testing.T) {
	s := newStore(began)
	for i, r := range []*Request{request("old", 500), request("first", 500), request("refused", 403), request("latest", 502)} {
		r.Service, r.Route, r.Took = "users", "/a", time.Duration(i)*time.Second
		s.add(r)
	}
	want := []Failure{{"latest", "users", "/a", 502, began.Add(3 * time.Second)}, {"first", "users", "/a", 500, began.Add(time.Second)}}
	if got := s.failures(began); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What is kept of a request is bounded, shares no memory with it, and can be shown in a
// terminal.
func TestTextsAreCopied(t *testing.T) {
	s := newStore(began)
	long := strings.Repeat("x", 1<<16)
	r := request("", 200)
	r.ID, r.Method, r.Host, r.Path, r.Client, r.Detail, r.Upstream = long, long, long, long, long, long, long
	s.add(r)
	found := s.find(long[:maxID])
	if len(found) != 1 {
		t.Fatalf("%d requests", len(found))
	}
	got := found[0]
	if len(got.Method) != maxMethod || len(got.Host) != maxHost || len(got.Path) != maxPath || len(got.Client) != maxClient ||
		len(got.Detail) != maxDetail || len(got.Upstream) != maxUpstream {
		t.Errorf("%+v", got)
	}
	if p := got.describe(); !strings.HasSuffix(p.Path, "x…") {
		t.Errorf("a path that is cut ends with %q", p.Path[len(p.Path)-5:])
	}
	for _, tc := range []struct {
		path    string
		decoded bool
		want    string
	}{
		{"/a b?\x1b[31m\u202e\xff", true, "/a%20b%3F%1B%5B31m%E2%80%AE%FF"},
		{"/a%2Fb\u202e", false, "/a%2Fb%E2%80%AE"},
		{"/plain", true, "/plain"},
		{"*", true, "*"},
	} {
		r := &Request{Path: tc.path, Decoded: tc.decoded}
		if got := r.path(); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.path, got, tc.want)
		}
	}
}

func TestKeepDoesNotAllocate(t *testing.T) {
	s := newStore(began)
	if n := testing.AllocsPerRun(100, func() { s.add(request("id", 200)) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	s := newStore(began)
	r := request("019a1b2c-3d4e-7f60-8a9b-0c1d2e3f4a5b", 200)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.add(r)
		}
	})
}

// What is read while others write is whole.
func TestConcurrent(t *testing.T) {
	s := newStore(began)
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			text := strings.Repeat(fmt.Sprint(i), 10*(i+1))
			for range 2000 {
				r := request("shared", 500)
				r.Host, r.Path = text, text
				s.add(r)
			}
		})
	}
	written := make(chan struct{})
	go func() {
		wait.Wait()
		close(written)
	}()
	found := 0
	for ended := false; !ended; {
		select {
		case <-written:
			ended = true // and once more
		default:
		}
		for _, r := range s.find("shared") {
			found++
			if r.Host != r.Path || r.Client != "203.0.113.7" {
				t.Errorf("mixed: %+v", r)
			}
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}

func TestSteps(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *Request)
		want   string // handler result reason, of each step
	}{
		"forwarded": {func(r *Request) {
			r.Service, r.Route, r.CORS, r.Auth, r.Provider, r.User = "users", "/items/{id}", "refused", "ok", "main", [8]byte{1}
			r.Limit, r.Zone, r.Remaining, r.Cache, r.CacheReason, r.Circuit, r.Upstream = "allowed", "default", 3, "miss", "uri-miss", "closed", "users:80"
			r.Stages[stage.Guard] = time.Millisecond
		}, "forwarded: telemetry passes the service is users, the route is /items/{id}; guard passes the request is well-formed; " +
			"cors passes the origin is not allowed: no page can read the response; jwt_auth passes the token of the provider main is accepted, user 0100000000000000; " +
			"ratelimit passes zone default: allowed, 3 left; http_cache passes miss: nothing is stored for the URL; " +
			"circuit_breaker passes the circuit is closed; reverse_proxy asks users:80"},
		"the service's own error": {func(r *Request) { r.Status, r.Upstream = 500, "users:80" }, "forwarded: reverse_proxy asks users:80"},
		"no token": {func(r *Request) {
			r.Status, r.Auth, r.Detail = 401, "missing", "a bearer token is required"
		}, "refused: jwt_auth refuses missing: a bearer token is required"},
		"no token, within the limit of its address": {func(r *Request) {
			r.Status, r.Auth, r.Detail, r.Limit, r.Zone, r.Remaining = 401, "missing", "a bearer token is required", "allowed", "addresses", 99
		}, "refused: ratelimit passes zone addresses: allowed, 99 left; jwt_auth refuses missing: a bearer token is required"},
		"limited": {func(r *Request) {
			r.Status, r.Auth, r.Limit, r.Zone, r.Remaining, r.Detail = 429, "anonymous", "limited", "default", 0, "too many requests"
		}, "refused: jwt_auth passes the request has no token, and needs none; ratelimit refuses zone default: limited, 0 left: too many requests"},
		"malformed": {func(r *Request) {
			r.Status, r.Detail, r.ByGuard, r.Stages[stage.Guard] = 400, "the path is ambiguous", true, 1
		}, "refused: guard refuses the path is ambiguous"},
		"open": {func(r *Request) {
			r.Status, r.Circuit, r.ByCircuit, r.Detail = 503, "open", true, "users is unavailable"
		}, "refused: circuit_breaker refuses the circuit is open: users is unavailable"},
		"open, with a fallback": {func(r *Request) { r.Circuit, r.ByCircuit = "open", true }, "answered: circuit_breaker answers the circuit is open"},
		"open, but a stale response": {func(r *Request) {
			r.Circuit, r.ByCircuit, r.Detail, r.Cache = "open", true, "users is unavailable", "stale"
		}, "answered: http_cache answers stale; circuit_breaker answers the circuit is open"},
		"unreachable": {func(r *Request) {
			r.Status, r.Circuit, r.Upstream, r.Detail, r.ErrorLogged = 502, "closed", "users:80", "no answer", true
		}, "refused: circuit_breaker passes the circuit is closed; reverse_proxy asks users:80; gateway refuses no answer; the error log has the cause, with this request_id"},
		"a 5xx that is not logged": {func(r *Request) { r.Status, r.Detail = 503, "no store" }, "refused: gateway refuses no store"},
		"a token without the scope": {func(r *Request) {
			r.Status, r.Auth, r.Provider, r.User, r.Detail = 403, "scope", "main", [8]byte{1}, "a scope is missing"
		}, "refused: jwt_auth refuses scope (provider main, user 0100000000000000): a scope is missing"},
		"a token of nobody known": {func(r *Request) {
			r.Status, r.Auth, r.Provider, r.Detail = 401, "expired", "main", "the token has expired"
		}, "refused: jwt_auth refuses expired (provider main): the token has expired"},
		"the client left": {func(r *Request) {
			r.Status, r.Upstream, r.ClientClosed = 499, "users:80", true
		}, "client_closed: reverse_proxy asks users:80"},
		"the client left while dialing": {func(r *Request) {
			r.Status, r.Upstream, r.ClientClosed, r.Detail = 499, "users:80", true, "no answer"
		}, "client_closed: reverse_proxy asks users:80"},
		"the client left within the response": {func(r *Request) {
			r.Upstream, r.ClientClosed, r.Aborted = "users:80", true, true
		}, "client_closed: reverse_proxy asks users:80"},
		"the service's own 499": {func(r *Request) { r.Status, r.Upstream = 499, "users:80" }, "forwarded: reverse_proxy asks users:80"},
		"a response that breaks off": {func(r *Request) {
			r.Upstream, r.Aborted = "users:80", true
		}, "aborted: reverse_proxy asks users:80; gateway stops the request was aborted: a handler panicked, or the response of the service broke off"},
		"a panic": {func(r *Request) {
			r.Status, r.Aborted = 500, true
		}, "aborted: gateway stops the request was aborted: a handler panicked, or the response of the service broke off"},
		"no service":         {func(r *Request) { r.Service, r.Route = "_other", "_other" }, "answered: telemetry passes it is for none of the services, the route is not known"},
		"an escape sequence": {func(r *Request) { r.Status, r.Detail = 404, "no \x1b[31m" }, "refused: gateway refuses no \ufffd[31m"},
		"a preflight":        {func(r *Request) { r.Status, r.CORS = 204, "preflight_allowed" }, "answered: cors answers preflight: the origin is allowed"},
	} {
		r := request("id", 200)
		tc.change(r)
		p := r.describe()
		var steps []string
		for _, s := range p.Steps {
			steps = append(steps, s.Handler+" "+string(s.Result)+" "+s.Reason)
		}
		if got := string(p.Outcome) + ": " + strings.Join(steps, "; "); got != tc.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, tc.want)
		}
	}
}

// What the client got is said only where it got a whole response.
func TestOutcomes(t *testing.T) {
	for want, change := range map[string]func(r *Request){
		"the client closed the request after 2000.000 ms ()":                          func(r *Request) { r.Status, r.ClientClosed = 499, true },
		"the request was aborted after 2000.000 ms ()":                                func(r *Request) { r.Aborted = true },
		"answered by the service: the client got 499 after 2000.000 ms ()":            func(r *Request) { r.Status, r.Upstream = 499, "users:80" },
		"answered by the gateway: the client got 204 No Content after 2000.000 ms ()": func(r *Request) { r.Status = 204 },
	} {
		r := request("id", 200)
		r.Took = 2 * time.Second
		change(r)
		p := r.describe()
		var b strings.Builder
		p.show(&b)
		if got := b.String(); !strings.HasSuffix(got, "\n"+want+"\n") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The endpoint answers with all requests that have an id, the newest first.
func TestEndpoint(t *testing.T) {
	ask := func(path string) (status int, body string) {
		w := httptest.NewRecorder()
		admin.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if status, body := ask(uri + "x"); status != 404 || !strings.Contains(body, "no `telemetry`") {
		t.Errorf("before: %d %s", status, body)
	}
	Start()
	Start() // as at a reload
	t.Cleanup(func() { kept.Store(nil) })
	for i := range maxAnswer + 2 {
		r := request("again", 200)
		r.Began = began.Add(time.Duration(i) * time.Second)
		r.Stages[stage.Upstream] = 2 * time.Millisecond
		Keep(r)
	}
	Start()
	Keep(request("", 200))
	status, body := ask(uri + "again")
	var a Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 || len(a.Requests) != maxAnswer || a.More != 2 {
		t.Fatalf("%d %v: %s", status, err, body)
	}
	if newest := a.Requests[0]; newest.Time.Sub(began) != (maxAnswer+1)*time.Second || newest.Stages["upstream"] != 0.002 || len(newest.Stages) != 1 {
		t.Errorf("%+v", newest)
	}
	var b strings.Builder
	if err := show(&b, a); err != nil || !strings.Contains(b.String(), "answered by the gateway: the client got 200 OK after 0.000 ms (upstream 2.000 ms)") ||
		!strings.Contains(b.String(), "22 requests have this id; the newest is the first, and 2 older ones are left out") {
		t.Errorf("%v: %s", err, b.String())
	}
	for path, want := range map[string]int{"other": 404, "": 400, "a%20b": 400, "a/b": 400, strings.Repeat("x", 129): 400} {
		if status, body := ask(uri + path); status != want || want == 404 && !strings.Contains(body, "several replicas") {
			t.Errorf("%.20s: %d %s", path, status, body)
		}
	}
}
