package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what the Caddyfiles name

	_ "github.com/pythopus/tentagate"
)

var update = flag.Bool("update", false, "write the adapted JSON into the caddyfiletest files in which JSON is expected")

// separator stands on a line between a Caddyfile and what it adapts to.
const separator = "----------"

// TestAdapt adapts the Caddyfile of each file in caddyfile_adapt and compares
// the result with the rest of the file: JSON, or a part of the error. A comment
// `# env NAME=value` in the Caddyfile sets an environment variable. With
// -update, JSON is written instead of compared; an empty file behind the
// separator becomes JSON too.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("caddyfile_adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut("\n"+string(text), "\n"+separator+"\n")
			if !ok {
				t.Fatalf("no line %s", separator)
			}
			input, want = strings.TrimSpace(input)+"\n", strings.TrimSpace(want)
			setEnvironment(t, input)
			if formatted := caddyfile.Format([]byte(input)); string(formatted) != input && !strings.Contains(file, "_error_") {
				t.Errorf("the Caddyfile is not formatted: want\n%s", formatted)
			}
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
			if !strings.HasPrefix(want, "{") && !(want == "" && *update) {
				switch {
				case want == "":
					t.Errorf("nothing is expected; run the tests with -update")
				case err == nil:
					t.Errorf("it was accepted, want an error with\n%s", want)
				case !strings.Contains(err.Error(), want):
					t.Errorf("got the error\n%v\nwant one with\n%s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, warning := range warnings {
				t.Errorf("warning: %s", warning)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, adapted, "", "\t"); err != nil {
				t.Fatal(err)
			}
			if got.String() == want {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+"\n"+got.String()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s", firstDifference(want, got.String()))
		})
	}
}

// setEnvironment gives a Caddyfile the environment that its comments ask for,
// and nothing of the tester's own that a directive looks at.
func setEnvironment(t testing.TB, input string) {
	t.Helper()
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		for _, known := range []string{"JWT_", "ALLOWED_ORIGINS", "BACKEND_SERVICES", "REDIS_URL", "TENTAGATE_"} {
			if strings.HasPrefix(name, known) || strings.HasSuffix(name, "_SERVICE_URL") {
				t.Setenv(name, "")
			}
		}
	}
	for line := range strings.SplitSeq(input, "\n") {
		if assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "# env "); ok {
			name, value, _ := strings.Cut(assignment, "=")
			t.Setenv(name, value)
		}
	}
}

// firstDifference shows the lines around the first one that differs.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	part := func(lines []string) string {
		return strings.Join(lines[min(max(at-3, 0), len(lines)):min(at+6, len(lines))], "\n")
	}
	return "the first difference: got\n" + part(b) + "\nwant\n" + part(a)
}
