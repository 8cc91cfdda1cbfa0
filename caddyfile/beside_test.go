package caddyfile_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
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
	named := func(lines string) string {
		return ":80 {\n@open path /users/docs /health\n@post method POST\n@some path /users/docs /api/users/docs\n\ntentagate {\nservice users http://users:8000\n" + lines + "\n}\n}"
	}
	for _, test := range []struct{ name, config, want string }{
		{"beside, behind", ":80 {\n" + gateway + "reverse_proxy x:1\n}", "reverse_proxy at Caddyfile:5 is never reached|handle|, at Caddyfile:2"},
		{"beside, in front", ":80 {\nreverse_proxy x:1\n" + gateway + "}", "reverse_proxy at Caddyfile:2 is never reached|, at Caddyfile:3"},
		{"beside, with a matcher", ":80 {\n" + gateway + "reverse_proxy /x/* x:1\n}", "reverse_proxy at Caddyfile:5"},
		{"files", ":80 {\n" + gateway + "file_server\n}", "file_server at Caddyfile:5"},
		{"in a handle", ":80 {\nhandle /a/* {\n" + gateway + "reverse_proxy x:1\n}\n}", "reverse_proxy at Caddyfile:6"},
		{"in a route, behind", ":80 {\nroute {\n" + gateway + "reverse_proxy x:1\n}\n}", "reverse_proxy at Caddyfile:6"},
		{"in a route, in front", ":80 {\nroute {\nreverse_proxy /x x:1\n" + gateway + "}\n}", ""},
		{"in another handle", ":80 {\nhandle /a/* {\nreverse_proxy x:1\n}\n" + gateway + "}", ""},
		{"in another site", ":80 {\n" + gateway + "}\n:81 {\nreverse_proxy x:1\n}", ""},
		{"in an order of the operator", "{\norder reverse_proxy before tentagate\n}\n:80 {\n" + gateway + "reverse_proxy /x x:1\n}", ""},
		{"in that order, behind", "{\norder reverse_proxy before tentagate\n}\n:80 {\n" + gateway + "file_server\n}", "file_server at Caddyfile:8"},
		{"in that order, in front", "{\norder reverse_proxy before tentagate\n}\n:80 {\n" + gateway + "reverse_proxy x:1\n}", "never reached, because reverse_proxy at Caddyfile:8|, at Caddyfile:5"},
		{"a breaker", ":80 {\n" + gateway + "circuit_breaker x\n}", "circuit_breaker at Caddyfile:5 is never reached"},
		{"in a handle, something behind", ":80 {\nhandle {\n" + gateway + "}\nreverse_proxy x:1\n}", "reverse_proxy at Caddyfile:7 is never reached, because handle at Caddyfile:2, with tentagate in it"},
		{"in a route, something behind", ":80 {\nroute {\n" + gateway + "}\nrespond no\n}", "respond at Caddyfile:7 is never reached"},
		{"in a handle in a route, something behind", ":80 {\nroute {\nhandle {\n" + gateway + "}\nrespond /x no\n}\n}", "respond at Caddyfile:8 is never reached"},
		{"behind a handle with a matcher", ":80 {\nhandle /api/* {\n" + gateway + "}\nreverse_proxy x:1\n}", ""},
		{"behind a handle with a named one", ":80 {\n@a path /api/*\nhandle @a {\n" + gateway + "}\nhandle {\nfile_server\n}\n}", ""},
		{"behind a handle_path", ":80 {\nhandle_path /a/* {\n" + gateway + "}\nhandle {\nrespond no\n}\nrespond no\n}", ""},
		{"respond", ":80 {\n" + gateway + "respond hello\n}", "never reached, because respond at Caddyfile:5 answers every request before it|`respond /path/*`|, at Caddyfile:2"},
		{"respond in front", ":80 {\nrespond hello 200\n" + gateway + "}", "because respond at Caddyfile:2"},
		{"redir", ":80 {\n" + gateway + "redir https://example.com{uri}\n}", "because redir at Caddyfile:5"},
		{"in a handle, a redir in front", ":80 {\nredir https://example.com\nhandle /x/* {\n" + gateway + "}\n}", "because redir at Caddyfile:2"},
		{"abort", ":80 {\n" + gateway + "abort\n}", "because abort at Caddyfile:5"},
		{"error", ":80 {\nerror 404\n" + gateway + "}", "because error at Caddyfile:2"},
		{"metrics", ":80 {\n" + gateway + "metrics\n}", "because metrics at Caddyfile:5"},
		{"a handle that answers", ":80 {\n" + gateway + "handle {\nheader X-Y z\nreverse_proxy x:1\n}\n}", "because handle at Caddyfile:5"},
		{"a route that answers", ":80 {\nroute {\nhandle {\nfile_server\n}\n}\n" + gateway + "}", "because route at Caddyfile:2"},
		{"a handle that does not", ":80 {\nhandle {\nheader X-Y z\nrespond /x no\n}\n" + gateway + "}", ""},
		{"files that pass", ":80 {\nhandle {\nfile_server {\npass_thru\n}\n}\n" + gateway + "}", ""},
		{"in a route, respond in front", ":80 {\nroute {\nrespond no\n" + gateway + "}\n}", "because respond at Caddyfile:3"},
		{"with matchers, in front", ":80 {\n@old path /old\nrespond /ping pong\nredir /a /b\nredir @old /new 301\nerror /x 404\nabort /y\nabort @old\nmetrics /m\nhandle @old {\nrespond no\n}\nhandle_path /z/* {\nrespond no\n}\n" + gateway + "}", ""},
		{"with matchers, behind", ":80 {\n" + gateway + "@old path /old\nrespond /ping pong\nredir /a /b\nredir @old /new 301\nerror @old 404\nabort @old\nmetrics /m\nhandle @old {\nrespond no\n}\nroute /z/* {\nrespond no\n}\n}", ""},
		{"a route with matchers", ":80 {\nroute {\n@x path /x\nheader X-Y z\nrespond @x hello\n" + gateway + "}\n}", ""},
		{"what does not answer", ":80 {\nencode gzip\nheader X-Y z\nratelimit 5/1m\n" + gateway + "log\nrequest_body {\nmax_size 1MB\n}\nhandle_errors {\nrespond no\n}\n}", ""},
		{"the service's option", inside("service x http://x:1 {\nlb_policy first\n}"), ""},

		{"no path of a service", inside("public /users/login"), `"/users/login" can match nothing|/api/users/login|, at Caddyfile:4`},
		{"nor in any case", inside("public /Users/*"), `"/Users/*" can match nothing`},
		{"the prefix alone", inside("public /api"), `"/api" can match nothing`},
		{"a health path", inside("public /api/users/login /health"), `"/health" can match nothing`},
		{"all of them", inside("public /api/*"), "public: /api/* would allow every request without a token: write `jwt off`|, at Caddyfile:4"},
		{"all of them by less", inside("public /api/users/login /a*"), "public: /a* would allow every request"},
		{"all of them, and more", inside("public /*"), "public: /* would allow every request"},
		{"a wildcard", inside("public /*/login /api/us* /api/users/*"), ""},
		{"upper case", inside("public /API/Users/login"), ""},
		{"a service that there is not", inside("public /api/orders/login"), ""}, // a warning
		{"a named matcher", named("public @open"), `public: "@open" can match nothing|, at Caddyfile:8`},
		{"a named matcher of a limit", named("ratelimit @open 5/1m"), `ratelimit: "@open" can match nothing|, at Caddyfile:8`},
		{"a named matcher of the cache", named("cache @open 5s"), `cache: "@open" can match nothing|, at Caddyfile:8`},
		{"a limit", inside("ratelimit /users/login 5/1m"), `ratelimit: "/users/login" can match nothing|, at Caddyfile:4`},
		{"a limit beside another", inside("ratelimit 5/1m\nratelimit /users/* {\nlimit 5/1m\n}"), `ratelimit: "/users/*" can match nothing|, at Caddyfile:5`},
		{"the cache", inside("cache /users/* 30s"), `cache: "/users/*" can match nothing|, at Caddyfile:4`},
		{"the cache with a block", inside("cache /users/* {\nttl 30s\n}"), `cache: "/users/*" can match nothing|, at Caddyfile:4`},
		{"matchers that can", named("public @some @post\nratelimit @post 5/1m\nratelimit @some 6/1m\nratelimit /api/users/login 7/1m\ncache @some 10s\ncache @post 10s\ncache /API/users/* 5s"), ""},

		{"a bypass of the cache", inside("cache {\nbypass @open /users/*\nbypass /users/*\n}"), `bypass: "/users/*" can match nothing|, at Caddyfile:5`},
		{"a bypass that can match", inside("cache {\nbypass /api/users/live/*\nbypass {\npath /api/users/*\nheader X-Live 1\n}\n}"), ""},
		{"a query in a path", inside("public /api/users/docs?page=1"), "public: \"/api/users/docs?page=1\" has a query|`path /api/users/docs`|`query page=1`|, at Caddyfile:4"},
		{"a path for one character", inside("public /api/users/doc?"), ""},
		{"no limit for some", inside("ratelimit /api/users/x off"), "ratelimit: /api/users/x off|`vars <matcher> cost 0`|`cost {vars.cost}`|, at Caddyfile:4"},
		{"no cache for some", inside("cache @x off"), "cache: @x off|`bypass <matcher>`|, at Caddyfile:4"},
		{"no ttl for some", inside("cache /api/users/live/* 0s\ncache /api/users/now/* 0\ncache 30s"), ""},
		{"no ttl in minutes", inside("cache 0m"), ""},
		{"no ttl in hours", inside("cache /api/users/live/* 0h"), ""},
		{"no percent of a ttl", inside("cache /api/users/live/* 0%"), "cache: /api/users/live/* 0%|`bypass <matcher>`"},
		{"no token for some", inside("jwt /api/users/x off"), "jwt: /api/users/x off|`public <matcher>`|, at Caddyfile:4"},

		{"bytes", inside("limits {\nmax_body_size 10\n}"), "max_body_size: 10 bytes is very small|10MiB|, at Caddyfile:5"},
		{"bytes that are meant", inside("limits {\nmax_body_size 10B\n}"), ""},
		{"many bytes", inside("limits {\nmax_body_size 65536\n}"), ""},

		{"none for off", inside("jwt none"), "write `jwt off`|, at Caddyfile:4"},
		{"no for off", inside("cache no"), "write `cache off`"},
		{"none of the metrics", inside("metrics none"), "write `metrics off`"},
		{"off of a switch", inside("ratelimit 5/1m {\nshadow off\n}"), "shadow: unexpected argument \"off\": it takes none: to switch it off, leave the line out"},
		{"an origin", inside("allowed_origins https://a.test b.test"), `origin "b.test"|https://|, at Caddyfile:4`},
		{"every origin and another", inside("allowed_origins https://a.test *"), "leave the others out|, at Caddyfile:4"},
		{"an option of a feature", inside("cache {\nstale_if_eror 1h\n}"), `unknown option "stale_if_eror"|, at Caddyfile:5`},
		{"a value of a feature", inside("ratelimit 100"), "has no period|, at Caddyfile:4"},
		{"an option of a service", inside("service x http://x:1 {\nlb_polici first\n}"), "lb_polici|, at Caddyfile:5"},
		{"in a snippet", "(gw) {\ntentagate {\nservice users http://users:8000\ncache {\nttl 60\n}\n}\n}\n:80 {\nimport gw\n}", "ttl|, at Caddyfile:5 import chain"},
	} {
		_, err := servertest.Adapt(test.config)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && err == nil:
			t.Errorf("%s: accepted", test.name)
		case test.want == "":
			continue
		default:
			for want := range strings.SplitSeq(test.want, "|") {
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
