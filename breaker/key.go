package breaker

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/resolve"
)

// checkKey refuses keys that clients could use to make circuits without end.
func checkKey(key string) error {
	if key != "" && len(resolve.Placeholders(key)) == 0 {
		return parse.Mend("key %q: it is the same for all requests, so that there is one circuit: write a placeholder such as {http.request.host}, or leave it out", key)
	}
	for _, part := range []string{"uri}", "uri_escaped}", "path}", "uri.path", "uri.query", "{path", "{uri", "{query"} {
		if strings.Contains(key, part) {
			return fmt.Errorf("key %q: clients choose paths, and could make circuits without end; use a placeholder such as {vars.service}", key)
		}
	}
	if strings.Contains(key, "http.auth.") {
		return fmt.Errorf("key %q: a circuit is for a backend, not for a user, and its key is logged; use a placeholder such as {vars.service}", key)
	}
	return nil
}

// keyPart is a part of a key: a host, which clients spell in many ways, or other
// text.
type keyPart struct {
	text string
	host hostname.Reader // nil: expand the text
}

// parseKey splits a key at its hosts. A key without hosts has no parts.
func parseKey(ctx caddy.Context, key string) (parts []keyPart) {
	rest := key
	for _, name := range resolve.Placeholders(key) {
		host, ok := resolve.Host(ctx, name)
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
