package running_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/pythopus/tentagate/internal/running"
)

// A line goes to the logs of the configuration that runs then, by their include and
// exclude, whichever ran when the logger was made.
func TestLogger(t *testing.T) {
	log := running.Logger("http.handlers.example").With(zap.String("with", "field"))
	dir := t.TempDir()
	t.Cleanup(func() { _ = caddy.Stop() })
	for _, name := range []string{"first", "second"} {
		file := filepath.Join(dir, name)
		config := fmt.Sprintf(`{"admin": {"disabled": true, "config": {"persist": false}}, "logging": {"logs": {
			"default": {"exclude": ["http"]},
			"requests": {"include": ["http"], "writer": {"output": "file", "filename": %q}}
		}}}`, file)
		if err := caddy.Load([]byte(config), true); err != nil {
			t.Fatal(err)
		}
		log.Warn("to the "+name, zap.Int("n", 1))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"logger":"http.handlers.example"`, `"msg":"to the ` + name + `"`, `"with":"field"`, `"n":1`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: the log has no %s: %s", name, want, text)
			}
		}
		if strings.Count(string(text), "\n") != 1 {
			t.Errorf("%s: more than one line: %s", name, text)
		}
	}
}
