package dashboard_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/pythopus/tentagate/breaker"
	_ "github.com/pythopus/tentagate/dashboard"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/servertest"
)

// site has the dashboard in front of a service with a circuit breaker.
func site(options string) string {
	return ":80 {\n\troute {\n\t\tdashboard {\n" + options + "\n\t\t}\n\t\tcircuit_breaker dashboard-test\n\t\trespond behind 200\n\t}\n}\n"
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) detail() string {
	var problem struct{ Detail string }
	_ = json.Unmarshal([]byte(a.body), &problem)
	return problem.Detail
}

func ask(t testing.TB, handler http.Handler, method, target, body string, fields ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func TestPage(t *testing.T) {
	handler := servertest.Handler(t, site(""))
	a := ask(t, handler, "GET", "http://g/dashboard/", "")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, `data-events="events" data-actions="false"`) {
		t.Fatalf("%d %v %.300s", a.status, a.header, a.body)
	}
	policy := a.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'sha256-") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "require-trusted-types-for 'script'") {
		t.Errorf("policy %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-cache", "Referrer-Policy": "same-origin"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if found := regexp.MustCompile(`(?i)https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|{{[a-z]`).FindAllString(strings.ReplaceAll(a.body, "http://www.w3.org/2000/svg", ""), -1); found != nil {
		t.Errorf("in the page: %q", found)
	}
	if n := strings.Count(a.body, "</script"); n != 1 {
		t.Errorf("%d ends of scripts", n)
	}
	z := ask(t, handler, "GET", "http://g/dashboard/", "", "Accept-Encoding", "gzip")
	text, err := gzip.NewReader(strings.NewReader(z.body))
	if err != nil {
		t.Fatal(err)
	}
	if plain, _ := io.ReadAll(text); string(plain) != a.body || len(z.body) > 20_000 {
		t.Errorf("%d bytes compressed, of another page or too many", len(z.body))
	}
	if b := ask(t, handler, "GET", "http://g/dashboard/", "", "If-None-Match", a.header.Get("Etag")); b.status != 304 || b.body != "" {
		t.Errorf("unchanged: %d", b.status)
	}
}

func TestPaths(t *testing.T) {
	plain, root := servertest.Handler(t, site("")), servertest.Handler(t, site("path /\nactions"))
	for _, tc := range []struct {
		handler         http.Handler
		method, path    string
		status          int
		location, allow string
	}{
		{plain, "GET", "/dashboard", 308, "dashboard/", ""},
		{plain, "HEAD", "/dashboard/", 200, "", ""},
		{plain, "HEAD", "/dashboard/events", 200, "", ""},
		{plain, "POST", "/dashboard/", 405, "", "GET, HEAD"},
		{plain, "PUT", "/dashboard", 405, "", "GET, HEAD"},
		{plain, "DELETE", "/dashboard/events", 405, "", "GET, HEAD"},
		{root, "HEAD", "/", 200, "", ""},
		{root, "GET", "/breakers/dashboard-test", 405, "", "POST"},
	} {
		a := ask(t, tc.handler, tc.method, "http://g"+tc.path, "")
		if a.status != tc.status || a.header.Get("Location") != tc.location || a.header.Get("Allow") != tc.allow || a.body == "behind" {
			t.Errorf("%s %s: %d %v %s", tc.method, tc.path, a.status, a.header, a.body)
		}
	}
	// What is not the dashboard's passes, as do actions that are off.
	for _, path := range []string{"/", "/dashboardx", "/dashboard/other", "/dashboard/breakers/dashboard-test"} {
		if a := ask(t, plain, "POST", "http://g"+path, "{}"); a.body != "behind" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// A page of another origin cannot force a state, whatever credentials the browser has.
func TestActions(t *testing.T) {
	handler := servertest.Handler(t, site("actions"))
	state := func() string {
		var list []struct{ State string }
		text, err := admin.Get("/tentagate/breakers")
		if err != nil || json.Unmarshal(text, &list) != nil || len(list) == 0 {
			t.Fatalf("%v %s", err, text)
		}
		return list[0].State
	}
	ask(t, handler, "GET", "http://g/x", "") // makes the circuit
	const path, open = "http://g/dashboard/breakers/dashboard-test?scope=service", `{"state":"open"}`
	for _, tc := range []struct {
		detail string
		fields []string
	}{
		{"another origin", []string{"Origin", "https://evil.example", "X-Tentagate-Dashboard", "1"}},
		{"another origin", []string{"Origin", "null", "X-Tentagate-Dashboard", "1"}},
		{"another origin", []string{"Sec-Fetch-Site", "cross-site", "X-Tentagate-Dashboard", "1"}},
		{"another origin", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://g", "X-Tentagate-Dashboard", "1"}},
		{"X-Tentagate-Dashboard is missing", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://g"}},
		{"X-Tentagate-Dashboard is missing", nil},
	} {
		if a := ask(t, handler, "POST", path, open, tc.fields...); a.status != 403 || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.detail(), tc.detail) {
			t.Errorf("%v: %d %s, want 403 with %q", tc.fields, a.status, a.body, tc.detail)
		}
	}
	own := []string{"Origin", "http://g", "X-Tentagate-Dashboard", "1"}
	for target, status := range map[string]int{
		"http://g/dashboard/breakers/other":                  404,
		"http://g/dashboard/breakers/":                       400,
		"http://g/dashboard/breakers/..%2fcache%2fpurge":     404,
		"http://g/dashboard/breakers/%2e%2e/ratelimit/x/key": 404,
		"http://g/d%61shboard/breakers/dashboard-test":       400,
	} {
		if a := ask(t, handler, "POST", target, open, own...); a.status != status {
			t.Errorf("%s: %d %s, want %d", target, a.status, a.body, status)
		}
	}
	if a := ask(t, handler, "POST", path, `{"state":"ajar"}`, own...); a.status != 400 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if state() != "closed" {
		t.Fatalf("a request that was refused changed the state to %s", state())
	}
	if a := ask(t, handler, "POST", path, open, own...); a.status != 200 || state() != "open" {
		t.Errorf("%d %s: the state is %s", a.status, a.body, state())
	}
	if a := ask(t, handler, "POST", path, `{"state":"auto"}`, "Sec-Fetch-Site", "same-origin", "X-Tentagate-Dashboard", "1"); a.status != 200 || state() != "closed" {
		t.Errorf("%d %s: the state is %s", a.status, a.body, state())
	}
}

// watch opens a stream, and returns its answer.
func watch(t testing.TB, ctx context.Context, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// The 17th stream is refused, over all dashboards of the process, and at handlers the 5th of a
// client.
func TestStreams(t *testing.T) {
	server := servertest.New(t, site(""))
	adminServer := httptest.NewServer(admin.Handler())
	defer adminServer.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var first *http.Response
	for i := range 16 {
		url := server.URL + "/dashboard/events"
		if i == 4 {
			if resp := watch(t, ctx, url); resp.StatusCode != 503 {
				t.Fatalf("the 5th stream of a client: %d", resp.StatusCode)
			}
		}
		if i >= 4 {
			url = adminServer.URL + "/tentagate/dashboard/events"
		}
		resp := watch(t, ctx, url)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store, no-transform" {
			t.Fatalf("stream %d: %d %v", i, resp.StatusCode, resp.Header)
		}
		if first == nil {
			first = resp
		}
	}
	for _, url := range []string{server.URL + "/dashboard/events", adminServer.URL + "/tentagate/dashboard/events"} {
		resp := watch(t, t.Context(), url)
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "10" || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	line, err := bufio.NewReader(first.Body).ReadString('\n')
	var event struct {
		Services []any
		Status   map[string]any
	}
	text, ok := strings.CutPrefix(line, "data: ")
	if err != nil || !ok || json.Unmarshal([]byte(text), &event) != nil || event.Services == nil || event.Status["breakers"] == nil || event.Status["process"] == nil {
		t.Errorf("%v: %s", err, line)
	}
}

// A stream does not hold up the shutdown of its admin server.
func TestShutdownOfAdmin(t *testing.T) {
	server := httptest.NewServer(admin.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp := watch(t, ctx, server.URL+"/tentagate/dashboard/events")
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
}

func TestAdminPage(t *testing.T) {
	a := ask(t, admin.Handler(), "GET", "http://g/tentagate/", "")
	if a.status != 200 || !strings.Contains(a.body, `data-events="dashboard/events" data-actions="true"`) || a.header.Get("Content-Security-Policy") == "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a = ask(t, admin.Handler(), "POST", "http://g/tentagate/", ""); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a = ask(t, admin.Handler(), "GET", "http://g/tentagate/other", ""); a.status != 404 {
		t.Errorf("%d", a.status)
	}
}

func TestBadOptions(t *testing.T) {
	for options, want := range map[string]string{
		"path dashboard":     "path: \"dashboard\" is not a path: it begins with a slash",
		"path /dashboard/":   "ends with a slash: write it without",
		"path /d*":           "is not a plain path",
		"path":               "path:",
		"actions on":         "actions",
		"action":             "actions",
		"path /a\npath /b":   "path",
		"actions\nactions\n": "actions",
	} {
		if _, err := servertest.Load(t, site(options)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", options, err, want)
		}
	}
}
