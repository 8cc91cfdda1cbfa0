package version

import (
	"strings"
	"testing"
)

// What the linker was told wins over what the build information says.
func TestLong(t *testing.T) {
	if got := Long(); !strings.HasPrefix(got, "TentaGate ") || !strings.HasSuffix(got, " with Caddy") {
		t.Errorf("without the linker's values: %q", got)
	}
	was := [2]string{linked, revision}
	t.Cleanup(func() { linked, revision = was[0], was[1] })
	linked, revision = "v1.2.3", "0123456789abcdef0123456789abcdef01234567"
	if got, want := findVersion(), "v1.2.3"; got != want {
		t.Errorf("version %q, want %q", got, want)
	}
	if got, want := findRevision(), revision; got != want {
		t.Errorf("revision %q, want %q", got, want)
	}
	if got, want := long("v1.2.3", revision), "TentaGate v1.2.3 (0123456789ab) with Caddy"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := long("", ""), "TentaGate devel with Caddy"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
