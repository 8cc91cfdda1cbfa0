package ratelimit

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging" // the output file
)

// Every option that is resolved refuses what has no value, names itself and the
// line of its directive.
func TestPlaceholdersWithoutValue(t *testing.T) {
	t.Setenv("RATE_LIMIT_BLANK", " ")
	t.Setenv("RATE_PLAN", "gold")
	for options, want := range map[string]string{
		"limit {env.RATE_UNSET}":                                 "limit: {env.RATE_UNSET} is empty",
		"limit {env.RATE_LIMIT_BLANK}":                           "limit: {env.RATE_LIMIT_BLANK} is empty",
		"limit 1/{unit}":                                         "limit: {unit} is not a placeholder",
		"limit {http.request.header.X-Limit}":                    "limit: {http.request.header.X-Limit} is not a placeholder that is known when",
		"quota {env.RATE_UNSET}/day":                             "quota: {env.RATE_UNSET} is empty",
		"limit 1/1h\nexempt {env.RATE_UNSET}":                    "exempt: {env.RATE_UNSET} is empty",
		"limit 1/1h\nexempt {remote_host}":                       "exempt: {http.request.remote.host} is not a placeholder that is known when",
		"tier {http.auth.user.plan} {\ngold {env.RATE_UNSET}\n}": "tier gold: limit: {env.RATE_UNSET} is empty",
		"limit 1/1h\nkey {clientip}":                             "key: {clientip} is not a placeholder that has a value in a request (did you mean {client_ip}?)",
		"limit 1/1h\nkey {http.response.status}":                 "key: {http.response.status} has no value",
		"limit 1/1h\nkey {resp.header.X}":                        "key: {http.intercept.header.X} has no value",
		"limit 1/1h\nkey a {env.RATE_UNSET}":                     "key: {env.RATE_UNSET} is empty",
		"limit 1/1h\nkey {http.reqest.host}":                     "key: {http.reqest.host} is not a placeholder",
		"limit 1/1h\ncost {http.response.header.X-Cost}":         "cost: {http.response.header.X-Cost} has no value",
		"limit 1/1h\ncost {units}":                               "cost: {units} is not a placeholder",
		"limit 1/1h\ncost {env.RATE_UNSET}":                      "cost: {env.RATE_UNSET} is empty",
		"limit 4/1h\ncost 5":                                     "cost: 5 is more than the 4 units that limit 4/1h allows at once",
		"limit 9/1h\nquota 4/day\ncost 5":                        "cost: 5 is more than the 4 units that quota 4/day allows at once",
		"tier {http.auth.user.plan} {\nfree 9/1h burst 4\npro 9/1h\n* unlimited\n}\ncost 5": "4 units that limit 9/1h burst 4 of tier free allows at once, so that every request of the tier",
		"tier {http.auth.user.plan} {\n{env.RATE_UNSET} 9/1h\n}":                            "tier: {env.RATE_UNSET} is empty",
		"tier {http.auth.user.plan} {\n{env.RATE_PLAN} 9/1h\ngold 8/1h\n}":                  "tier: {env.RATE_PLAN} is gold, which is there already",
		"tier {http.auth.user.plan} {\n{http.request.host} 9/1h\n}":                         "tier: {http.request.host} is not a placeholder that is known when",

		"tier {plan} {\n* 1/1h\n}":           "tier: {plan} is not a placeholder",
		"tier {http.vars.plan} {\n* 1/1h\n}": "no vars handler sets plan",
	} {
		_, err := handlersOf(t, ":80 {\nrespond ok\nratelimit {\n"+options+"\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "at Caddyfile:7") {
			t.Errorf("%s: got %v, want %q and the place", options, err, want)
		}
	}
	t.Setenv("RATE_LIMIT", "10/1h")
	t.Setenv("RATE_EXEMPT", "10.0.0.0/8, 192.0.2.0/24")
	for _, site := range []string{
		"map {host} {tenant} {\ndefault x\n}\nratelimit {\nlimit {env.RATE_LIMIT}\nkey {tenant}\nexempt {env.RATE_EXEMPT}\n}",
		"handle {\nmap {host} {plan} {cost} {\ndefault x 1\n}\nratelimit {\nlimit {env.RATE_LIMIT}\ncost {cost}\ntier {plan} {\ngold 5/1h\n}\n}\n}",
		"ratelimit {\nlimit 4/1h\ncost 5\nshadow\n}",
		"ratelimit {\ntier {http.auth.user.plan} {\nfree 9/1h burst 5\n* unlimited\n}\ncost 5\n}",
		"ratelimit {\nlimit 1/1h\ntier {http.auth.user.plan} {\n{env.RATE_PLAN} 5/1h\n}\n}",
		"vars plan gold\nratelimit {\nlimit 1/1h\ntier {vars.plan} {\ngold 5/1h\n}\n}",
		"ratelimit {\nlimit 1/1h\nkey {http.ratelimit.x.tier} {header.X-Key} {cookie.c} {query.q} {re.x.1} {path.0} {tls_client_subject} {http.auth.user.id} {uuid}\n}",
		"handle_errors {\nratelimit {\nlimit 1/1h\nkey {err.status_code}\n}\n}",
	} {
		if _, err := handlersOf(t, ":80 {\n"+site+"\n}"); err != nil {
			t.Errorf("%s: %v", site, err)
		}
	}
}

