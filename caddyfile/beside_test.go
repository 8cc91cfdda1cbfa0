package caddyfile_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// What would never be asked, what can match nothing and what was hardly meant
// are refused, with the line and the mend; an error has one place, that of the
// line with the mistake.
func TestMistakes(t *testing.T) {
	environment(t, "BACKEND_SERVICES=", "JWT_SECRET_KEY=0123456789abcdefghijklmnopqrstuvwxyz")
	const gateway = "tentagate {\nservice users http://users:8000\n}\n"
	inside := func(lines string) string {
		return ":80 {\ntentagate {\nservice users http://users:8000\n" + lines + "\n}\n}"
	}
	for _, test := range []struct{ name, config, want string }{
		{"beside, behind", ":80 {\n" + gateway + "reverse_proxy x:1\n}", "reverse_proxy at Caddyfile:5 is never asked|handle|, at Caddyfile:2"},
		{"beside, in front", ":80 {\nreverse_proxy x:1\n" + gateway + "}", "reverse_proxy at Caddyfile:2 is never asked|, at Caddyfile:3"},
		{"beside, with a matcher", ":80 {\n" + gateway + "reverse_proxy /x/* x:1\n}", "reverse_proxy at Caddyfile:5"},
		{"files", ":80 {\n" + gateway + "file_server\n}", "file_server at Caddyfile:5"},
		{"in a handle", ":80 {\nhandle /a/* {\n" + gateway + "reverse_proxy x:1\n}\n}", "reverse_proxy at Caddyfile:6"},
		{"in a route, behind", ":80 {\nroute {\n" + gateway + "reverse_proxy x:1\n}\n}", "reverse_proxy at Caddyfile:6"},
		{"in a route, in front", ":80 {\nroute {\nreverse_proxy /x x:1\n" + gateway + "}\n}", ""},
		{"in another handle", ":80 {\nhandle /a/* {\nreverse_proxy x:1\n}\n" + gateway + "}", ""},
		{"in another site", ":80 {\n" + gateway + "}\n:81 {\nreverse_proxy x:1\n}", ""},
		{"in an order of the operator", "{\norder reverse_proxy before tentagate\n}\n:80 {\n" + gateway + "reverse_proxy /x x:1\n}", ""},
		{"in that order, behind", "{\norder reverse_proxy before tentagate\n}\n:80 {\n" + gateway + "file_server\n}", "file_server at Caddyfile:8"},
		{"the service's option", inside("service x http://x:1 {\nlb_policy first\n}"), ""},

		{"no path of a service", inside("public /users/login"), `"/users/login" can match nothing|/api/users/login|, at Caddyfile:4`},
		{"nor in any case", inside("public /Users/*"), `"/Users/*" can match nothing`},
		{"the prefix alone", inside("public /api"), `"/api" can match nothing`},
		{"a health path", inside("public /api/users/login /health"), `"/health" can match nothing`},
		{"all of them", inside("public /api/*"), ""},
		{"a wildcard", inside("public /a* /*/login /api/us*"), ""},
		{"upper case", inside("public /API/Users/login"), ""},
		{"a service that there is not", inside("public /api/orders/login"), ""}, // a warning

		{"bytes", inside("limits {\nmax_body_size 10\n}"), "max_body_size: 10 bytes are too few|10MiB|, at Caddyfile:5"},
		{"bytes that are meant", inside("limits {\nmax_body_size 10B\n}"), ""},
		{"many bytes", inside("limits {\nmax_body_size 65536\n}"), ""},

		{"an origin", inside("allowed_origins https://a.test b.test"), `origin "b.test"|https://|, at Caddyfile:4`},
		{"every origin and another", inside("allowed_origins https://a.test *"), "leave the others out|, at Caddyfile:4"},
		{"an option of a feature", inside("cache {\nstale_if_eror 1h\n}"), `unknown option "stale_if_eror"|, at Caddyfile:5`},
		{"a value of a feature", inside("ratelimit 100"), "has no period|, at Caddyfile:4"},
		{"an option of a service", inside("service x http://x:1 {\nlb_polici first\n}"), "lb_polici|, at Caddyfile:5"},
		{"in a snippet", "(gw) {\ntentagate {\nservice users http://users:8000\ncache {\nttl 60\n}\n}\n}\n:80 {\nimport gw\n}", "ttl|, at Caddyfile:5 import chain"},
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(test.config), map[string]any{"filename": "Caddyfile"})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && err == nil:
			t.Errorf("%s: accepted", test.name)
		case test.want == "":
			continue
		default:
			for _, want := range strings.Split(test.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: got %v, want %q in it", test.name, err, want)
				}
			}
			if places := regexp.MustCompile(`, at [^ ]+:\d+`).FindAllString(err.Error(), -1); len(places) != 1 && !strings.HasPrefix(test.name, "in a ") { // Caddy's own blocks add theirs
				t.Errorf("%s: places %q: %v", test.name, places, err)
			}
		}
	}
}
