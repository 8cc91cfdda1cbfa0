package ratelimit

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Two lists of values that differ make two keys, whatever is in them; no value
// makes a key that is made here for anonymous clients.
func FuzzKey(f *testing.F) {
	f.Add("{a}-{b}", "x", "y", "x-y", "")
	f.Add("{a}", "\x01ip:192.0.2.1", "", strings.Repeat("x", 300), "")
	f.Add("user {a}|{b}", "|", "%7C", "%7C", "|")
	f.Fuzz(func(t *testing.T, text, a1, b1, a2, b2 string) {
		tmpl, err := parseTemplate([]string{text})
		if err != nil {
			return
		}
		uses := map[string]bool{}
		for _, p := range tmpl.parts {
			uses[p.placeholder] = true
		}
		render := func(a, b string) (string, bool) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			repl := caddy.NewEmptyReplacer()
			r = caddyhttp.PrepareRequest(r, repl, nil, &caddyhttp.Server{})
			repl = caddy.NewEmptyReplacer()
			repl.Set("a", a)
			repl.Set("b", b)
			return tmpl.render(r, repl, 64)
		}
		k1, ok1 := render(a1, b1)
		k2, ok2 := render(a2, b2)
		for _, k := range []string{k1, k2} {
			if len(k) > maxKeyLen {
				t.Fatalf("a key of %d bytes", len(k))
			}
			if strings.HasPrefix(k, ownPrefix+"ip:") {
				t.Fatalf("%q forges the key of an anonymous client", k)
			}
		}
		if !ok1 || !ok2 {
			return
		}
		differ := uses["a"] && a1 != a2 || uses["b"] && b1 != b2
		if differ && k1 == k2 {
			t.Fatalf("%q: %q,%q and %q,%q make the same key %q", text, a1, b1, a2, b2, k1)
		}
		if !differ && k1 != k2 {
			t.Fatalf("%q: equal values make %q and %q", text, k1, k2)
		}
	})
}

// What is sent parses as the structured fields of the draft, with the values
// that were meant.
func FuzzHeaders(f *testing.F) {
	f.Add("api", "100/1m", "10/1s burst 20", "5/month", int64(3), int64(1_500_000_000))
	f.Add("a.b-c_d", "7/90s", "", "", int64(0), int64(1))
	f.Fuzz(func(t *testing.T, zone, one, two, three string, remaining, reset int64) {
		if _, err := checkedZone(zone); err != nil || remaining < 0 || remaining > 999_999_999_999_999 || reset < 0 {
			return
		}
		var limits []gcra.Limit
		for _, text := range []string{one, two} {
			if l, err := gcra.ParseLimit(text); err == nil {
				limits = append(limits, l)
			}
		}
		var quotas []gcra.Quota
		if q, err := gcra.ParseQuota(three); err == nil {
			quotas = append(quotas, q)
		}
		plan, err := gcra.NewPlan(gcra.Rate, limits, quotas)
		if err != nil {
			return
		}
		names := policyNames(zone, plan)
		policies, err := httpsfv.UnmarshalList([]string{policyField(names, plan)})
		if err != nil || len(policies) != plan.Len() {
			t.Fatalf("RateLimit-Policy %q: %v", policyField(names, plan), err)
		}
		d := gcra.Decision{Len: plan.Len()}
		for i := range d.Len {
			d.Meters[i] = gcra.Meter{Remaining: remaining, Reset: reset}
		}
		field := string(appendLimits(nil, names, &d))
		list, err := httpsfv.UnmarshalList([]string{field})
		if err != nil || len(list) != plan.Len() {
			t.Fatalf("RateLimit %q: %v", field, err)
		}
		seen := map[string]bool{}
		for i := range list {
			item, limit := policies[i].(httpsfv.Item), list[i].(httpsfv.Item)
			if item.Value != limit.Value || item.Value != names[i] || seen[names[i]] {
				t.Fatalf("%q and %q", policyField(names, plan), field)
			}
			seen[names[i]] = true
			if q, ok := item.Params.Get("q"); !ok || q.(int64) < 1 {
				t.Fatalf("q of %q", policyField(names, plan))
			}
			if w, ok := item.Params.Get("w"); ok && w.(int64) < 1 {
				t.Fatalf("w of %q", policyField(names, plan))
			}
			r, _ := limit.Params.Get("r")
			at, _ := limit.Params.Get("t")
			if r.(int64) != remaining || at.(int64) < 0 || at.(int64)*1_000_000_000 < reset-reset%1_000_000_000 {
				t.Fatalf("%q for %d, %d", field, remaining, reset)
			}
		}
	})
}

func FuzzStatuses(f *testing.F) {
	f.Add("401")
	f.Add("5xx")
	f.Fuzz(func(t *testing.T, s string) {
		set, err := parseStatuses([]string{s})
		n := 0
		for i := range set {
			if set[i] {
				n++
			}
		}
		if err == nil && n != 1 && n != 100 {
			t.Fatalf("%q is %d codes", s, n)
		}
	})
}