// The placeholders of a zone have their values where a request was refused.
func TestPlaceholdersOfARefusal(t *testing.T) {
	g := startGateway(t, `
	handle_errors {
		respond "{http.ratelimit.z.outcome} {http.ratelimit.z.remaining} {http.ratelimit.z.reset} {http.ratelimit.z.tier}/{http.ratelimit.two.remaining}" 429
	}
	header X-Outcome {http.ratelimit.z.outcome}
	ratelimit {
		zone z
		limit 1/1h
	}
	ratelimit {
		zone two
		limit 5/1h
	}`)
	g.get("/")
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", g.port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if got := string(body); got != "limited 0 3600 */4" && got != "limited 0 3599 */4" {
		t.Errorf("got %q", got)
	}
}

// warnings loads a configuration and returns what it warns of.
func warnings(t *testing.T, global, site string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	g := startGateway(t, "%s\nlog warnings {\noutput file %s\nlevel WARN\n}\n----\n%s", global, file, site)
	_ = g
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

func TestWarnings(t *testing.T) {
	const trust = "servers {\ntrusted_proxies static 192.0.2.0/24\n%s\n}"
	for name, tc := range map[string]struct {
		global, site, want string
	}{
		"private ranges, no proxy trusted": {"", "ratelimit 1/1h {\nexempt private_ranges\n}", "trusted_proxies"},
		"a private network":                {"", "ratelimit 1/1h {\nexempt 10.1.0.0/16\n}", "trusted_proxies"},
		"a trusted proxy":                  {fmt.Sprintf(trust, "trusted_proxies_strict"), "ratelimit 1/1h {\nexempt private_ranges\n}", ""},
		"trusted proxies, not strict":      {fmt.Sprintf(trust, ""), "ratelimit 1/1h {\nexempt 198.51.100.0/24\n}", "trusted_proxies_strict"},
		"a field of one address":           {fmt.Sprintf(trust, "client_ip_headers X-Azure-ClientIP"), "ratelimit 1/1h {\nexempt private_ranges\n}", ""},
		"nobody exempt, not strict":        {fmt.Sprintf(trust, ""), "ratelimit 1/1h", ""},
		"public networks":                  {"", "ratelimit 1/1h {\nexempt 198.51.100.0/24\n}", ""},
		"one zone, two limits":             {"", "ratelimit /a 1/1h {\nzone z\n}\nratelimit /b 2/1h {\nzone z\n}", `"zone": "z", "first": "a line", "second": "a line"`},
		"one zone, two keys":               {"", "ratelimit /a 1/1h {\nzone z\n}\nratelimit /b 1/1h {\nzone z\nkey {header.X}\n}", `"zone": "z"`},
		"one zone, one rule":               {"", "ratelimit /a 9/1h {\nzone z\n}\nratelimit /b 9/1h {\nzone z\ncost 5\n}", ""},
		"two zones":                        {"", "ratelimit /a 1/1h {\nzone z\n}\nratelimit /b 2/1h", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := warnings(t, tc.global, tc.site)
			relevant := ""
			for line := range strings.Lines(got) {
				if strings.Contains(line, "ratelimit") {
					relevant += line
				}
			}
			if (relevant == "") != (tc.want == "") {
				t.Fatalf("warnings: %q", got)
			}
			if word, _, _ := strings.Cut(tc.want, ":"); !strings.Contains(relevant, strings.Trim(word, `"`)) {
				t.Errorf("warnings: %s, want %s", relevant, tc.want)
			}
			if strings.Contains(tc.want, "first") && (!strings.Contains(relevant, `"first"`) || !strings.Contains(relevant, `"second"`)) {
				t.Errorf("warnings without both places: %s", relevant)
			}
		})
	}
}
