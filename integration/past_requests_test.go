package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

const pastConf = `{
	admin $ADMIN
	auto_https off
	servers {
		protocols h1 h2c
	}
}
http://$ADDR {
	tentagate {
		service users $SERVICE
		service down $SERVICE
		jwt {
			secret a-past-secret-that-is-long-enough-for-hs256
		}
		public /api/users/public* /api/down*
		cors https://app.example.com
		ratelimit 100000/1h
		limits {
			refusals off
		}
		cache 60s
	}
}
`

// pastRequest is a part of what the admin API says of a request.
type pastRequest struct {
	explained
	Method, Host, Path, Protocol, Service, Route, Detail string
	Stages                                               map[string]float64
}

// What was decided about a request is found by its id, of every kind of request, and over a
// reload.
func TestPastRequests(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi.json" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"openapi":"3.0.3","info":{"title":"U","version":"1"},"paths":{"/items/{id}":{"get":{"responses":{"200":{"description":"ok"}}}}}}`)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(service.Close)
	conf := strings.ReplaceAll(pastConf, "$SERVICE", service.URL)
	g := start(t, conf)
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &h2c}
	t.Cleanup(transport.CloseIdleConnections)
	clients := map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2.0": {Transport: transport}}

	ask := func(protocol, method, path string, fields ...string) (id string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, g.url(path), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		resp, err := clients[protocol].Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Header.Get("X-Request-Id")
	}
	// A request is there once its handlers have returned, which may be after its response.
	find := func(id string) (found []pastRequest) {
		t.Helper()
		testkit.Eventually(t, "the request "+id, func() bool {
			var answer struct{ Requests []pastRequest }
			text := g.adminGet("/tentagate/requests/" + id)
			if strings.Contains(text, "s3cret") {
				t.Fatalf("a secret is shown: %s", text)
			}
			found = nil
			if err := json.Unmarshal([]byte(text), &answer); err == nil {
				found = answer.Requests
			}
			return len(found) > 0
		})
		return found
	}

	if code, out := cli(t, nil, "breakers", "open", "down", "--for", "10m", "--address", g.admin); code != 0 {
		t.Fatal(out)
	}
	var last string
	for protocol := range clients {
		for _, tc := range []struct {
			name, method, path string
			fields             []string
			outcome            string
			status             int
			handler, says      string
		}{
			{"no token", "GET", "/api/users/1?key=s3cret", []string{"Cookie", "a=s3cret"}, "refused", 401, "jwt_auth", "missing: "},
			{"a malformed token", "GET", "/api/users/1", []string{"Authorization", "Bearer s3cret"}, "refused", 401, "jwt_auth", "malformed"},
			{"an ambiguous path", "GET", "/api/users/a%2fx", nil, "refused", 400, "guard", "encoded slash"},
			{"an unknown service", "GET", "/nothing", nil, "refused", 404, "gateway", "nothing at this path"},
			{"forwarded", "GET", "/api/users/public/" + protocol[5:], []string{"Origin", "https://app.example.com"}, "forwarded", 200, "http_cache", "miss: nothing is stored"},
			{"the limit", "GET", "/api/users/public/" + protocol[5:], []string{"Origin", "https://evil.example"}, "answered", 200, "cors", "not allowed"},
			{"cached", "GET", "/api/users/public/" + protocol[5:], []string{"Origin", "https://app.example.com"}, "answered", 200, "http_cache", "hit"},
			{"a bypass", "GET", "/api/users/public/x", []string{"Cache-Control", "no-store"}, "forwarded", 200, "http_cache", "bypass: request-no-store"},
			{"an open circuit", "GET", "/api/down/1", nil, "refused", 503, "circuit_breaker", "the circuit is open: the service down"},
			{"a preflight", "OPTIONS", "/api/users/1", []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "GET"}, "answered", 204, "cors", "preflight: the origin is allowed"},
		} {
			id := ask(protocol, tc.method, tc.path, tc.fields...)
			r := find(id)[0]
			path, _, _ := strings.Cut(tc.path, "?")
			if s := r.step(tc.handler); r.Outcome != tc.outcome || r.Status != tc.status || !strings.Contains(s.Reason, tc.says) ||
				r.Method != tc.method || r.Path != path || r.Protocol != protocol || r.Host != g.addr || len(r.Stages) == 0 {
				t.Errorf("%s by %s: %+v", tc.name, protocol, r)
			}
			last = id
		}
	}
	id := ask("HTTP/1.1", "GET", "/api/users/public/limit")
	if s := find(id)[0].step("ratelimit"); s.Result != "passes" || !strings.Contains(s.Reason, "zone default: allowed, ") {
		t.Errorf("the limit: %+v", s)
	}

	t.Run("an id of the client's, and a reload", func(t *testing.T) {
		ask("HTTP/1.1", "GET", "/api/users/public/a", "X-Request-Id", "chosen")
		find("chosen")
		if err := g.reload(strings.ReplaceAll(conf, "60s", "61s")); err != nil {
			t.Fatal(err)
		}
		find(last)
		ask("HTTP/1.1", "GET", "/api/users/public/b", "X-Request-Id", "chosen")
		var found []pastRequest
		testkit.Eventually(t, "both requests", func() bool {
			found = find("chosen")
			return len(found) == 2
		})
		if found[0].Path != "/api/users/public/b" || found[1].Path != "/api/users/public/a" {
			t.Errorf("%+v", found)
		}
	})

	// A request that is refused in front of api_docs has the route that api_docs knows for its path.
	t.Run("the route of a refused request", func(t *testing.T) {
		g.fetchDocuments()
		series := regexp.MustCompile(`tentagate_requests_total\{code="401",route="/items/\{id\}",service="users[^"]*"\}`)
		var id string
		testkit.Eventually(t, "the service's document", func() bool {
			id = ask("HTTP/1.1", "GET", "/api/users/items/1")
			return series.MatchString(g.adminGet("/metrics"))
		})
		if r := find(id)[0]; r.Route != "/items/{id}" {
			t.Errorf("%+v", r)
		}
	})

	t.Run("command", func(t *testing.T) {
		id := ask("HTTP/1.1", "GET", "/api/users/1?key=s3cret")
		find(id)
		code, out := cli(t, nil, "explain", "--request-id", id, "--address", g.admin)
		for _, want := range []string{"GET " + g.addr + "/api/users/1 from 127.0.0.1 by HTTP/1.1", "HANDLER", "jwt_auth", "refuses 401", "refused by the gateway: the client got 401 Unauthorized", "auth "} {
			if code != 0 || !strings.Contains(out, want) || strings.Contains(out, "s3cret") {
				t.Errorf("no %q: %d\n%s", want, code, out)
			}
		}
		for _, tc := range []struct {
			args []string
			want string
		}{
			{[]string{"--request-id", "unknown"}, "With several replicas ask each"},
			{[]string{"--request-id", "a b"}, "malformed"},
			{[]string{"--request-id", ""}, "malformed"},
			{[]string{"--request-id", id, g.url("/")}, "unknown command"},
			{[]string{"--request-id", id, "-X", "POST"}, "--method is for a URL"},
		} {
			if code, out := cli(t, nil, append(append([]string{"explain"}, tc.args...), "--address", g.admin)...); code != 1 || !strings.Contains(out, tc.want) {
				t.Errorf("%v: %d %s", tc.args, code, out)
			}
		}
	})
}

