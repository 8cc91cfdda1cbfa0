package breaker

import (
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// Zero and off switch an option off, in whatever unit.
func TestOff(t *testing.T) {
	for options, off := range map[string]func(h *Handler) bool{
		"trip":                           func(h *Handler) bool { return h.Ratio == 0 && h.NoRatio },
		"consecutive":                    func(h *Handler) bool { return h.Consecutive == 0 && h.Ratio > 0 },
		"slow":                           func(h *Handler) bool { return h.SlowRatio == 0 && h.SlowOver == 0 },
		"open_for 30s jitter":            func(h *Handler) bool { return h.Jitter == 0 },
		"open_for 30s max":               func(h *Handler) bool { return h.OpenMax == h.OpenFor },
		"retry_after":                    func(h *Handler) bool { return h.RetryAfterMax == 0 },
		"retry_after honor max":          func(h *Handler) bool { return h.RetryAfterMax == 0 },
		"max_inflight":                   func(h *Handler) bool { return h.MaxInflight == nil },
		"max_inflight 5 queue":           func(h *Handler) bool { return h.MaxInflight.Queue == 0 },
		"max_inflight 5 queue 3":         func(h *Handler) bool { return h.MaxInflight.Queue == 0 },
		"max_inflight adaptive queue 50": func(h *Handler) bool { return h.MaxInflight.Queue == 0 },
	} {
		for _, word := range []string{"0", "off", "0s", "0%"} {
			number := strings.HasPrefix(options, "consecutive") || strings.Contains(options, "max_inflight")
			if number && word != "0" && word != "off" {
				continue
			}
			if word == "0s" && (strings.Contains(options, "jitter") || options == "trip" || options == "slow") ||
				word == "0%" && (strings.HasSuffix(options, "max") || strings.HasPrefix(options, "retry_after")) {
				continue
			}
			h, err := load(t, "circuit_breaker off {\n "+options+" "+word+"\n}")
			if err != nil {
				t.Errorf("%s %s: %v", options, word, err)
			} else if !off(h) {
				t.Errorf("%s %s: it is on: %+v", options, word, h)
			}
		}
	}
}

// With all rules off a breaker counts, and opens only by order.
func TestNoRule(t *testing.T) {
	h := mustLoad(t, "circuit_breaker no-rule {\n trip off\n}")
	for range 100 {
		ask(h, get(), status(500))
	}
	if s := stands(t, "no-rule"); s.State != "closed" || s.Failures == 0 {
		t.Errorf("%+v", s)
	}
}

// Errors that are found when the configuration loads name the line; a name that
// is another for each request is refused with a pointer to key.
func TestPlaces(t *testing.T) {
	t.Setenv("TENTAGATE_TEST_EMPTY", "")
	for text, want := range map[string]string{
		"circuit_breaker {host}":                       "`key {http.request.host}`",
		"circuit_breaker {tenant}":                     "`key {tenant}`",
		"circuit_breaker x-{host} /api":                "`key {http.request.host}`",
		"circuit_breaker {env.TENTAGATE_TEST_EMPTY}":   "circuit_breaker: name: {env.TENTAGATE_TEST_EMPTY} is empty: set the environment variable TENTAGATE_TEST_EMPTY, or remove the option, at Caddyfile:9",
		"circuit_breaker x {\n\t\tkey {clientip}\n\t}": "key: {clientip}",
		"circuit_breaker placed\n\thandle /x {\n\t\tcircuit_breaker placed {\n\t\t\tconsecutive 3\n\t\t}\n\t}":                   "at Caddyfile:9",
		"reverse_proxy a:1 {\n\t\ttransport tentagate {\n\t\t\tbreaker {host}\n\t\t}\n\t}":                                       "`key {http.request.host}`",
		"reverse_proxy a:1 {\n\t\ttransport tentagate {\n\t\t\tbreaker {env.TENTAGATE_TEST_EMPTY}\n\t\t}\n\t}":                   "transport tentagate: breaker: name: {env.TENTAGATE_TEST_EMPTY} is empty: set the environment variable TENTAGATE_TEST_EMPTY, or remove the option, at Caddyfile:10",
		"handle /a {\n\t\tcircuit_breaker both\n\t}\n\thandle /b {\n\t\tcircuit_breaker both {\n\t\t\tconsecutive 3\n\t\t}\n\t}": "at Caddyfile:10 and at Caddyfile:13",
	} {
		_, err := servertest.Load(t, ":80 {\n\t"+text+"\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
