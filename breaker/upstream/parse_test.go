package upstream

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestParseTransport(t *testing.T) {
	for options, want := range map[string]string{
		"breaker a {\n share\n max_keys 9\n consecutive 2\n}": `"breaker":{"name":"a","max_keys":9,"consecutive":2,"share":true}`,
		"retry_budget 25%":                             `"retry_budget":{"ratio":0.25}`,
		"retry_budget 25% min 7":                       `"retry_budget":{"ratio":0.25,"min_per_second":7}`,
		"dial_timeout 2s\n breaker a\n read_buffer 5k": `"read_buffer_size":5000`,
		"direct off\n read_buffer 5k":                  `"direct":false`,
		"direct on":                                    `"direct":true`,
	} {
		tr := new(Transport)
		if err := tr.UnmarshalCaddyfile(caddyfile.NewTestDispenser("tentagate {\n" + options + "\n}")); err != nil {
			t.Errorf("%q: %v", options, err)
			continue
		}
		if got, err := json.Marshal(tr); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%q: got %s, %v", options, got, err)
		}
	}
	for options, want := range map[string]string{
		"breaker":                            "missing argument",
		"breaker a b":                        "unexpected argument",
		"breaker a\n breaker b":              "given more than once",
		"breaker a {\n share\n share\n}":     "given more than once",
		"breaker a {\n share yes\n}":         "unexpected argument",
		"breaker a {\n mode observe\n}":      "unknown option",
		"breaker a {\n trip -1%\n}":          "trip: write it as",
		"retry_budget":                       "missing argument",
		"retry_budget 0%":                    "retry_budget off",
		"retry_budget 20% min":               "write it as",
		"retry_budget 20% max 3":             "write it as",
		"retry_budget 20% min -1":            "not a number",
		"retry_budget 20%\n retry_budget 5%": "given more than once",
		"direct":                             "missing argument",
		"direct no":                          "neither on nor off",
		"direct on off":                      "unexpected argument",
		"direct on\n direct on":              "given more than once",
		"unheard_of":                         "unrecognized subdirective",
	} {
		err := new(Transport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("tentagate {\n" + options + "\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", options, err, want)
		}
	}
	if err := new(Transport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("tentagate x")); err == nil {
		t.Error("an argument was accepted")
	}
}

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]string{
		"available":                         `{}`,
		"available {\n max_ejection 30%\n}": `{"max_ejection":0.3}`,
		"available first":                   `{"inner":{"policy":"first"}}`,
		"available random_choose 2":         `{"inner":{"choose":2,"policy":"random_choose"}}`,
		"available header X-A {\n fallback first\n max_ejection 30%\n}": `{"inner":{"fallback":{"policy":"first"},"field":"X-A","policy":"header"},"max_ejection":0.3}`,
	} {
		p := new(Policy)
		if err := p.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := json.Marshal(p); err != nil || string(got) != want {
			t.Errorf("%q: got %s, want %s, %v", text, got, want, err)
		}
	}
	for text, want := range map[string]string{
		"available {\n max_ejection\n}":                      "missing argument",
		"available {\n max_ejection -1%\n}":                  "is not a percentage",
		"available {\n max_ejection 5% 6%\n}":                "unexpected argument",
		"available {\n max_ejection 5%\n max_ejection 5%\n}": "given more than once",
		"available {\n eject 5%\n}":                          "unknown option",
		"available unheard_of":                               "is not a selection policy",
	} {
		if err := new(Policy).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// Beyond the number that each second may have, retries are a share of the
// requests of the last ten seconds, and older ones do not count.
func TestBudget(t *testing.T) {
	c := clock.NewMock()
	b := newBudget(RetryBudget{Ratio: .2, MinPerSecond: 3}, c.Now)
	allowed := func() (n int) {
		for range 1000 {
			if b.retry() {
				n++
			}
		}
		return n
	}
	if n := allowed(); n != 3 {
		t.Errorf("without requests: %d", n)
	}
	c.Add(time.Second)
	for range 100 {
		b.request()
	}
	if n := allowed(); n != 17 { // 20 of 100, of which 3 are spent
		t.Errorf("of 100 requests: %d", n)
	}
	c.Add(time.Second)
	if n := allowed(); n != 3 {
		t.Errorf("in the next second: %d", n)
	}
	c.Add(time.Hour)
	if n := allowed(); n != 3 || b.allReq != 0 {
		t.Errorf("after an hour: %d, %d requests remembered", n, b.allReq)
	}
}
