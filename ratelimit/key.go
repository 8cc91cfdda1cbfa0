package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/hostname"
)

// clientIP is the placeholder of the client's address, which depends on the
// server's trusted_proxies.
const clientIP = "http.vars.client_ip"

// maxKeyLen is the longest key that is kept as text, in bytes. Longer ones, which
// clients can send, are hashed.
const maxKeyLen = 200

// template makes keys of literal texts and placeholders.
type template struct {
	parts  []part
	values int
}

type part struct {
	literal     string
	placeholder string
	address     bool
	host        hostname.Reader // nil: not a host
}

// parseTemplate parses a key such as `{client_ip}` or `{http.auth.user.id}`.
// Several texts are parts of one key.
func parseTemplate(texts []string) (*template, error) {
	t := &template{}
	for _, text := range texts {
		for text != "" {
			open := strings.IndexByte(text, '{')
			if open < 0 {
				t.parts = append(t.parts, part{literal: text})
				break
			}
			if open > 0 {
				t.parts = append(t.parts, part{literal: text[:open]})
			}
			end := strings.IndexByte(text[open:], '}')
			if end < 0 {
				return nil, fmt.Errorf("key %q: a placeholder without a closing brace", text)
			}
			name := text[open+1 : open+end]
			if name == "" || strings.ContainsAny(name, "{ \t") {
				return nil, fmt.Errorf("key %q: %q is not a placeholder", text, text[open:open+end+1])
			}
			if name == "client_ip" {
				name = clientIP
			}
			host, _ := hostname.Placeholder(name)
			t.parts = append(t.parts, part{
				placeholder: name,
				address:     name == clientIP || name == "http.request.remote.host",
				host:        host,
			})
			t.values++
			text = text[open+end+1:]
		}
	}
	if len(t.parts) == 0 {
		return nil, errors.New("key: empty; write a placeholder such as {client_ip}")
	}
	return t, nil
}

// constant reports whether the key is the same for every request.
func (t *template) constant() bool { return t.values == 0 }

// render returns the key of a request, and false when one of the placeholders
// has no value.
//
// Several parts are joined by a bar, and a bar within a value is escaped, so that
// different lists of values never make the same key.
func (t *template) render(r *http.Request, repl *caddy.Replacer, v6 int) (string, bool) {
	if len(t.parts) == 1 {
		v, ok := t.parts[0].value(r, repl, v6)
		return bounded(v), ok
	}
	var b strings.Builder
	for i, p := range t.parts {
		v, ok := p.value(r, repl, v6)
		if !ok {
			return "", false
		}
		if i > 0 {
			b.WriteByte('|')
		}
		if strings.ContainsAny(v, "%|") {
			v = escaper.Replace(v)
		}
		b.WriteString(v)
	}
	return bounded(b.String()), true
}

var escaper = strings.NewReplacer("%", "%25", "|", "%7C")

// value returns the text of a part, and false where there is none.
func (p part) value(r *http.Request, repl *caddy.Replacer, v6 int) (string, bool) {
	if p.placeholder == "" {
		return p.literal, true
	}
	var v string
	switch {
	case p.placeholder == clientIP:
		v, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	case p.host != nil:
		v = p.host(r)
	default:
		v, _ = repl.GetString(p.placeholder)
	}
	if v == "" {
		return "", false
	}
	if p.address {
		v = maskAddress(v, v6)
	}
	return v, true
}

// maskAddress reduces an IPv6 address to its prefix: a client usually has a whole
// network, and could use another address for every request. IPv4 addresses,
// mapped ones included, stay as they are.
func maskAddress(s string, v6 int) string {
	if strings.IndexByte(s, ':') < 0 {
		return s
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return s
	}
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(v6)
	if err != nil || v6 == 128 {
		return addr.String()
	}
	return prefix.String()
}

// ownPrefix begins the keys that are not made by the operator's template. Any
// other key that begins with it is hashed, so that clients cannot forge one.
const ownPrefix = "\x01"

// bounded hashes a long key.
func bounded(key string) string {
	if len(key) <= maxKeyLen && !strings.HasPrefix(key, ownPrefix) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return ownPrefix + "sha256:" + hex.EncodeToString(sum[:])
}

// anonymous returns the key of a request for which the template has none: its
// address, apart from all other keys.
func anonymous(r *http.Request, v6 int) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ownPrefix + "ip:" + maskAddress(ip, v6)
}
