package ratelimit

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	h := new(Handler)
	err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(`ratelimit 100/1m {
		zone api
		key {http.auth.user.id} {http.request.host}
		limit 10/1s burst 20
		limit 1000/1h
		quota 1000000/month
		store memory
		tier {http.auth.user.plan} {
			gold 1000/1m
			gold 50/1s
			staff unlimited
		}
		exempt 10.0.0.0/8 private_ranges
		cost {http.request.header.X-Cost}
		count status 401 403 5xx
		max_concurrent 10
		delay 250ms 50
		shadow
		headers both
		max_keys 1000
		ipv6_prefix 56
		budget 10ms
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.Limits, "; "); got != "100/1m; 10/1s burst 20; 1000/1h" {
		t.Errorf("limits %s", got)
	}
	provision(t, h)
	for text, want := range map[string]string{
		"ratelimit":                                              "no limit",
		"ratelimit 100":                                          "no period",
		"ratelimit 100/1m burst":                                 "is not a limit",
		"ratelimit 1/1m {\n zone\n}":                             "missing argument",
		"ratelimit 1/1m {\n zone a b\n}":                         "unexpected argument",
		"ratelimit 1/1m {\n zone a\n zone b\n}":                  "more than once",
		"ratelimit 1/1m {\n zone a/b\n}":                         "accepted are",
		"ratelimit 1/1m {\n windows 3\n}":                        "unknown option",
		"ratelimit 1/1m {\n algorithm leaky\n}":                  "accepted are gcra and sliding_window",
		"ratelimit 1/1m {\n exempt ten\n}":                       "is not an address",
		"ratelimit 1/1m {\n count 401\n}":                        "write `count status <code or class…>`",
		"ratelimit 1/1m {\n count status 999\n}":                 "status code",
		"ratelimit 1/1m {\n delay 2m\n}":                         "at most 1m",
		"ratelimit 1/1m {\n cost -1\n}":                          "whole number",
		"ratelimit 1/1m {\n key {a\n}":                           "closing brace",
		"ratelimit {\n tier plan {\n a 1/1m\n}\n}":               "not a placeholder",
		"ratelimit {\n tier {p} {\n a 1/1m\n a unlimited\n}\n}":  "unlimited excludes other limits",
		"ratelimit {\n tier {p} {\n}\n}":                         "no limits",
		"ratelimit 1/1m {\n ipv6_prefix 129\n}":                  "1 to 128",
		"ratelimit 1/1m {\n shadow on\n}":                        "takes none",
		"ratelimit 1/1m {\n quota 5/fortnight\n}":                "unknown period",
		"ratelimit 1/1m {\n max_concurrent 0\n}":                 "whole number from 1",
		"ratelimit 1/1m {\n on_store_error open\n}":              "accepted are local, allow and deny",
		"ratelimit 1/1m {\n budget soon\n}":                      "not a duration",
		"ratelimit 1/1m {\n tier {p} {\n a 1/1m\n a 1/60s\n}\n}": "more than once",
	} {
		err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not say %q", text, err, want)
		}
	}
}

// Zero and off mean off where an option has that.
func TestOff(t *testing.T) {
	for _, text := range []string{"delay off", "delay 0", "delay 0s", "max_concurrent off"} {
		h := new(Handler)
		err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("ratelimit 1/1m {\n " + text + "\n}"))
		if err != nil || h.Delay != 0 || h.MaxConcurrent != 0 {
			t.Errorf("%s: %v, %+v", text, err, h)
		}
	}
	for text, want := range map[string]string{
		"budget 0": "above zero", "max_concurrent 0": "; to disable it, write off", "max_keys 0": "from 1", "exempt off": "is not an address", "cost 0": "0 would count no request", "cost -1": "whole number from 1",
		"zone off": "choose another, or leave the line out", "zone {http.request.host}": "write `key {http.request.host}`", "zone {env.ZONE}": "written {$ZONE} here",
		"count off": "leave the line out", "quota off": "leave the line out",
	} {
		if err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("ratelimit 1/1m {\n " + text + "\n}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestProvisionErrors(t *testing.T) {
	for want, h := range map[string]*Handler{
		"no limit":                 {},
		"store redis":              {Limits: []string{"1/1m"}, Store: storeRedis},
		"together with the tier *": {Limits: []string{"1/1m"}, Tier: &Tier{Key: "{p}", Limits: map[string][]string{"*": {"1/1m"}}}},
		"is not a placeholder":     {Limits: []string{"1/1m"}, Tier: &Tier{Key: "p", Limits: map[string][]string{"*": {"1/1m"}}}},
		"cannot delay":             {Limits: []string{"1/1m"}, Algorithm: algorithmWindow, Delay: caddy.Duration(time.Second)},
		"its count is at most":     {Limits: []string{"100000/1m"}, Algorithm: algorithmWindow},
		"zone: \"a b\"":            {Limits: []string{"1/1m"}, Zone: "a b"},
		"algorithm: unknown value": {Limits: []string{"1/1m"}, Algorithm: "x"},
		"max_keys":                 {Limits: []string{"1/1m"}, MaxKeys: -1},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		err := h.Provision(ctx)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
		_ = h.Cleanup()
		cancel()
	}
}

// A bare name is refused only if the whole key is the same for all clients.
func TestBareNamesInKeys(t *testing.T) {
	for _, tc := range []struct {
		key []string
		ok  bool
	}{
		{[]string{"user"}, false},
		{[]string{"ip", "host"}, false},
		{[]string{"user", "{http.auth.user.id}"}, true},
		{[]string{"{client_ip}", "host"}, true},
	} {
		if err := (&Handler{Key: tc.key}).checkKey(); (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.key, err)
		}
	}
}
