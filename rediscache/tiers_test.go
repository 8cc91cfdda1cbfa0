package rediscache

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// tierApp returns an app with the Redis at the address, or without one.
func tierApp(t *testing.T, url string) *app.App {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	a := &app.App{}
	if url != "" {
		a.RedisConfig = &app.RedisConfig{URLs: []string{url}}
	} else if err := json.Unmarshal([]byte(`{}`), a); err != nil {
		t.Fatal(err)
	}
	if err := a.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Cleanup() })
	return a
}

func acquireTest(t *testing.T, a *app.App, s tierSettings) *tiers {
	t.Helper()
	ts, err := acquireTiers(a, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if ts.releases != nil {
			_ = ts.release()
		}
	})
	return ts
}

func keepObject(ts *tiers, name string, tags ...string) *object.Object {
	key := object.NewKey(name)
	o := &object.Object{
		Status: 200, Header: http.Header{}, Body: []byte(name), Scheme: "https", Host: "example.com", Path: "/" + name, Tags: tags,
		ResponseTime: time.Now(), Lifetime: time.Hour, Epoch: ts.epochs.Now(),
	}
	ts.memory.Set(key, (*object.Entry)(nil).With(key, o, 8))
	return o
}

func TestTiersOutliveReload(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a := tierApp(t, "")
	first := acquireTest(t, a, tierSettings{memory: 1 << 20})
	key, o := object.NewKey("a"), keepObject(first, "a")
	old := keepObject(first, "b")
	first.epochs.Table.Invalidate(object.Scope{URL: "https://example.com/b"})

	// A reload: the next configuration is there before the last one goes.
	second := acquireTest(t, a, tierSettings{memory: 2 << 20})
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	if second.memory.Get(key) == nil || second.epochs.Check(o) != object.Valid {
		t.Error("a stored response does not survive")
	}
	if second.epochs.Check(old) != object.Hard {
		t.Error("an invalidation does not survive")
	}
	if got := second.memory.Stats().Maximum; got != 2<<20 {
		t.Errorf("a budget of %d bytes", got)
	}
	// A configuration that is refused takes only what it brought.
	for range 20 {
		third := acquireTest(t, a, tierSettings{memory: 64 << 20})
		if got := second.memory.Stats().Maximum; got != 64<<20 {
			t.Fatalf("a budget of %d bytes, want the largest", got)
		}
		_ = third.release()
	}
	if got := second.memory.Stats().Maximum; got != 2<<20 || second.memory.Get(key) == nil {
		t.Errorf("a budget of %d bytes after the refused configuration", got)
	}
	_ = second.release()
	fourth := acquireTest(t, a, tierSettings{memory: 1 << 20})
	if fourth.memory.Get(key) != nil {
		t.Error("a tier that is not used any more is kept")
	}
	_ = fourth.release()
}

// Provision must not reach out: the address answers nothing, and there is
// nothing to wait for.
func TestTiersOffline(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the app, whose prober of Redis ends with it
	ts := acquireTest(t, tierApp(t, "redis://127.0.0.1:1"), tierSettings{memory: 1 << 20, redis: &redisSettings{}})
	if n := ts.epochs.exchange.Stats().Failures; n != 0 {
		t.Errorf("%d failures before the start", n)
	}
	ts.start()
	ts.start()
	if err := ts.release(); err != nil {
		t.Error(err)
	}
}

// What a write waits for Redis is charged to its request: when the budget is used up,
// nothing waits any more, and the invalidation is shared later.
func TestInvalidationIsCharged(t *testing.T) {
	server := redistest.Start(t)
	ts := acquireTest(t, tierApp(t, server.URL()), tierSettings{memory: 1 << 20})
	testkit.Eventually(t, "the log", func() bool { ts.start(); return ts.epochs.exchange.Ready() })
	server.Freeze()
	defer server.Thaw()
	r := purgeRequestFrom("10.0.0.1", "")
	budget := app.WaitBudget(r)
	o := keepObject(ts, "a", "one")
	ts.epochs.Invalidate(r, object.Scope{Tag: "one"})
	if budget.Left(ts.epochs.budget) > 0 {
		t.Errorf("charged %v of %v", budget.Waited(), ts.epochs.budget)
	}
	if ts.epochs.Check(o) != object.Hard {
		t.Error("not invalidated here")
	}
	ctx, end := availability.Limit(redisContext(r), ts.epochs.budget)
	defer end()
	if ctx.Err() == nil {
		t.Error("there is something left to wait for")
	}
}

