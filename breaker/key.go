package breaker

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/internal/resolve"
)

// checkKey refuses keys that cannot mean what the operator wants.
func checkKey(key string) error {
	for _, part := range []string{"uri}", "uri_escaped}", "path}", "uri.path", "uri.query", "{path", "{uri", "{query"} {
		if strings.Contains(key, part) {
			return fmt.Errorf("key %q: clients choose paths, and with them could make circuits without end; name what you mean, such as {vars.service}", key)
		}
	}
	if strings.Contains(key, "http.auth.") {
		return fmt.Errorf("key %q: a circuit stands for a backend, not for a user, and its key is shown in logs; name what you mean, such as {vars.service}", key)
	}
	return nil
}

// keyPart is a part of a key that is a host, which clients write in many ways,
// or some other text.
type keyPart struct {
	text string
	host hostname.Reader // nil: the text is for the replacer
}

// parseKey parts a key at its hosts. A key without any has no parts.
func parseKey(key string) (parts []keyPart) {
	rest := key
	for _, name := range resolve.Placeholders(key) {
		host, ok := hostname.Placeholder(name)
		if !ok {
			continue
		}
		before, after, found := strings.Cut(rest, "{"+name+"}")
		if !found {
			continue
		}
		parts = append(parts, keyPart{text: before}, keyPart{host: host})
		rest = after
	}
	if parts != nil {
		parts = append(parts, keyPart{text: rest})
	}
	return parts
}

// key returns the key of the circuit of a request.
func (h *Handler) key(r *http.Request, repl *caddy.Replacer) string {
	if h.Key == "" || repl == nil {
		return ""
	}
	if h.keyParts == nil {
		return repl.ReplaceAll(h.Key, "")
	}
	var b strings.Builder
	for _, part := range h.keyParts {
		if part.host != nil {
			b.WriteString(part.host(r))
		} else {
			b.WriteString(repl.ReplaceAll(part.text, ""))
		}
	}
	return b.String()
}
