package caddyfile_test

import (
	"testing"

	"go.uber.org/zap"
)

// Of several handle blocks without a matcher Caddy runs the first: the others
// are reported, with both places.
func TestShadowedHandles(t *testing.T) {
	environment(t, "BACKEND_SERVICES=users=http://users:8000", "JWT_SECRET_KEY=0123456789abcdefghijklmnopqrstuvwxyz")
	for _, test := range []struct{ name, config, at, first string }{
		{"behind", ":80 {\nhandle {\ntentagate\n}\nhandle {\nrespond no\n}\n}", "Caddyfile:5", "Caddyfile:2"},
		{"in front", ":80 {\nhandle {\nheader X-Y z\n}\nhandle {\ntentagate\n}\n}", "Caddyfile:5", "Caddyfile:2"},
		{"with a matcher", ":80 {\nhandle /api/* {\ntentagate\n}\nhandle {\nrespond no\n}\n}", "", ""},
		{"the other with a matcher", ":80 {\nhandle {\ntentagate\n}\nhandle /x {\nrespond no\n}\n}", "", ""},
		{"a named matcher", ":80 {\n@x path /x\nhandle {\ntentagate\n}\nhandle @x {\nrespond no\n}\n}", "", ""},
		{"handle_path", ":80 {\nhandle {\ntentagate\n}\nhandle_path /x/* {\nrespond no\n}\n}", "", ""},
		{"another site", ":80 {\nhandle {\ntentagate\n}\n}\n:81 {\nhandle {\nrespond no\n}\n}", "", ""},
	} {
		logs, err := warnings(test.config)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		found := logs.FilterField(zap.String("at", test.at)).FilterField(zap.String("first", test.first)).Len()
		if all := logs.FilterFieldKey("first").Len(); test.at != "" && (found != 1 || all != 1) || test.at == "" && all != 0 {
			t.Errorf("%s: %d warnings, %d of them as wanted: %v", test.name, all, found, logs.All())
		}
	}
}
