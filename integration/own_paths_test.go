package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/freeport"
	"github.com/pythopus/tentagate/internal/servertest"
)

// A handler that answers certain paths is refused where no request for one of them comes.
func TestOwnPaths(t *testing.T) {
	t.Setenv("JWT_SECRET_KEY", secretOfMistakes)
	const gateway = "tentagate {\nservice u http://127.0.0.1:1\n}"
	for name, tc := range map[string]struct{ site, want string }{
		"a matcher for a path":         {"health /healthz", "health: no request for /health, /livez, /readyz reaches it: its matcher, or that of a block around it, is for /healthz; a path behind `health` is a matcher|at Caddyfile:5"},
		"a block of other paths":       {"handle /v1/* {\nhealth\n}", "is for /v1/*|at Caddyfile:6"},
		"in a route":                   {"@v path /v1/* /v2\nhandle @v {\nroute {\nhealth\n}\n}", "is for /v1/* /v2|at Caddyfile:8"},
		"a dashboard":                  {"dashboard /status", "dashboard: no request for /dashboard, /dashboard/ reaches it|its own path is set by path|at Caddyfile:5"},
		"the gateway":                  {"handle /v1/* {\n" + gateway + "\n}", "tentagate: no request for /api/ reaches it: its matcher, or that of a block around it, is for /v1/*"},
		"the gateway, a named matcher": {"@v path /users/*\nhandle @v {\n" + gateway + "\n}", "is for /users/*"},

		"one of its paths":           {"health /health", ""},
		"its paths in another case":  {"health /HEALTH", ""},
		"a set path":                 {"health /healthz {\npath /healthz\n}", ""},
		"a wildcard":                 {"handle /h* {\nhealth\n}", ""},
		"no path":                    {"@a host a.test\nhandle @a {\nhealth\n}", ""},
		"a path or else":             {"@a expression `path('/x') || method('GET')`\nhandle @a {\nhealth\n}", ""},
		"a prefix that is cut off":   {"handle_path /v1/* {\nhealth\n}", ""},
		"a rewrite in front":         {"route /v1/* {\nuri strip_prefix /v1\nhealth\n}", ""},
		"below the dashboard":        {"handle /dashboard/* {\ndashboard\n}", ""},
		"the gateway, its path":      {"handle /api/* {\n" + gateway + "\n}", ""},
		"the gateway, one service":   {"handle /api/u/* {\n" + gateway + "\n}", ""},
		"the gateway, by a wildcard": {"handle /a* {\n" + gateway + "\n}", ""},
		"the gateway, a host":        {"@a host a.test\nhandle @a {\n" + gateway + "\n}", ""},
		"the gateway, cut off":       {"handle_path /v1/* {\n" + gateway + "\n}", ""},
		"side by side":               {"handle /v1/* {\nrespond x\n}\nhandle {\n" + gateway + "\n}", ""},
	} {
		err := loadMistake("{\nadmin off\n}\nhttp://:80 {\n" + tc.site + "\n}")
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for part := range strings.SplitSeq(tc.want, "|") {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q in it", name, err, part)
			}
		}
	}
}

// What is accepted, and hardly meant, is a warning with its place.
func TestDoubtfulOptions(t *testing.T) {
	t.Setenv("JWT_SECRET_KEY", secretOfMistakes)
	const auth = "jwt_auth {env.JWT_SECRET_KEY}"
	const proxies = "servers {\ntrusted_proxies static 192.0.2.0/24\n}"
	for name, tc := range map[string]struct{ options, site, want string }{
		"a comma in a role":             {"", auth + " {\nroles any a,b\n}", "roles: a comma is part of the value"},
		"a comma in a scope":            {"", auth + " {\nscopes all read,write\n}", "scopes: a comma is part of the value"},
		"any role":                      {"", auth + " {\nroles any *\n}", "roles: * is compared as text"},
		"any scope":                     {"", auth + " {\nscopes any *\n}", "scopes: * is compared as text"},
		"a distinguished name":          {"", auth + " {\nroles any CN=admin,OU=x\n}", ""},
		"a cache of what is public":     {"", "route {\nroute /public/* {\nhttp_cache 60s\nreverse_proxy 127.0.0.1:9\n}\n" + auth + "\nrespond x\n}", ""},
		"a cache before authentication": {"", "route {\nhttp_cache 60s\n" + auth + "\nrespond x\n}", "http_cache is in front of jwt_auth"},
		"a cache behind it":             {"", "route {\n" + auth + "\nhttp_cache 60s\nrespond x\n}", ""},
		"authentication elsewhere":      {"", "route {\nhttp_cache 60s\njwt_auth /x {env.JWT_SECRET_KEY}\nrespond x\n}", ""},
		"purge from private networks":   {"", "http_cache {\npurge_method {\nallow private_ranges\n}\n}", "every client has the proxy's address and may purge"},
		"purge, not strict":             {proxies, "http_cache {\npurge_method {\nallow 198.51.100.7\n}\n}", "trusted_proxies_strict"},
		"purge by users":                {proxies, "http_cache {\npurge_method {\nusers ann\n}\n}", ""},
		"circuits that are not there":   {"", "reverse_proxy 127.0.0.1:1 127.0.0.1:2 {\nlb_policy available\ntransport tentagate\n}", "the transport has no breaker"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			servertest.Run(t, tc.options+"\nlog {\noutput file "+file+"\nlevel WARN\n}", "http://"+freeport.Addr(t)+" {\n"+tc.site+"\n}")
			text, err := os.ReadFile(file)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			switch {
			case tc.want == "" && strings.Contains(string(text), "http.handlers."):
				t.Errorf("warnings: %s", text)
			case !strings.Contains(string(text), tc.want):
				t.Errorf("warnings: %s, want %q", text, tc.want)
			}
		})
	}
}
