package caddyfile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// FuzzDirective adapts arbitrary options and values of the environment: there
// is an error or a gateway, never a panic, and nothing that was written makes
// the gateway lose the handlers that guard it.
func FuzzDirective(f *testing.F) {
	files, _ := filepath.Glob("../integration/caddyfile_adapt/tentagate_*.caddyfiletest")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, block, _ := strings.Cut(string(text), "tentagate {\n")
		block, _, _ = strings.Cut(block, "\n\t}\n}")
		f.Add(block, "a=http://a", "https://a.example.com")
	}
	f.Add("", `{"a b":"http://a"}`, `["{"]`)
	f.Fuzz(func(t *testing.T, block, services, origins string) {
		if strings.ContainsAny(block+services+origins, "\x00") || strings.Contains(block, "{$") || strings.Contains(block, "import") {
			return
		}
		environment(t, "BACKEND_SERVICES="+services, "ALLOWED_ORIGINS="+origins)
		config, err := servertest.Adapt(":80 {\n\ttentagate {\n" + block + "\n\t}\n}\n")
		if err != nil {
			return
		}
		text := string(config)
		if !json.Valid(config) {
			t.Fatalf("no JSON: %s", text)
		}
		if !strings.Contains(text, `"strip_path_prefix":"/api/`) {
			return // the block ended early, and something else is written behind it
		}
		for _, handler := range []string{"guard", "problem", "jwt_auth"} {
			if !strings.Contains(text, `"handler":"`+handler+`"`) && !strings.Contains(block, "off") {
				t.Errorf("no %s in %s", handler, text)
			}
		}
		if services != "" && strings.Count(text, `"handler":"guard"`) != 1 {
			t.Errorf("more than one gateway in %s", text)
		}
	})
}
