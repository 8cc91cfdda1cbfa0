package apidocs

import (
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Without a delay the first fetch is at once: zero and off say so, as the default does.
func TestNoDelay(t *testing.T) {
	for _, text := range []string{"0", "0s", "off"} {
		h := new(Handler)
		if err := h.unmarshal(caddyfile.NewTestDispenser("api_docs {\n delay "+text+"\n}"), nil); err != nil || h.Delay != 0 {
			t.Errorf("delay %s: %v, %v", text, h.Delay, err)
		}
	}
}