func adminCall(t *testing.T, method, uri, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	admin.Handler().ServeHTTP(w, httptest.NewRequest(method, uri, strings.NewReader(body)))
	var compact bytes.Buffer
	if err := json.Compact(&compact, w.Body.Bytes()); err != nil {
		t.Fatal(err)
	}
	return w.Code, compact.String()
}

func TestAdminPurge(t *testing.T) {
	if status, text := adminCall(t, http.MethodPost, purgeURI, `{"all":true}`); status != http.StatusNotFound {
		t.Errorf("without a cache: %d %s", status, text)
	}
	ts := acquireTest(t, tierApp(t, ""), tierSettings{memory: 1 << 20})
	for body, want := range map[string]struct{ a, b object.Freshness }{
		`{"url":"https://example.com/a"}`:             {object.Hard, object.Valid},
		`{"url":"https://example.com/a","soft":true}`: {object.Soft, object.Valid},
		`{"prefix":"https://example.com/"}`:           {object.Hard, object.Hard},
		`{"host":"example.com"}`:                      {object.Hard, object.Hard},
		`{"tag":"one"}`:                               {object.Hard, object.Valid},
		`{"tags":["one","two"],"soft":true}`:          {object.Soft, object.Soft},
		`{"all":true}`:                                {object.Hard, object.Hard},
		`{"tag":"other"}`:                             {object.Valid, object.Valid},
	} {
		a := keepObject(ts, "a", "one")
		b := keepObject(ts, "b", "two")
		before := testutil.ToFloat64(purges.WithLabelValues("tag"))
		status, text := adminCall(t, http.MethodPost, purgeURI, body)
		if status != http.StatusOK || text != `{"purged":true,"shared":"no"}` {
			t.Errorf("%s: %d %s", body, status, text)
		}
		if got := ts.epochs.Check(a); got != want.a {
			t.Errorf("%s: a is %d, want %d", body, got, want.a)
		}
		if got := ts.epochs.Check(b); got != want.b {
			t.Errorf("%s: b is %d, want %d", body, got, want.b)
		}
		if strings.Contains(body, "tag") && testutil.ToFloat64(purges.WithLabelValues("tag")) == before {
			t.Errorf("%s: not counted", body)
		}
		if strings.Contains(body, "all") {
			testkit.Eventually(t, "free memory after everything was purged", func() bool { return ts.memory.Stats().Bytes == 0 })
		}
	}
	for body, part := range map[string]string{
		``:                                      "reading the body",
		`{}`:                                    "exactly one of",
		`{"tag":"a","all":true}`:                "exactly one of",
		`{"url":"http://a/","tags":["b"]}`:      "exactly one of",
		`{"prefix":"http://a/","tags":["b"]}`:   "exactly one of",
		`{"host":"a","tags":["b"]}`:             "exactly one of",
		`{"tag":"a","tags":["b"]}`:              "exactly one of",
		`{"all":true,"tags":["b"],"soft":true}`: "exactly one of",
		`{"url":"/a"}`:                          "must begin with http",
		`{"tagg":"a"}`:                          "unknown field",
		`{"tag":"a"}{"tag":"b"}`:                "more than one value",
		`{"tags":[""]}`:                         "exactly one of",
		`{"soft":true}`:                         "exactly one of",
		`"` + strings.Repeat("x", maxPurgeBody): "longer than 65536 bytes",
	} {
		status, text := adminCall(t, http.MethodPost, purgeURI, body)
		if status != http.StatusBadRequest || !strings.Contains(text, part) {
			t.Errorf("%.40s: %d %s", body, status, text)
		}
	}
	if status, _ := adminCall(t, http.MethodGet, purgeURI, ""); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
}

