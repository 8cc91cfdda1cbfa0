package jwtauth

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/jwtauth/internal/deny"
)

// answer sends a token through a handler; it returns the answer and the reason.
func answer(h *Handler, text string) (*httptest.ResponseRecorder, string) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer(text)(r)
	w, repl := httptest.NewRecorder(), caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, &caddyhttp.Server{})
	_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	return w, repl.ReplaceAll("{http.auth.error.reason}", "")
}

func denyHandler(t *testing.T, options string) *Handler {
	t.Helper()
	h, err := load(t, "jwt_auth "+secret+" {\n deny_list {\n"+options+"\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func adminServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(admin.Handler())
	t.Cleanup(server.Close)
	return server
}

func sendRevocation(t *testing.T, server *httptest.Server, method, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+revocationsURI, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var refused struct{ Detail string }
	if resp.StatusCode >= 400 && json.Unmarshal(text, &refused) == nil {
		return resp.StatusCode, refused.Detail
	}
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		return resp.StatusCode, compact.String()
	}
	return resp.StatusCode, string(text)
}

func TestRevocations(t *testing.T) {
	server := adminServer(t)
	if status, _ := sendRevocation(t, server, "GET", ""); status != 404 {
		t.Errorf("without a deny list: %d", status)
	}
	h := denyHandler(t, "ttl 1h")
	now := time.Now()
	text := mint(t, secret, jwt.MapClaims{"jti": "one", "sub": "ann-secret-name", "iss": "https://i.test", "iat": now.Add(-time.Minute).Unix()})
	later := mint(t, secret, jwt.MapClaims{"jti": "two", "sub": "ann-secret-name", "iat": now.Add(10 * time.Second).Unix()})
	pass := func(what, text string, want bool) {
		t.Helper()
		w, reason := answer(h, text)
		if want != (w.Code == 200) || !want && (w.Code != 401 || reason != "revoked" || !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="invalid_token"`)) {
			t.Errorf("%s: %d %s %v", what, w.Code, reason, w.Header())
		}
	}
	pass("before", text, true) // from now on, it is remembered
	for _, body := range []string{
		`{"jti": "one", "provider": "main"}`,
		`{"jti": "one", "issuer": "https://i.test"}`,
		`{"sub": "ann-secret-name"}`,
		`{"sub": "ann-secret-name", "provider": "main", "ttl": "5m"}`,
		`{"sub": "ann-secret-name", "issuer": "https://i.test", "before": "` + now.UTC().Format(time.RFC3339) + `"}`,
	} {
		if status, got := sendRevocation(t, server, "POST", body); status != 200 || !strings.Contains(got, `"revoked":true`) || !strings.Contains(got, `"shared":"no"`) {
			t.Fatalf("%s: %d %s", body, status, got)
		}
		pass(body, text, false)
		pass(body+", another token", later, true)
		if status, got := sendRevocation(t, server, "GET", ""); status != 200 || !strings.Contains(got, `"count":1`) || strings.Contains(got, "secret-name") {
			t.Errorf("list: %d %s", status, got)
		}
		if n := testutil.CollectAndCount(metrics.Collector(collectRevocations, revocationsDesc, revocationsFreshDesc)); n != 2 {
			t.Errorf("%d series", n)
		}
		if status, got := sendRevocation(t, server, "DELETE", body); status != 200 || !strings.Contains(got, `"restored":true`) {
			t.Errorf("restore: %d %s", status, got)
		}
		pass(body+", restored", text, true)
		if status, _ := sendRevocation(t, server, "DELETE", body); status != 404 {
			t.Errorf("restore again: %d", status)
		}
	}
	for _, body := range []string{
		"", "{", "[]", "{}", `{"jti": "a"}`, `{"jti": 1, "provider": "main"}`, `{"jti": "a", "provider": "main", "sub": "b"}`,
		`{"jti": "a", "provider": "main", "issuer": "b"}`, `{"jti": "a", "provider": "main", "before": "2026-01-01T00:00:00Z"}`,
		`{"sub": "a", "before": "yesterday"}`, `{"sub": "a", "before": "2999-01-01T00:00:00Z"}`, `{"sub": "a", "before": "0001-01-01T00:00:00Z"}`,
		`{"sub": "a", "ttl": "-1h"}`, `{"sub": "a", "ttl": "9000h"}`, `{"sub": "a", "subject": "b"}`, `{"id": "00"}`, `{"sub": "a"} {}`,
		`{"sub": "a"}x`, `{"sub": "a"}]`, `{"SUB": "a"}`, `{"sub": "a", "Sub": "b"}`, `{"sub": "a", "sub": "a"}`, `{"sub": "a", "s\u0075b": "b"}`, "{\"sub\": \"a\xff\"}",
		`{"sub": "\ud800"}`, `{"sub": "a", "": 1}`, `{"sub": "a", "ttl": {}}`, `{"sub": "a", "ttl": "x"}`, `{"sub": "a", "before": 1}`, `{"sub": null}`, `null`, `"sub"`, "\xef\xbb\xbf{\"sub\": \"a\"}",
		`{"sub": "` + strings.Repeat("a", 5000) + `"}`, `{"sub": "` + strings.Repeat("a", 50000) + `"}`,
	} {
		for _, method := range []string{"POST", "DELETE"} {
			if status, got := sendRevocation(t, server, method, body); status != 400 {
				t.Errorf("%s %.60s: %d %s", method, body, status, got)
			}
		}
	}
	if status, _ := sendRevocation(t, server, "PUT", "{}"); status != 405 {
		t.Errorf("PUT: %d", status)
	}
}

// A reload keeps what is revoked.
func TestRevocationsOutliveReload(t *testing.T) {
	server := adminServer(t)
	text := mint(t, secret, jwt.MapClaims{"jti": "kept"})
	old := denyHandler(t, "")
	if status, got := sendRevocation(t, server, "POST", `{"jti": "kept", "provider": "main"}`); status != 200 {
		t.Fatal(got)
	}
	h := denyHandler(t, "max_entries 7")
	if err := old.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if w, _ := answer(h, text); w.Code != 401 {
		t.Errorf("after the reload: %d", w.Code)
	}
}

func TestRevokeCommand(t *testing.T) {
	server := adminServer(t)
	h := denyHandler(t, "")
	text := mint(t, secret, jwt.MapClaims{"jti": "x", "sub": "s"})
	run := func(args ...string) error {
		var spec caddycmd.Command
		for name, c := range caddycmd.Commands() {
			if name == "revoke" {
				spec = c
			}
		}
		cmd := &cobra.Command{Use: "revoke", SilenceErrors: true, SilenceUsage: true}
		spec.CobraFunc(cmd)
		cmd.SetArgs(append(args, "--address", strings.TrimPrefix(server.URL, "http://")))
		return cmd.Execute()
	}
	for _, args := range [][]string{{"--jti", "x", "--provider", "main"}, {"--sub", "s"}, {"--sub", "s", "--before", time.Now().Format(time.RFC3339), "--ttl", "1d"}} {
		if err := run(args...); err != nil {
			t.Fatal(args, err)
		}
		if w, _ := answer(h, text); w.Code != 401 {
			t.Errorf("%v: %d", args, w.Code)
		}
		if err := run(append(args, "--undo")...); err != nil {
			t.Fatal(args, err)
		}
		if w, _ := answer(h, text); w.Code != 200 {
			t.Errorf("%v, undone: %d", args, w.Code)
		}
	}
	for _, args := range [][]string{{}, {"--jti", "x"}, {"--sub", "s", "--before", "now"}, {"--sub", "s", "--ttl", "0"}, {"--sub", "s", "--jti", "x"}, {"--sub", "s", "more"}, {"--sub", "s", "--undo"}} {
		if err := run(args...); err == nil {
			t.Errorf("%v: accepted", args)
		}
	}
}

// gatewayOn is a gateway with its own connection to Redis, and its list.
func gatewayOn(t *testing.T, url, options string) (http.Handler, *deny.Store) {
	t.Helper()
	t.Setenv("REDIS_URL", url)
	var known []*deny.Store
	for _, l := range denyLists.Values() {
		known = append(known, l.Store)
	}
	handler := servertest.Handler(t, ":80 {\n jwt_auth "+secret+" {\n deny_list {\n"+options+"\n}\n}\n respond ok\n}")
	revocable.Lock()
	defer revocable.Unlock()
	for h := range revocable.handlers {
		if !slices.Contains(known, h.denied) {
			// The configuration is never unloaded; its list must not be there for others.
			t.Cleanup(func() { _ = h.deniedRef.Release() })
			return handler, h.denied
		}
	}
	t.Fatal("the gateway has no list of its own")
	return nil, nil
}

func status(h http.Handler, text string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	bearer(text)(r)
	h.ServeHTTP(w, r)
	return w
}

func TestRevokedByOneRefusedByAnother(t *testing.T) {
	rs := redistest.Start(t)
	proxy := redistest.NewProxy(t, rs.Addr())
	a, listA := gatewayOn(t, rs.URL(), "on_store_error deny")
	b, listB := gatewayOn(t, proxy.URL(), "")
	text := mint(t, secret, jwt.MapClaims{"jti": "one"})
	if w := status(a, text); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a list that was never read, deny: %d", w.Code)
	}
	if w := status(b, text); w.Code != 200 {
		t.Errorf("a list that was never read, allow: %d", w.Code)
	}
	listA.Start()
	listB.Start()
	until := func(what string, h http.Handler, want int) {
		t.Helper()
		// Before everything is read anew, which is after 30 s.
		deadline := time.Now().Add(20 * time.Second)
		for status(h, text).Code != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 20 s", what)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("read", a, 200)
	e := deny.Entry{ID: deny.Token(deny.Scope{Provider: "main"}, "one"), Expires: time.Now().Add(time.Hour)}
	if shared, err := listA.Revoke(t.Context(), e); err != nil || shared != deny.SharedYes {
		t.Fatal(shared, err)
	}
	if w := status(a, text); w.Code != 401 {
		t.Errorf("where it was revoked: %d", w.Code)
	}
	until("refused by the other", b, 401)
}

func TestDenyListOptions(t *testing.T) {
	for options, want := range map[string]string{
		"max_entries 0":           "max_entries",
		"max_entries 1 2":         "unexpected argument",
		"ttl 0s":                  "ttl",
		"ttl 9000h":               "accepted are 1s to 366d",
		"on_store_error local":    "accepted are allow and deny",
		"ttl 1h\n ttl 1h":         "more than once",
		"redis x":                 "unknown option",
		"on_store_error":          "missing argument",
		"max_entries 20000000000": "max_entries",
	} {
		_, err := load(t, "jwt_auth "+secret+" {\n deny_list {\n"+options+"\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", options, err, want)
		}
	}
	for _, o := range []DenyList{{MaxEntries: -1}, {TTL: -1}, {OnStoreError: "x"}} {
		h := &Handler{Providers: map[string]*Provider{"main": {Secrets: []string{secret}}}, DenyList: &o}
		if err := provision(t, h); err == nil || !strings.Contains(err.Error(), "deny_list") {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}
