package integration

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const breakersConf = `{
	admin $ADMIN
	auto_https off
}
http://$ADDR {
	circuit_breaker users {
		key {http.request.header.X-Key}
		consecutive 5
	}
	reverse_proxy `

// The subcommand shows and forces the breakers of a running gateway, and says
// what is wrong with what it cannot do.
func TestBreakersCommand(t *testing.T) {
	g := start(t, breakersConf+failingService(t)+"\n}\n")
	run := func(args ...string) (int, string) {
		t.Helper()
		return cli(t, nil, append(append([]string{"breakers"}, args...), "--address", g.admin)...)
	}
	row := func(out, key string) string {
		for line := range strings.SplitSeq(out, "\n") {
			if strings.Contains(line, `"`+key+`"`) && strings.HasPrefix(line, "users ") {
				return strings.Join(strings.Fields(line), " ")
			}
		}
		return ""
	}
	status := func(key string) int { return g.get("/", "X-Key", key).status }

	if status("a") != 200 || status("b") != 200 {
		t.Fatal("the gateway does not work")
	}
	code, out := run()
	if code != 0 || !strings.HasPrefix(out, "NAME ") || row(out, "a") != `users service "a" closed - 1 0 0 ""` {
		t.Errorf("list: %d\n%s", code, out)
	}
	if code, out = run("--json"); code != 0 || !strings.Contains(out, `"state": "closed"`) {
		t.Errorf("list as JSON: %d\n%s", code, out)
	}

	code, out = run("open", "users", "a", "--for", "1h")
	if code != 0 || !strings.HasPrefix(row(out, "a"), `users service "a" open (forced) 1h0m0s `) {
		t.Errorf("open: %d\n%s", code, out)
	}
	if status("a") != 503 || status("b") != 200 {
		t.Error("open: not that key alone is open")
	}
	if code, out = run("open", "users"); code != 0 || status("b") != 503 || status("new") != 503 {
		t.Errorf("open all: %d\n%s", code, out)
	}
	if code, out = run("auto", "users", "b"); code != 0 || status("b") != 200 || status("a") != 503 {
		t.Errorf("auto: %d\n%s", code, out)
	}
	if code, out = run("close", "users"); code != 0 || !strings.Contains(row(out, "a"), "closed (forced) 10m0s") {
		t.Errorf("close: %d\n%s", code, out)
	}
	for range 7 {
		if a := g.get("/?fail", "X-Key", "a"); a.status != 500 {
			t.Errorf("forced closed: %d", a.status)
		}
	}
	if code, out = run("users", "a"); code != 0 || !strings.Contains(row(out, "a"), "closed (forced)") || strings.Contains(out, `"b"`) {
		t.Errorf("one key: %d\n%s", code, out)
	}
	if code, out = run("auto", "users"); code != 0 || status("a") != 503 {
		t.Errorf("what was counted decides again: %d\n%s", code, out)
	}

	for _, tc := range []struct {
		args string
		want string
	}{
		{"ajar users", `no breaker`},
		{"ajar users a", `"ajar": accepted are open, close and auto, or the name`},
		{"open", "open: name the breaker"},
		{"open nobody", `no breaker`},
		{"open users nobody", `has no key`},
		{"open users a b", "accepts at most 3 arg(s)"},
		{"open users --for 0s", "above zero"},
		{"open users --for -1m", "above zero"},
		{"open users --for 800h", "at most 30d"},
		{"open users --for soon", `--for: "soon" is not a duration`},
		{"open users --for 60d", "at most 30d"},
		{"auto users --for 1h", "--for: it is for open and close"},
		{"users --for 1h", "--for: it is for open and close"},
	} {
		if code, out := run(strings.Fields(tc.args)...); code == 0 || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %d %s, want it to say %q", tc.args, code, out, tc.want)
		}
	}
	if code, out := cli(t, nil, "breakers", "--address", "127.0.0.1:1"); code == 0 || !strings.Contains(out, "127.0.0.1:1") {
		t.Errorf("nobody there: %d %s", code, out)
	}
	if code, out := cli(t, nil, "breakers", "--help"); code != 0 || !strings.Contains(out, "so that its rules decide again") {
		t.Errorf("help: %d %s", code, out)
	}
}

// What the admin API cannot take it refuses, and says why; nothing changes.
func TestBreakersAdminRefuses(t *testing.T) {
	g := start(t, breakersConf+failingService(t)+"\n}\n")
	g.get("/", "X-Key", "a")
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/users", ``, 400, `want {\"state\"`},
		{"POST", "/users", `open`, 400, `want {\"state\"`},
		{"POST", "/users", `[]`, 400, `want {\"state\"`},
		{"POST", "/users", `null`, 400, `accepted are open, closed and auto`},
		{"POST", "/users", `{}`, 400, `accepted are open, closed and auto`},
		{"POST", "/users", `{"state":"ajar"}`, 400, `state \"ajar\": accepted are open, closed and auto`},
		{"POST", "/users", `{"state":1}`, 400, `want {\"state\"`},
		{"POST", "/users", `{"state":"open","until":"noon"}`, 400, `unknown field \"until\"`},
		{"POST", "/users", `{"state":"open","for":"soon"}`, 400, `for: \"soon\" is not a duration`},
		{"POST", "/users", `{"state":"open","for":"-1m"}`, 400, `above zero and of at most 30d`},
		{"POST", "/users", `{"state":"open","for":"31d"}`, 400, `above zero and of at most 30d`},
		{"POST", "/users", `{"state":"open"}{"state":"closed"}`, 400, `more than one value`},
		{"POST", "/users", `{"state":"open"} x`, 400, `more than one value`},
		{"POST", "/users", `{"state":"open"}]`, 400, `more than one value`},
		{"POST", "/users", `{"state":"open"}` + strings.Repeat(" ", 5000), 400, `longer than 4096 bytes`},
		{"POST", "/", `{"state":"open"}`, 400, `a name is needed`},
		{"POST", "", `{"state":"open"}`, 405, `accepted methods: GET, HEAD`},
		{"POST", "/nobody", `{"state":"open"}`, 404, `no breaker \"nobody\"`},
		{"POST", "/users/nobody", `{"state":"open"}`, 404, `has no key \"nobody\"`},
		{"POST", "/users?scope=upstream", `{"state":"open"}`, 404, `no breaker`},
		{"PUT", "/users", `{"state":"open"}`, 405, `accepted methods: GET, HEAD, POST`},
		{"GET", "/nobody", ``, 404, `no breaker \"nobody\"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+g.admin+"/tentagate/breakers"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tc.status || !strings.Contains(string(text), tc.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d and %q", tc.method, tc.path, tc.body, resp.StatusCode, text, tc.status, tc.want)
		}
	}
	if c := g.breaker("users", "a"); c.State != "closed" || c.Forced != 0 {
		t.Errorf("%+v", c)
	}
}

// A breaker that no rule can open is reported when the configuration loads.
func TestBreakerWithoutRules(t *testing.T) {
	for options, warned := range map[string]bool{"trip off": true, "trip off\nmax_inflight 5": false, "trip off\nconsecutive 3": false, "window 5s": false} {
		path := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(path, []byte(":8000 {\ncircuit_breaker x {\n"+options+"\n}\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := cli(t, nil, "validate", "--config", path)
		if code != 0 || strings.Contains(out, "no rule opens this circuit breaker") != warned || warned && !strings.Contains(out, `"at":"Caddyfile:2"`) {
			t.Errorf("%q: %d\n%s", options, code, out)
		}
	}
}
