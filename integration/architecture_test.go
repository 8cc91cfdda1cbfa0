package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The files and packages that the page about the architecture names exist.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository(), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("`((?:app|bench|breaker|caddyfile|cors|dashboard|guard|health|integration|internal|jwtauth|ratelimit|rediscache|telemetry)/[a-zA-Z0-9_/.]+)`").FindAllStringSubmatch(string(text), -1)
	if len(found) < 20 {
		t.Fatalf("only %d names found", len(found))
	}
	for _, name := range found {
		path := filepath.Join(repository(), name[1])
		if _, err := os.Stat(path); err == nil {
			continue
		}
		// `internal/…` in the row of a feature is that feature's.
		if matches, _ := filepath.Glob(filepath.Join(repository(), "*", name[1])); len(matches) == 0 {
			t.Errorf("%s does not exist", name[1])
		}
	}
}
