package rediscache

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/identity"
	sites "github.com/pythopus/tentagate/internal/site"
)

// defaultCredentials are request fields, beside Authorization and Cookie, that
// say who asks.
var defaultCredentials = []string{
	"Proxy-Authorization", "X-Api-Key", "Api-Key", "Apikey", "X-Apikey", "X-Api-Token", "X-Auth-Token", "X-Auth-Key", "X-Access-Token",
	"X-Access-Key", "X-Token", "X-Session-Token", "X-Session-Id", "X-Csrf-Token", "X-Xsrf-Token", "X-Authorization", "X-Amz-Security-Token",
	"X-Goog-Api-Key", "X-Goog-Iap-Jwt-Assertion", "X-Functions-Key", "Ocp-Apim-Subscription-Key", "Private-Token", "Job-Token", "X-Vault-Token",
	"X-Shopify-Access-Token", "X-Client-Cert", "X-Ssl-Client-Cert", "X-Ssl-Client-Verify", "X-Forwarded-Client-Cert", "X-Forwarded-User",
	"X-Forwarded-Email", "X-Forwarded-Access-Token", "X-Remote-User", "Remote-User", "X-Auth-Request-User", "X-Auth-Request-Email",
	"X-Auth-Request-Access-Token", "X-Ms-Client-Principal", "X-Ms-Client-Principal-Id", "X-User", "X-User-Id", "Cf-Access-Jwt-Assertion",
	"Cf-Access-Client-Id", "Dpop", "Client-Cert",
}

// who reads what a request says of who asks, and returns the text that tells
// its user from others; it is empty if nobody can be told.
func (h *Handler) who(t *target, r *http.Request) (partition string) {
	id, known := identity.From(r)
	var certificate []byte
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		certificate = r.TLS.PeerCertificates[0].Raw
	}
	before := h.inFront(r)
	copied := h.Key.UserHeaders
	if copied == nil {
		copied = before.fields
	}
	named := slices.ContainsFunc(copied, func(name string) bool { return strings.Join(r.Header[name], "") != "" })
	t.authorized = known || certificate != nil || named || len(r.Header["Authorization"]) > 0 || before.reads.Asks
	t.personal = before.reads.Asks || len(r.Header["Cookie"]) > 0 && len(h.Key.Cookies) == 0 || h.hasCredentials(r) || before.asked(r)
	if !h.Key.PerUser {
		return ""
	}
	if !known && certificate == nil && !named {
		// Whoever it is cannot be told: nothing is theirs, and what is not for
		// everybody is not for them.
		t.authorized = t.authorized || t.personal
		return ""
	}
	if known && certificate == nil && !named {
		return id.Partition()
	}
	var b []byte
	if known {
		b = appendPart(append(b, 'i'), id.Partition())
	}
	if certificate != nil {
		sum := sha256.Sum256(certificate)
		b = append(append(b, 'c'), sum[:]...)
	}
	if named {
		for _, name := range copied {
			b = appendPart(appendPart(append(b, 'f'), name), strings.Join(r.Header[name], "\x00"))
		}
	}
	return string(b)
}

func (h *Handler) hasCredentials(r *http.Request) bool {
	if len(r.Header) < len(h.credentials) {
		for name := range r.Header {
			if h.credentials[name] {
				return true
			}
		}
		return false
	}
	for name := range h.credentials {
		if len(r.Header[name]) > 0 {
			return true
		}
	}
	return false
}

// front is what stands before the handler at a place.
type front struct {
	place *sites.Place
	// fields are the request fields that handlers copy from the answer of another
	// service, as `forward_auth` with `copy_headers` does.
	fields []string
	// names are the fields which could change an answer and which handlers set.
	names []string
	// behind are the placeholders that handlers behind name, and reads is what they
	// decide by.
	behind []string
	reads  *sites.Reads
	// deferred are what handlers do to the fields that speak about caching when
	// the header is sent, and rules the text of those that depend on the response.
	deferred []*headers.RespHeaderOps
	rules    string
	// proxies: there is a reverse_proxy, as forward_auth is one.
	proxies bool
}

// inFront returns what stands before the handler.
func (h *Handler) inFront(r *http.Request) *front {
	at := h.finder.Place(r)
	if at == nil {
		return &noFront
	}
	if f := h.front.Load(); f != nil && f.place == at {
		return f
	}
	f := &front{place: at, behind: at.Behind(), reads: at.Reads(h.filtersQuery())}
	for _, before := range at.Before() {
		if setter, ok := before.(forwarded.Forwarder); ok {
			f.addForwarded(setter.ForwardedFields())
		}
		switch before := before.(type) {
		case *reverseproxy.Handler:
			f.proxies = true
		case *headers.Handler:
			if ops := before.Response; ops != nil && (ops.Deferred || ops.Require != nil) && touches(ops.HeaderOps, h.speaking) {
				f.deferred = append(f.deferred, ops)
				if text, err := json.Marshal(ops); err == nil && (ops.Require != nil || len(ops.Replace) > 0) {
					f.rules += string(text)
				}
			}
			if before.Request == nil {
				continue
			}
			f.addNames(before.Request)
			for _, fields := range []http.Header{before.Request.Set, before.Request.Add} {
				for name, values := range fields {
					if strings.Contains(strings.Join(values, ""), "{http.reverse_proxy.header.") {
						f.fields = append(f.fields, http.CanonicalHeaderKey(name))
					}
				}
			}
		}
	}
	slices.Sort(f.names)
	slices.Sort(f.fields)
	f.fields = slices.Compact(f.fields)
	h.front.Store(f)
	return f
}

var noFront = front{reads: &sites.Reads{}}

// asked reports whether another service was asked about the request before it
// came here, as forward_auth does: what it let through may be for its user.
func (f *front) asked(r *http.Request) bool {
	if !f.proxies {
		return false
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	_, ok = repl.Get("http.reverse_proxy.status_code")
	return ok
}

// tokenInURL reports whether a token stands in the address of the request, or
// stood there: an answer to that is for its client alone (RFC 6750 §2.3).
func tokenInURL(r *http.Request) bool {
	if identity.IsPrivate(r) || hasToken(r.URL.RawQuery) {
		return true
	}
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	return ok && original.URL != nil && hasToken(original.URL.RawQuery)
}

func hasToken(query string) bool {
	for query != "" {
		var name string
		if end := strings.IndexAny(query, "&;"); end < 0 {
			name, query = query, ""
		} else {
			name, query = query[:end], query[end+1:]
		}
		name, _, _ = strings.Cut(name, "=")
		if strings.IndexByte(name, '%') >= 0 {
			if decoded, err := url.QueryUnescape(name); err == nil {
				name = decoded
			}
		}
		if strings.EqualFold(name, "access_token") {
			return true
		}
	}
	return false
}
