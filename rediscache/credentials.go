package rediscache

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
)

// identify reads what a request says about its client, and appends the text that
// tells its user from others to b. It appends nothing if the user is not known, or
// has no partition.
func (k *keyer) identify(c *client, r *http.Request, b []byte) []byte {
	id, authenticated := identity.From(r)
	var certificate []byte
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		certificate = r.TLS.PeerCertificates[0].Raw
	}
	chain := k.chains.of(r)
	userFields := k.options.UserHeaders
	if userFields == nil {
		userFields = chain.userFields
	}
	named := slices.ContainsFunc(userFields, func(name string) bool { return strings.Join(r.Header[name], "") != "" })
	c.authorized = authenticated || certificate != nil || named || len(r.Header["Authorization"]) > 0 || chain.reads.Asks
	c.credentials = chain.reads.Asks || len(r.Header["Cookie"]) > 0 && len(k.options.Cookies) == 0 || k.hasCredentials(r) || chain.wasAuthorized(r)
	if !k.options.PerUser {
		return b
	}
	if !authenticated && certificate == nil && !named {
		// The user is not known: there is no partition, and what is not for everybody
		// is not for this client.
		c.authorized = c.authorized || c.credentials
		return b
	}
	if authenticated && certificate == nil && !named {
		return id.AppendPartition(b)
	}
	if authenticated {
		b = cachekey.AppendPart(append(b, 'i'), id.Partition())
	}
	if certificate != nil {
		sum := sha256.Sum256(certificate)
		b = append(append(b, 'c'), sum[:]...)
	}
	if named {
		for _, name := range userFields {
			b = cachekey.AppendPart(cachekey.AppendPart(append(b, 'f'), name), strings.Join(r.Header[name], "\x00"))
		}
	}
	return b
}

func (k *keyer) hasCredentials(r *http.Request) bool {
	if len(r.Header) < len(k.credentials) {
		for name := range r.Header {
			if k.credentials[name] {
				return true
			}
		}
		return false
	}
	for name := range k.credentials {
		if len(r.Header[name]) > 0 {
			return true
		}
	}
	return false
}

// tokenInURL reports whether the address of the request has a token, or had one
// before it was removed: the answer is for its client alone (RFC 6750 §2.3).
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
