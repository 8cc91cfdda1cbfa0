package caddyfile_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/servertest"
)

// warnings adapts a Caddyfile and returns what is logged meanwhile.
func warnings(config string) (*observer.ObservedLogs, error) {
	core, logs := observer.New(zap.WarnLevel)
	_, before, buffer := caddy.BufferedLog()
	_, err := servertest.Adapt(config)
	buffer.FlushTo(zap.New(core))
	caddy.UnbufferDefaultLogger(before)
	return logs, err
}

// Two directives with one name are reported, with both places; one that is imported
// twice is meant, and names that nobody wrote are never equal.
func TestEqualNames(t *testing.T) {
	environment(t, "BACKEND_SERVICES=users=http://users:8000", "JWT_SECRET_KEY=0123456789abcdefghijklmnopqrstuvwxyz")
	for _, test := range []struct{ name, config, first, second string }{
		{"two sites", ":80 {\ntentagate x\n}\n:81 {\ntentagate x\n}", "Caddyfile:2", "Caddyfile:5"},
		{"two handles", ":80 {\nhandle /a/* {\ntentagate x\n}\nhandle /b/* {\ntentagate x\n}\n}", "Caddyfile:3", "Caddyfile:6"},
		{"a site's own", "http://a.test {\ntentagate\n}\n:81 {\ntentagate a.test\n}", "Caddyfile:2", "Caddyfile:5"},
		{"different", ":80 {\ntentagate x\n}\n:81 {\ntentagate y\n}", "", ""},
		{"none", ":80 {\ntentagate\n}\n:81 {\ntentagate\n}", "", ""},
		{"a snippet", "(gw) {\ntentagate x\n}\nhttp://a.test {\nimport gw\n}\nhttp://b.test {\nimport gw\n}", "", ""},
	} {
		logs, err := warnings(test.config)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		found := logs.FilterField(zap.String("first", test.first)).FilterField(zap.String("second", test.second)).Len()
		if all := logs.FilterFieldKey("second").Len(); test.first != "" && found != 1 || test.first == "" && all != 0 {
			t.Errorf("%s: %d warnings, %d of them as wanted: %v", test.name, all, found, logs.All())
		}
	}
}
