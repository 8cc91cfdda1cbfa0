package resolve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/typo"
)

// setRoots are the beginnings of the placeholders that handlers and matchers of
// Caddy and of TentaGate set under names of the operator's choice.
var setRoots = []string{
	"http.auth.user.", "http.auth.error.", "http.regexp.", "http.url_pattern.", "http.matchers.",
	"http.ratelimit.", "http.cache.", "http.circuit_breaker.",
}

// knownVars are the variables that Caddy itself sets in every request, or that
// some of its handlers do.
var knownVars = []string{
	caddyhttp.ClientIPVarKey, caddyhttp.TrustedProxyVarKey, "start_time", "uuid", "trace_id", "span_id", "root", "fs",
}

// clientFields are the names below http.request.tls.client, which have a value
// only where a client shows a certificate.
var clientFields = []string{
	"fingerprint", "public_key", "public_key_sha256", "issuer", "serial", "subject", "certificate_pem", "certificate_der_base64",
}

var errResponse = errors.New("has no value when the option is resolved: the response comes later")

// check fails where a placeholder can never have a value.
func (n *names) check(ctx caddy.Context, name string) error {
	switch rest, vars := strings.CutPrefix(name, "http.vars."); {
	case n.set[name]:
		return nil
	case strings.HasSuffix(name, "."):
		return errors.New("never has a value: a name is missing after its last dot")
	case strings.HasPrefix(name, "http.response."):
		return errResponse
	case strings.HasPrefix(name, "http.reverse_proxy.") || strings.HasPrefix(name, "http.intercept."):
		if within(ctx, "http.handlers.reverse_proxy") || within(ctx, "http.handlers.intercept") {
			return nil
		}
		return errResponse
	case strings.HasPrefix(name, "http.error."):
		if n.errors {
			return nil
		}
		return errors.New("has a value only in error routes, and there are none")
	case vars:
		if n.anyVar || n.foreign || n.vars[rest] || slices.Contains(knownVars, rest) {
			return nil
		}
		return fmt.Errorf("never has a value: no vars handler sets %s%s", rest, n.suggest(name))
	case slices.ContainsFunc(setRoots, func(root string) bool { return strings.HasPrefix(name, root) }):
		return nil
	case strings.HasPrefix(name, "http.auth.") && strings.HasSuffix(name, ".error"):
		return nil // of Caddy's authentication handler, by provider
	case ofRequest(name):
		return nil
	case n.foreign && !strings.HasPrefix(name, "http.request.") && n.squashed(name) == "":
		return nil
	}
	if long := longForm(name); long != "" {
		return fmt.Errorf("is a short form of the Caddyfile: write {%s}", long)
	}
	return fmt.Errorf("is not a placeholder that has a value in a request%s: "+
		"accepted are such as {http.request.header.X-Tenant}, {http.auth.user.id} and {http.vars.client_ip}", n.suggest(name))
}

// ofRequest asks Caddy whether it knows the placeholder in a request.
func ofRequest(name string) bool {
	if field, ok := strings.CutPrefix(name, "http.request.tls.client."); ok {
		return slices.Contains(clientFields, field) || strings.HasPrefix(field, "san.")
	}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/", nil)
	if err != nil {
		return true
	}
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	repl := caddy.NewReplacer()
	caddyhttp.PrepareRequest(r, repl, nil, new(caddyhttp.Server))
	_, known := repl.Get(name)
	return known
}

// longForm returns what the Caddyfile adapter makes of a short form, if name is
// one.
func longForm(name string) string {
	segment := caddyfile.Segment{{Text: "{" + name + "}"}}
	httpcaddyfile.NewShorthandReplacer().ApplyToSegment(&segment)
	if long := strings.Trim(segment[0].Text, "{}"); long != name {
		return long
	}
	return ""
}

// common are placeholders that are often written, and mistyped.
var common = []string{
	"client_ip", "remote_host", "host", "hostport", "method", "path", "query", "uri", "scheme",
	"http.vars.client_ip", "http.auth.user.id", "http.request.host", "http.request.hostport", "http.request.remote.host",
	"http.request.method", "http.request.uri.path", "http.request.uri",
}

// squashed returns the common placeholder that a name is but for its punctuation
// and the case of its letters: {clientip}, {ClientIP} and {client-ip}.
func (n *names) squashed(name string) string {
	squash := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	for _, c := range common {
		if squash(c) == squash(name) {
			return c
		}
	}
	return ""
}

// suggest returns a hint with the placeholder that was probably meant, or "".
func (n *names) suggest(name string) string {
	candidates := slices.Clone(common)
	for known := range n.set {
		candidates = append(candidates, known)
	}
	for known := range n.vars {
		candidates = append(candidates, "http.vars."+known)
	}
	slices.Sort(candidates)
	best := n.squashed(name)
	if best == "" {
		best = typo.Nearest(name, candidates, min(2, (len(name)-1)/4))
	}
	if best == "" {
		return ""
	}
	return " (did you mean {" + best + "}?)"
}

// within reports whether the module of ctx is part of one with the given ID.
func within(ctx caddy.Context, id caddy.ModuleID) bool {
	return slices.ContainsFunc(ctx.Modules(), func(m caddy.Module) bool { return m.CaddyModule().ID == id })
}
