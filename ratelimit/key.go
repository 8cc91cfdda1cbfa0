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

// clientIP is the placeholder of the client's address as the server's
// trusted_proxies option determines it.
const clientIP = "http.vars.client_ip"

// maxKeyLen is the longest key that is kept as text. Longer ones, which can
// only come from what a client sent, are kept as a hash.
const maxKeyLen = 200

// template is a key of literal texts and placeholders.
type template struct {
	parts  []part
	values int
}

type part struct {
	literal     string
	placeholder string
	address     bool
	host        hostname.Reader // nil: it is no host
}

// parseTemplate reads a key such as `{client_ip}` or `{http.auth.user.id}`.
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
				return nil, fmt.Errorf("key %q: a placeholder has no closing brace", text)
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
		return nil, errors.New("key: it is empty; name a placeholder such as {client_ip}")
	}
	return t, nil
}

// constant reports whether all requests have the same key.
func (t *template) constant() bool { return t.values == 0 }

// render makes the key of a request. It returns false when one of the
// placeholders has no value: such a request has no key of its own.
//
// Where the key has several parts they are joined by a bar, and a bar within a
// value is escaped, so that no two different lists of values make the same key.
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

// maskAddress reduces an IPv6 address to its network: a client usually has all
// of one, and could take a new address for every request. IPv4 addresses,
// mapped ones included, stay whole.
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

// mark begins the keys that are made here rather than by the operator's
// template. Keys of clients that begin with it are hashed, so that nobody can
// imitate one.
const mark = "\x01"

// bounded replaces a long key by its hash.
func bounded(key string) string {
	if len(key) <= maxKeyLen && !strings.HasPrefix(key, mark) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return mark + "sha256:" + hex.EncodeToString(sum[:])
}

// anonymous is the key of a request that has no key of its own: its address,
// apart from the other keys.
func anonymous(r *http.Request, v6 int) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return mark + "ip:" + maskAddress(ip, v6)
}
