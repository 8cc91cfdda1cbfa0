package ratelimit

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// The command against the admin API over HTTP, with a key that is no path.
func TestLimitsCommand(t *testing.T) {
	h := provision(t, &Handler{Zone: "command", Key: []string{"{user}"}, Limits: []string{"5/1h"}})
	const key = "a//../b|%2F c"
	var d gcra.Decision
	h.zone.memory.Decide(key, h.tiers[anyTier].plan, 4, &d)
	h.zone.topKeys.add(key, 4)
	server := httptest.NewServer(admin.Handler())
	defer server.Close()
	run := func(args ...string) (string, error) {
		cmd := &cobra.Command{Use: "limits", SilenceErrors: true, SilenceUsage: true}
		caddycmd.Commands()["limits"].CobraFunc(cmd)
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(append(args, "--address", strings.TrimPrefix(server.URL, "http://")))
		err := cmd.Execute()
		return out.String(), err
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "command  memory  * 5/1h"},
		{[]string{"command"}, "%2F"},
		{[]string{"command", key}, "command  memory  *     5/1h   1"},
		{[]string{"command", key, "--json"}, `"remaining": 1`},
		{[]string{"command", key, "--reset"}, "cleared what"},
		{[]string{"command", key}, "5/1h   5"},
	} {
		out, err := run(tc.args...)
		if err != nil || !strings.Contains(out, tc.want) {
			t.Errorf("%v: %v\n%s", tc.args, err, out)
		}
	}
	for _, args := range [][]string{{"nothing"}, {"command", "--reset"}, {"command", "unknown", "--reset"}} {
		if out, err := run(args...); err == nil {
			t.Errorf("%v: no error: %s", args, out)
		}
	}
}

// All series can be gathered by a registry that checks them, and none has a key
// as a label.
func TestMetrics(t *testing.T) {
	s := serverOf(provision(t, &Handler{Zone: "measured", Limits: []string{"1/1h"}}))
	s.statuses(3, client{ip: "192.0.2.123"})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collectors...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			zone, outcome := "", ""
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "192.0.2.123") {
					t.Errorf("%s has a key as a label", f.GetName())
				}
				switch l.GetName() {
				case "zone":
					zone = l.GetValue()
				case "outcome":
					outcome = l.GetValue()
				}
			}
			if zone == "measured" {
				found[f.GetName()+" "+outcome] = m.GetCounter().GetValue()
			}
		}
	}
	if found["tentagate_ratelimit_decisions_total allowed"] != 1 || found["tentagate_ratelimit_decisions_total limited"] != 2 {
		t.Errorf("%v", found)
	}
	if _, ok := found["tentagate_ratelimit_evictions_total "]; !ok {
		t.Errorf("no evictions: %v", found)
	}
}

func TestWindowAndQuotaHandlers(t *testing.T) {
	window := serverOf(provision(t, &Handler{Zone: "w", Limits: []string{"3/1h"}, Algorithm: algorithmWindow}))
	if codes := window.statuses(5, client{}); count(codes, 200) != 3 {
		t.Errorf("window: %v", codes)
	}
	w := window.send(client{})
	if got := w.Header().Get("RateLimit-Policy"); got != `"w";q=3;w=3600` || !regexp.MustCompile(`^3(600|5[0-9][0-9])$`).MatchString(w.Header().Get("Retry-After")) {
		t.Errorf("%v", w.Header())
	}
	quota := serverOf(provision(t, &Handler{Zone: "q", Limits: []string{"100/1s"}, Quotas: []string{"2/month"}}))
	if codes := quota.statuses(5, client{}); count(codes, 200) != 2 {
		t.Errorf("quota: %v", codes)
	}
	if w := quota.send(client{}); !strings.Contains(w.Body.String(), `"q-month"`) || strings.Contains(w.Body.String(), `"q-1s"`) {
		t.Errorf("%s", w.Body)
	}
}