func TestAdminStats(t *testing.T) {
	ts := acquireTest(t, tierApp(t, "redis://127.0.0.1:1"), tierSettings{memory: 1 << 20, redis: &redisSettings{}})
	keepObject(ts, "a")
	status, text := adminCall(t, http.MethodGet, statsURI, "")
	var got cacheStats
	if err := json.Unmarshal([]byte(text), &got); status != http.StatusOK || err != nil {
		t.Fatalf("%d %s %v", status, text, err)
	}
	if got.Memory == nil || got.Memory.Entries != 1 || len(got.Redis) != 1 || len(got.Invalidation) != 1 {
		t.Errorf("%s", text)
	}
	if status, _ := adminCall(t, http.MethodPost, statsURI, ""); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(tierCollector(), purges)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tentagate_http_cache_memory_entries Keys stored in the memory tier.
# TYPE tentagate_http_cache_memory_entries gauge
tentagate_http_cache_memory_entries 1
`), "tentagate_http_cache_memory_entries"); err != nil {
		t.Error(err)
	}
}

func TestPurgeShared(t *testing.T) {
	server := redistest.Start(t)
	ts := acquireTest(t, tierApp(t, server.URL()), tierSettings{memory: 1 << 20})
	testkit.Eventually(t, "the log", func() bool { ts.start(); return ts.epochs.exchange.Ready() })
	if status, text := adminCall(t, http.MethodPost, purgeURI, `{"tag":"a"}`); text != `{"purged":true,"shared":"yes"}` {
		t.Errorf("%d %s", status, text)
	}
	server.Kill()
	if status, text := adminCall(t, http.MethodPost, purgeURI, `{"tag":"a"}`); text != `{"purged":true,"shared":"pending"}` {
		t.Errorf("%d %s", status, text)
	}
}

func TestPurgeCommand(t *testing.T) {
	ts := acquireTest(t, tierApp(t, ""), tierSettings{memory: 1 << 20})
	server := httptest.NewServer(admin.Handler())
	defer server.Close()
	address := "--address=" + strings.TrimPrefix(server.URL, "http://")
	run := func(args ...string) error {
		cmd := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
		caddycmd.Commands()["purge"].CobraFunc(cmd)
		cmd.SetArgs(args)
		return cmd.Execute()
	}
	for _, tc := range []struct {
		args []string
		want object.Freshness
	}{
		{[]string{"--url", "https://example.com/a"}, object.Hard},
		{[]string{"--prefix=https://example.com/", "--soft"}, object.Soft},
		{[]string{"--tag", "x", "--tag", "one"}, object.Hard},
		{[]string{"--host", "example.org"}, object.Valid},
		{[]string{"--all"}, object.Hard},
	} {
		o := keepObject(ts, "a", "one")
		if err := run(append(tc.args, address)...); err != nil {
			t.Errorf("%s: %v", tc.args, err)
		}
		if got := ts.epochs.Check(o); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.args, got, tc.want)
		}
	}
	o := keepObject(ts, "a", "one")
	for _, args := range [][]string{
		{"--tag", "one", "--url", "https://example.com/a"},
		{"--tag=one", "--all"},
		{"--url=https://example.com/a", "--host=example.com"},
		{"--prefix=https://example.com/", "--all"},
		{"--all", "--soft", "--tag=one"},
	} {
		if err := run(append(args, address)...); err == nil || !strings.Contains(err.Error(), "exactly one of --url") {
			t.Errorf("%s: %v", args, err)
		}
	}
	if got := ts.epochs.Check(o); got != object.Valid {
		t.Errorf("what was refused is carried out: %v", got)
	}
	for part, args := range map[string][]string{
		"nothing is named":        {address},
		"--url is empty":          {"--url=", "--tag=one", address},
		"--host is empty":         {"--host=", address},
		"--tag is empty":          {"--tag=", address},
		"nothing is named: exact": {"--all=false", address},
		"a tag has no blanks":     {"--tag=one two", address},
		"'@'":                     {"--url=https://user@example.com/", address},
		"unknown flag":            {"--tags=one", address},
		"must begin with http":    {"--url", "/a", address},
		"no gateway answers":      {"--all", "--address=127.0.0.1:1"},
		"unknown command \"now\"": {"--all", "now", address},
	} {
		if err := run(args...); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
