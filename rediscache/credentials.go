package rediscache

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/cookies"
	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/proxyfields"
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
	userFields := k.userFields(chain)
	named := slices.ContainsFunc(userFields, func(name string) bool { return strings.Join(r.Header[name], "") != "" })
	made := chain.hasMadeCredentials(r)
	c.authorized = authenticated || certificate != nil || named || len(r.Header["Authorization"]) > 0 || chain.reads.Asks || made
	c.credentials = chain.reads.Asks || made || len(r.Header["Cookie"]) > 0 && len(k.options.Cookies) == 0 || k.hasCredentials(chain, r) || chain.wasAuthorized(r)
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

// userFields are the request fields that say who the user is.
func (k *keyer) userFields(ch *chain) []string {
	if k.options.UserHeaders != nil {
		return k.options.UserHeaders
	}
	return ch.userFields
}

func (k *keyer) hasCredentials(chain *chain, r *http.Request) bool {
	for name, values := range r.Header {
		if k.isCredential(name) && !chain.isStatic(name, values) {
			return true
		}
	}
	return false
}

// isCredential reports whether a request field identifies its client. What is part of
// the key does not.
func (k *keyer) isCredential(name string) bool {
	plain := fieldname.Hyphenated(name)
	if !k.credentials[plain] && !namesCredential(plain) && (!credentials.IsField(plain) || plain == "Authorization" || plain == "Cookie") {
		return false
	}
	return !slices.Contains(k.chains.keyHeaders, name)
}

// namesCredential reports whether the name of a request field says that it holds
// credentials, or names the user or a certificate. The name is as fieldname.Hyphenated
// returns it.
func namesCredential(name string) bool {
	return credentials.IsName(name) || credentials.NamesUser(name) || proxyfields.IsCertificate(name)
}

// otherCredentials returns a hash of the request's credentials beside the token that
// jwt_auth verified: one user's requests with other cookies or another API key may get
// other answers. ok is false if there is nothing. has is what identify found: it does
// not look for Authorization.
func (k *keyer) otherCredentials(has bool, r *http.Request) (sum [sha256.Size]byte, ok bool) {
	source := identity.SourceOf(r)
	authorization := len(r.Header["Authorization"]) > 0 && source.Field != "Authorization"
	if !has && !authorization {
		return sum, false
	}
	var room [8]string
	names := room[:0]
	for name := range r.Header {
		switch {
		case name == "Authorization" && authorization,
			name == "Cookie" && len(k.options.Cookies) == 0,
			k.isCredential(name) && name != source.Field && !(source.Proof && name == proofField) && !k.chains.of(r).isForwarded(name):
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var array [1 << 10]byte
	b := array[:0]
	for _, name := range names {
		values := r.Header[name]
		if name == "Cookie" && source.Field == name {
			if values = cookiesBut(r, source.Cookie); len(values) == 0 {
				continue
			}
		}
		b = cachekey.AppendPart(cachekey.AppendPart(b, name), strings.Join(values, "\x00"))
	}
	ch := k.chains.of(r)
	ch.madeCredentials(r, func(name, value string) bool {
		if isOfToken(ch.sources[name], source) {
			return true
		}
		b = cachekey.AppendPart(cachekey.AppendPart(b, name), value)
		return true
	})
	return sha256.Sum256(b), len(b) > 0
}

// isOfToken reports whether placeholders have nothing but the token that was verified.
func isOfToken(placeholders []string, source identity.Source) bool {
	isToken := func(name string) bool {
		if source.Field == "Cookie" {
			return source.Cookie != "" && name == "http.request.cookie."+source.Cookie
		}
		field, ok := strings.CutPrefix(name, "http.request.header.")
		return ok && http.CanonicalHeaderKey(field) == source.Field
	}
	return len(placeholders) > 0 && !slices.ContainsFunc(placeholders, func(name string) bool { return !isToken(name) })
}

// proofField holds the proof of RFC 9449, which differs with each request.
const proofField = "Dpop"

// cookiesBut returns the cookies of a request without those of a name.
func cookiesBut(r *http.Request, name string) (others []string) {
	for other, value := range cookies.All(r.Header) {
		if other != name {
			others = append(others, other+"="+value)
		}
	}
	return others
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
