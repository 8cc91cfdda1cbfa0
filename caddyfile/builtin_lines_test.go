package caddyfile

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// What is wrong in the built-in Caddyfile is named by the line that
// --print-caddyfile prints, and what is in a variable of several lines by that and
// its line.
func TestBuiltinLines(t *testing.T) {
	var printed bytes.Buffer
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	if err := (&gatewayCommand{print: true}).run(&printed); err != nil {
		t.Fatal(err)
	}
	lineOf := func(text string) string {
		for i, line := range strings.Split(printed.String(), "\n") {
			if strings.TrimSpace(line) == text {
				return "built-in Caddyfile:" + strconv.Itoa(i+1)
			}
		}
		t.Fatalf("%q is not printed", text)
		return ""
	}
	for _, tc := range []struct{ name, options, global, site, services, want string }{
		{"the directive", "", "", "", "", ", at " + lineOf("tentagate {")},
		{"behind several lines", "", "debug\n# x\n\n", "", "", ", at " + lineOf("tentagate {")},
		{"an option", "ratelimit 5/1m\ncache 60", "debug\n# x", "", "users=http://u", ", at TENTAGATE_OPTIONS:2"},
		{"the first option", "cache 60", "", "", "users=http://u", ", at TENTAGATE_OPTIONS:1"},
		{"a directive of the site", "ratelimit 5/1m\ncache 60s", "debug\n# x", "encode gzip\n\nratelimit 5/1x", "users=http://u", ", at CADDY_SERVER_EXTRA_DIRECTIVES:3"},
		{"a global option", "", "debug\nfoo", "", "users=http://u", "CADDY_GLOBAL_OPTIONS:2: unrecognized global option: foo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("TENTAGATE_OPTIONS", tc.options)
			t.Setenv("CADDY_GLOBAL_OPTIONS", tc.global)
			t.Setenv("CADDY_SERVER_EXTRA_DIRECTIVES", tc.site)
			t.Setenv("BACKEND_SERVICES", tc.services)
			if _, err := adapt(builtin); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	// Errors that are found later have their place from the configuration.
	t.Setenv("BACKEND_SERVICES", "users=http://u")
	t.Setenv("TENTAGATE_OPTIONS", "ratelimit 5/1m\n\njwt {\naudience {env.NOT_SET}\n}")
	t.Setenv("CADDY_SERVER_EXTRA_DIRECTIVES", "")
	t.Setenv("CADDY_GLOBAL_OPTIONS", "# a\n# b")
	config, err := adapt(builtin)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"position":"` + lineOf("tentagate {") + `"`, `"position":"TENTAGATE_OPTIONS:1"`, `"position":"TENTAGATE_OPTIONS:3"`} {
		if !strings.Contains(string(config), want) {
			t.Errorf("the configuration has no %s", want)
		}
	}
}
