// Package identity passes the authenticated client of a request from the handler
// that verified it to later handlers.
package identity

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// Identity is an authenticated client.
type Identity struct {
	// Provider is the configured name of the token's issuer. It is empty when
	// another handler (basic_auth, forward_auth …) authenticated the request.
	Provider string

	// Subject is the client's name at that provider, `sub` of a JWT. It may be
	// empty: not every token names one.
	Subject string

	// Issuer is `iss` of the token. A provider may accept several issuers, and each
	// names its subjects itself.
	Issuer string

	// Rights returns a hash of what the token says besides who and when: two tokens of
	// one client may allow different things. It is nil where no token says anything.
	Rights func() [16]byte

	// Token is a hash of the whole verified token. It separates clients whose
	// tokens carry no subject.
	Token [16]byte
}

// perToken are claims that differ between tokens of one client which allow the same.
var perToken = []string{
	"exp", "iat", "nbf", "jti", "auth_time", "nonce", "at_hash", "c_hash", "s_hash", "sid", "session_state", "cnf",
	"uti", "aio", "rh", // Microsoft Entra ID
}

// IsRight reports whether a claim may be for what a token allows, and is thus part of
// Rights: not if it says who the client is, or differs with each token.
func IsRight(claim string) bool {
	return claim != "iss" && claim != "sub" && !slices.Contains(perToken, claim)
}

// Tells reports whether the claim at a path, such as `realm_access.roles`, is equal for
// all requests whose Partition and Rights are.
func (id *Identity) Tells(path string) bool {
	claim, _, _ := strings.Cut(path, ".")
	return id.Rights != nil && !slices.Contains(perToken, claim)
}

// Set stores id for later handlers of the request.
func Set(r *http.Request, id *Identity) {
	if s := requeststate.Of(r); s != nil {
		s.Identity = id
	}
}

// From returns the identity of an authenticated request, and false for an anonymous
// one. The user of another authentication handler is that of Caddy's placeholder
// {http.auth.user.id}.
func From(r *http.Request) (*Identity, bool) {
	if s := requeststate.Peek(r); s != nil {
		if id, ok := s.Identity.(*Identity); ok && id != nil {
			return id, true
		}
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil, false
	}
	if user, ok := repl.GetString("http.auth.user.id"); ok && user != "" {
		return &Identity{Subject: user}, true
	}
	return nil, false
}

// Source is where in a request the credentials stood that an Identity was verified by.
// They say no more of the client than the Identity does.
type Source struct {
	// Field is the canonical name of the header field, "" if it was none.
	Field string
	// Cookie is the name of the cookie, if Field is Cookie.
	Cookie string
	// Proof: the field DPoP was verified too (RFC 9449).
	Proof bool
}

// SetSource stores where the credentials of the identity stood, for later handlers.
func SetSource(r *http.Request, source Source) {
	if s := requeststate.Of(r); s != nil {
		s.Source = source
	}
}

// SourceOf returns what SetSource stored, else the zero Source.
func SourceOf(r *http.Request) Source {
	if s := requeststate.Peek(r); s != nil {
		return s.Source
	}
	return Source{}
}

// KeepPrivate marks the response to the request as private (RFC 9111 §5.2.2.7),
// whatever the service says: no shared cache may store it.
func KeepPrivate(r *http.Request) {
	if s := requeststate.Of(r); s != nil {
		s.Private = true
	}
}

// IsPrivate reports whether KeepPrivate was called.
func IsPrivate(r *http.Request) bool {
	s := requeststate.Peek(r)
	return s != nil && s.Private
}

// Partition returns a key that is equal for two identities only if they are the
// same client. Its parts are length-prefixed, so that no other pair of provider and
// subject has the same key.
func (id *Identity) Partition() string {
	var array [128]byte
	return string(id.AppendPartition(array[:0]))
}

// AppendPartition appends what Partition returns.
func (id *Identity) AppendPartition(b []byte) []byte {
	kind := byte('s')
	if id.Subject == "" {
		kind = 't'
	}
	b = strconv.AppendInt(append(b, kind), int64(len(id.Provider)), 10)
	b = append(append(b, ':'), id.Provider...)
	b = append(strconv.AppendInt(b, int64(len(id.Issuer)), 10), ':')
	b = append(b, id.Issuer...)
	if id.Subject == "" {
		return hex.AppendEncode(b, id.Token[:])
	}
	return append(b, id.Subject...)
}
