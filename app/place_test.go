package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// An error names what the operator has to change, the variable or the option with its
// place, also if another module has the app loaded.
func TestErrorsNameTheirOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://127.0.0.1:99999"), 0o600); err != nil {
		t.Fatal(err)
	}
	const own = `{"redis":{"urls":["{env.REDIS_URL}"],"position":"Caddyfile:3"}}`
	for _, tc := range []struct{ name, config, url, file, want string }{
		{"the variable", "", "localhost:6379", "", "REDIS_URL: address 1 of 1: it has no scheme: accepted are redis://"},
		{"a blank variable", "", "  ", "", "REDIS_URL: it contains only white space: set a value, or unset it"},
		{"off", "", "off", "", `REDIS_URL: address 1 of 1: "off" is not an address: leave it out`},
		{"the file", "", "", file, `REDIS_URL_FILE: address 1 of 1: port "99999" is not a number`},
		{"a file that is missing", "", "", file + "x", "REDIS_URL_FILE: address: {file." + file + "x} is empty"},
		{"both", "", "redis://127.0.0.1:1", file, "REDIS_URL: REDIS_URL and REDIS_URL_FILE are both set"},
		{"the option", own, "localhost:6379", "", "redis: address 1 of 1: {env.REDIS_URL}: it has no scheme"},
		{"the option, a second address", own, "redis://a:1,localhost:6379", "", "redis: address 2 of 2: {env.REDIS_URL}: it has no scheme"},
		{"the option, with the file", own, "", file, `redis: address 1 of 1: {file.` + file + `}: port "99999"`},
		{"the option, blank", own, " ", "", "redis: address: {env.REDIS_URL} is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("REDIS_URL", tc.url)
			t.Setenv("REDIS_URL_FILE", tc.file)
			a := new(App)
			if tc.config != "" {
				if err := json.Unmarshal([]byte(tc.config), a); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			err := a.Provision(ctx)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want[:5]) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if atPlace := strings.HasSuffix(err.Error(), ", at Caddyfile:3"); atPlace != (tc.config != "") {
				t.Errorf("the place of the option: %v", err)
			}
		})
	}
}

// The file that REDIS_URL_FILE names stands in for the variable that is not set.
func TestFileInPlaceOfVariable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://127.0.0.1:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REDIS_URL", "")
	t.Setenv("REDIS_URL_FILE", file)
	a, cancel := provision(t, "tentagate {\nredis {env.REDIS_URL}\n}")
	defer cancel()
	defer func() { _ = a.Cleanup() }()
	if a.Redis() == nil {
		t.Error("everything is in memory")
	}
}
