package rediscache

import (
	"context"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Each option is refused without its argument, with one too many, given twice,
// and with a value that it does not take.
func TestOptionMistakes(t *testing.T) {
	for option, tc := range map[string]struct{ good, bad string }{
		"ttl": {"60s", "soon"}, "max_error_ttl": {"1s", "0s"}, "memory": {"1MiB", "much"}, "max_object_size": {"1MiB", "-1"},
		"max_variants": {"5", "0"}, "store": {"memory", "disk"}, "stale_while_revalidate": {"1s", "x"}, "stale_if_error": {"1s", "-1s"},
		"stale_when_disconnected": {"1s", "x"}, "collapse_timeout": {"1s", "x"}, "fill_timeout": {"1s", "x"}, "hit_for_miss": {"1s", "x"},
		"jitter": {"10%", "60%"}, "set_cookie": {"strip", "keep"}, "request_directives": {"honour", "trust"}, "cache_status": {"off", "yes"},
		"profile": {"rfc9111", "strict"}, "tags": {"A B", ""}, "targets": {"A B", ""}, "hosts": {"a.test b.test", ""}, "namespace": {"shop", "{http.request.host}"},
		"invalidate_on_write": {"all", "below"}, "compress": {}, "lease": {}, "early_refresh": {}, "store_cors": {}, "match_type": {},
	} {
		parse := func(lines ...string) error {
			return new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("http_cache {\n" + strings.Join(lines, "\n") + "\n}"))
		}
		good := option + " " + tc.good
		if err := parse(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
		wrong := func(mistake, want string, lines ...string) {
			if err := parse(lines...); err == nil || !strings.Contains(err.Error(), option) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: got %v, want %q", option, mistake, err, want)
			}
		}
		wrong("twice", "given more than once", good, good)
		if tc.good != "" {
			wrong("missing", "missing argument", option)
		}
		if tc.bad != "" {
			wrong("value", tc.bad, option+" "+tc.bad)
		}
		if option != "ttl" && (tc.bad != "" || tc.good == "") {
			wrong("extra", "unexpected argument", good+" more")
		}
	}
}

func TestInvalidateOnWriteMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"segments":    "how many segments",
		"segments 0":  "from 1 to 16",
		"segments 17": "from 1 to 16",
		"segments x":  "from 1 to 16",
		"above 2":     "it takes none",
		"":            "missing argument",
	} {
		err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("http_cache {\ninvalidate_on_write " + line + "\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

// A Caddyfile may not mix what the JSON cannot either.
func TestProvisionMistakes(t *testing.T) {
	for want, h := range map[string]*Handler{
		"exclude each other":                     {Key: &KeyOptions{QueryAllow: []string{"a"}, QueryDeny: []string{"b"}}},
		"use per_user":                           {Key: &KeyOptions{Headers: []string{"authorization"}}},
		"jitter 0.7":                             {Jitter: 0.7},
		"ttl: must not":                          {TTL: -1},
		`cache_status: unknown value "x"`:        {CacheStatus: "x"},
		`profile: unknown value "x"`:             {Profile: "x"},
		"ttl 304":                                {StatusTTL: map[int]caddy.Duration{304: 1}},
		"no Redis is configured":                 {Store: storeRedis},
		"fill_timeout: must not":                 {FillTimeout: -1},
		`set_cookie: unknown value "x"`:          {SetCookie: "x"},
		`request_directives: unknown value "x"`:  {RequestDirectives: "x"},
		`invalidate_on_write: unknown value "x"`: {InvalidateOnWrite: "x"},
		"invalidate_segments 0":                  {InvalidateOnWrite: writeSegments},
		"invalidate_segments 17":                 {InvalidateOnWrite: writeSegments, InvalidateSegments: 17},
		"invalidate_segments 2":                  {InvalidateSegments: 2},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		err := h.Provision(ctx)
		cancel()
		_ = h.Cleanup()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
