package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// The error of an open time above its maximum names the option of JSON and that of a
// Caddyfile.
func TestOpenForAboveMax(t *testing.T) {
	r := Rules{OpenFor: caddy.Duration(10 * time.Minute), OpenMax: caddy.Duration(5 * time.Minute)}
	r.setDefaults()
	err := r.check()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"open_for 10m0s", "open_max, 5m0s", "`open_for 30s max 5m`"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}
