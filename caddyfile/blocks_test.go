package caddyfile_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// An error about a block as a whole names the line on which it begins, not that of
// its closing brace. `#` marks that line.
func TestBlockErrorsNameTheFirstLine(t *testing.T) {
	environment(t, "BACKEND_SERVICES=", "JWT_SECRET_KEY=", "MAX_IN_FLIGHT=many")
	site := func(lines string) string { return ":80 {\n" + lines + "\n}" }
	for name, config := range map[string]string{
		"ratelimit":         site("ratelimit { #\nzone a\n}"),
		"tier":              site("ratelimit {\ntier {http.auth.user.plan} { #\n}\n}"),
		"cors":              site("cors { #\nmax_age 1h\n}"),
		"jwt_auth":          site("jwt_auth { #\noptional\n}"),
		"jwt_auth, both":    site("jwt_auth { #\nsecret {env.A}\nprovider b {\nsecret {env.B}\n}\n}"),
		"deny_list":         site("jwt_auth {\nsecret {env.A}\ndeny_list { #\nttl 400d\n}\n}"),
		"dpop":              site("jwt_auth {\nsecret {env.A}\ndpop { #\nmax_age 3h\n}\n}"),
		"resource_metadata": site("jwt_auth {\nsecret {env.A}\nresource_metadata { #\nscopes_supported a\n}\n}"),
		"bypass":            site("http_cache 60s {\nbypass { #\n}\n}"),
		"purge_method":      site("http_cache 60s {\npurge_method { #\n}\n}"),
		"open":              site("circuit_breaker x {\nopen { #\n}\n}"),
		"lb_policy":         site("reverse_proxy a:1 {\nlb_policy available { #\nfoo bar\n}\n}"),
		"redis":             "{\ntentagate {\nredis redis://a:1 redis://b:1 { #\nsentinel m\ncluster\n}\n}\n}\n" + site("respond ok"),
		"tentagate":         site("tentagate { #\nservice a http://a:1\njwt off\npublic /api/a/x\n}"),
		"tentagate, limits": site("tentagate { #\nservice a http://a:1\njwt off\n}"),
	} {
		before, _, _ := strings.Cut(config, "#")
		want := ", at Caddyfile:" + strconv.Itoa(1+strings.Count(before, "\n"))
		_, err := servertest.Adapt(strings.Replace(config, " #", "", 1))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if places := regexp.MustCompile(`, at [^ ]+:\d+`).FindAllString(err.Error(), -1); len(places) == 0 || places[0] != want {
			t.Errorf("%s: want %q: %v", name, want, err)
		}
	}
}

// A handler that is for all requests stands once in a block. Elsewhere, or with a
// matcher, there may be another.
func TestOncePerBlock(t *testing.T) {
	environment(t, "BACKEND_SERVICES=", "JWT_SECRET_KEY=0123456789abcdefghijklmnopqrstuvwxyz", "ALLOWED_ORIGINS=")
	const inside = "service a http://a:1\n"
	for name, tc := range map[string]struct{ config, want string }{
		"cors":                  {":80 {\ncors https://a.test\ncors https://b.test\n}", "cors: given more than once in one block, and first at Caddyfile:2: |, at Caddyfile:3"},
		"cors *":                {":80 {\ncors *\ncors https://b.test\n}", "first at Caddyfile:2|, at Caddyfile:3"},
		"http_cache":            {":80 {\nhttp_cache 60s\nhttp_cache * 30s {\nmemory 1MiB\n}\n}", "http_cache: given more than once|first at Caddyfile:2|, at Caddyfile:3"},
		"guard":                 {":80 {\nhandle /x {\nguard\nguard\n}\n}", "guard: given more than once|first at Caddyfile:3|, at Caddyfile:4"},
		"in a snippet":          {"(a) {\nguard\n}\n:80 {\nimport a\nguard\n}", "first at Caddyfile:2|, at Caddyfile:6"},
		"beside tentagate":      {":80 {\ncors https://a.test\ntentagate {\n" + inside + "allowed_origins https://b.test\n}\n}", "tentagate: cors at Caddyfile:2 is in the same block|`cors off`|, at Caddyfile:3"},
		"behind tentagate":      {":80 {\ntentagate {\n" + inside + "}\nhttp_cache 60s\n}", "first at Caddyfile:2|, at Caddyfile:5"},
		"off in tentagate":      {":80 {\nhttp_cache 60s\ncors https://a.test\ntentagate {\n" + inside + "cache off\ncors off\n}\n}", ""},
		"no origins":            {":80 {\ncors https://a.test\ntentagate {\n" + inside + "}\n}", ""},
		"two sites":             {":80 {\nguard\nhttp_cache\n}\n:81 {\nguard\nhttp_cache\n}", ""},
		"two sites in one file": {"{\nadmin off\n}\na.test {\ncors https://a.test\n}\nb.test {\ncors https://a.test\n}", ""},
		"matchers":              {":80 {\n@a path /a\ncors @a https://a.test\ncors /b https://b.test\ncors https://c.test\nhttp_cache /a 60s\nhttp_cache 30s\n}", ""},
		"blocks":                {":80 {\nhttp_cache 60s\nhandle /a {\nhttp_cache 5s\n}\nhandle /b {\nhttp_cache 6s\n}\nhandle {\nhttp_cache 7s\n}\n}", ""},
	} {
		_, err := servertest.Adapt(tc.config)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && err == nil:
			t.Errorf("%s: accepted", name)
		case tc.want != "":
			for want := range strings.SplitSeq(tc.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: got %v, want %q in it", name, err, want)
				}
			}
		}
	}
}