// fetchDocuments has the OpenAPI documents of the services fetched.
func (g *gateway) fetchDocuments() {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.admin+"/tentagate/docs?refresh=all", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// `tentagate dashboard` shows the dashboard of a gateway whose admin API listens on a Unix
// socket, and ends when it is interrupted.
func TestDashboardCommand(t *testing.T) {
	g := prepare(t)
	socket := filepath.Join(g.home, "admin.sock")
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(g.expand("{\n\tadmin unix/"+socket+"\n\tauto_https off\n}\nhttp://$ADDR {\n\trespond ok\n}\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run(nil, "run", "--config", file)
	testkit.Eventually(t, "the admin API", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	cmd := exec.CommandContext(t.Context(), binary(t), "dashboard", "--address", "unix/"+socket)
	cmd.Dir, cmd.Env = g.home, g.environment(nil)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	page := strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(page, "http://127.0.0.1:") {
		t.Fatalf("%v: %q", err, line)
	}
	get := func(url, host string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		// As a browser does, for which the admin API has no Unix socket.
		req.Header.Set("Sec-Fetch-Mode", "cors")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		if host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		first, _ := bufio.NewReader(resp.Body).ReadString('\n')
		return resp, first
	}
	if resp, first := get(page, ""); resp.StatusCode != http.StatusOK || !strings.Contains(strings.ToLower(first), "<!doctype html>") || resp.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("the page: %d %v %s", resp.StatusCode, resp.Header, first)
	}
	if resp, _ := get(page, "evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another host: %d", resp.StatusCode)
	}
	if resp, _ := get(page+"status", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the status: %d", resp.StatusCode)
	}
	if resp, first := get(page+"dashboard/events", ""); resp.StatusCode != http.StatusOK || first == "" {
		t.Errorf("the events: %d %s", resp.StatusCode, first)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}

	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0", "--address", "unix/" + socket}, "is not a loopback address"},
		{[]string{"--address", "unix/" + socket + "x"}, "no gateway answers at"},
	} {
		if code, out := cli(t, nil, append([]string{"dashboard"}, tc.args...)...); code != 1 || !strings.Contains(out, tc.want) {
			t.Errorf("%v: %d %s", tc.args, code, out)
		}
	}
}
