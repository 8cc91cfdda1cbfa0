package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/parse"
)

// Whatever the options say, what is accepted passes the checks or is refused by
// them, and never breaks the engine.
func FuzzOptions(f *testing.F) {
	for _, text := range []string{
		"window 10s", "trip 50% of 20", "trip 100%", "consecutive 5", "slow 80% over 2s", "failure 5xx 429 transport timeout abort",
		"open_for 30s max 5m jitter 20%", "half_open 3 max 30s", "retry_after honor max 5m", "trip -1%", "trip NaN% of 1", "failure 600", "window 1ns",
	} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		var r Rules
		d := caddyfile.NewTestDispenser("rules {\n" + text + "\n}")
		d.Next()
		if parse.Block(d, r.Options()...) != nil {
			return
		}
		r.setDefaults()
		if r.check() != nil {
			return
		}
		b := circuit.New(r.settings(), source, nil)
		defer b.Close()
		for range 3 {
			if p, _, ok := b.Allow(); ok {
				b.Done(p, circuit.Result{Outcome: circuit.Failure})
			}
		}
	})
}

func FuzzFailures(f *testing.F) {
	for _, text := range []string{"5xx", "502 503", "4xx abort", "399", "600", "5XX", "+500", "0500"} {
		f.Add(text, 500)
	}
	f.Fuzz(func(t *testing.T, text string, status int) {
		failures, err := parseFailures(strings.Fields(text))
		if err == nil && failures.Status(status) == circuit.Failure && (status < 400 || status > 599) {
			t.Errorf("%q: status %d is a failure", text, status)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"1", "0", "-1", "99999999999999999999", "18446744073709551615", "Thu, 01 Jan 2026 00:01:00 GMT", "1.5", "", "1, 2"} {
		f.Add(text)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		failures := &Failures{retryAfter: time.Minute}
		if d := failures.RetryAfter(http.Header{"Retry-After": {text}}, now); d < 0 || d > time.Minute {
			t.Errorf("%q: %s", text, d)
		}
	})
}

func FuzzOrder(f *testing.F) {
	for _, text := range []string{
		`{"state":"open","for":"10m"}`, `{"state":"auto"}`, `{"state":"closed","for":"-1s"}`, `{"state":"open"} more`,
		`{"state":"open","x":1}`, `[]`, ``, `null`, `{"state":"open","for":"99999d"}`, `{"state":"open"}` + strings.Repeat(" ", maxForceBody) + "x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o forceRequest
		r := httptest.NewRequest(http.MethodPost, adminPath, strings.NewReader(text))
		if admin.ReadJSON(r, maxForceBody, &o, forceForm) != nil {
			return
		}
		state, d, err := o.evaluate()
		if err == nil && (d < 0 || d > maxForced || (d == 0) != (o.State == "auto") || state != circuit.Open && state != circuit.Closed) {
			t.Errorf("%q: %v for %s", text, state, d)
		}
		if err == nil && (len(text) > maxForceBody || !json.Valid([]byte(text))) {
			t.Errorf("%q is taken for an order", text)
		}
	})
}

func FuzzTarget(f *testing.F) {
	f.Add("/tentagate/breakers/a/b%2Fc")
	f.Add("/tentagate/breakers/%zz")
	f.Add("/tentagate/breakers?key=x&scope=service")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.NewRequest(http.MethodGet, text, nil)
		if err != nil {
			return
		}
		if got, err := parseTarget(r.URL); err == nil && !got.hasKey && got.key != "" {
			t.Errorf("%q: %+v", text, got)
		}
	})
}
