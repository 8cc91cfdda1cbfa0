package rfc9111

import (
	"net/http"
	"slices"
	"time"
)

// Policy is what the operator chooses where the RFC leaves it open.
type Policy struct {
	// Targets are the names of targeted fields (RFC 9213); the first that a response
	// has counts.
	Targets []string

	// TTL returns the freshness lifetime of a response that states none, by its
	// status. Zero: it is not stored.
	TTL func(status int) time.Duration

	// Heuristic: where TTL returns zero, the lifetime is calculated from Last-Modified
	// (RFC 9111 §4.2.2).
	Heuristic bool

	// StoreRequestError reports whether an error with the status is stored although
	// the request itself may have caused it; see isRequestError. Nil: none is.
	StoreRequestError func(status int) bool

	// MaxError bounds the lifetime of responses with a status of 500 and above.
	// Zero: no bound.
	MaxError time.Duration

	// StaleWhileRevalidate and StaleIfError are for responses that do not say.
	StaleWhileRevalidate, StaleIfError time.Duration
}

// Exchange is one request and its response, as far as caching is concerned.
type Exchange struct {
	// Method is that of the request.
	Method string
	// Authorized is set if the request carried credentials, by Authorization or
	// as somebody that the gateway authenticated.
	Authorized bool
	// Credentials is set if the request carried something else that identifies its
	// client and is not part of the key, such as cookies.
	Credentials bool
	// Range is set if the request asked for a part.
	Range bool

	Status              int
	Header              http.Header
	Requested, Received time.Time
}

// Reason says why a response is not stored. It is the value of a metric label.
type Reason string

// The reasons.
const (
	Stored        Reason = ""
	NotAMethod    Reason = "method"
	NoStore       Reason = "no-store"
	IsPrivate     Reason = "private"
	Authorization Reason = "authorization"
	VaryStar      Reason = "vary-star"
	NoFreshness   Reason = "no-freshness"
	NotAStatus    Reason = "status"
	Credentials   Reason = "credentials"
	StaleOnly     Reason = "stale"
)

// Decision is whether and how a response is stored.
type Decision struct {
	// Shared is Stored if everybody may get the response, otherwise the reason why
	// not. Private is the same for the user whose request it answers.
	Shared, Private Reason

	// Lifetime is the freshness lifetime; Explicit is set if the response states
	// it.
	Lifetime time.Duration
	Explicit bool
	Age      time.Duration

	StaleWhileRevalidate, StaleIfError time.Duration
	MustRevalidate, NoCache, Immutable bool

	// Omit are fields that must not be stored in the shared cache.
	Omit []string
}

// Evaluate returns whether the response may be stored (RFC 9111 §3), and for how long
// it is fresh.
func (p *Policy) Evaluate(x *Exchange) Decision {
	c := ReadControl(x.Header, p.Targets)
	var v Decision
	deny := func(r Reason) Decision { v.Shared, v.Private = r, r; return v }

	switch {
	case x.Method != http.MethodGet && x.Method != http.MethodPost:
		return deny(NotAMethod)
	case !Storable(x.Status), x.Status == http.StatusPartialContent && !x.Range:
		return deny(NotAStatus)
	case isRequestError(x.Status) && (p.StoreRequestError == nil || !p.StoreRequestError(x.Status)):
		return deny(NotAStatus)
	case c.NoStore(x.Status):
		return deny(NoStore)
	}
	if _, never := Vary(x.Header); never {
		return deny(VaryStar)
	}

	v.Age = initialAge(x.Header, x.Requested, x.Received)
	v.Immutable = c.Immutable()
	omit, noCache := c.NoCache()
	v.NoCache, v.Omit = noCache, omit
	v.MustRevalidate = c.MustRevalidate()

	v.Lifetime, v.Explicit = c.Explicit(x.Header, x.Received)
	if !v.Explicit {
		if x.Method == http.MethodPost {
			return deny(NoFreshness) // RFC 9110 §9.3.3
		}
		if p.TTL != nil {
			v.Lifetime = p.TTL(x.Status)
		}
		if v.Lifetime == 0 && p.Heuristic {
			v.Lifetime = c.Guess(x.Header, x.Status, x.Received)
		}
	}
	if x.Status >= 500 && p.MaxError > 0 {
		v.Lifetime = min(v.Lifetime, p.MaxError)
	}
	v.StaleWhileRevalidate = c.StaleWindow("stale-while-revalidate", p.StaleWhileRevalidate)
	v.StaleIfError = c.StaleWindow("stale-if-error", p.StaleIfError)
	if v.MustRevalidate || v.NoCache {
		v.StaleWhileRevalidate, v.StaleIfError = 0, 0
	}

	if r := v.useful(x, c); r != Stored {
		return deny(r)
	}

	private, whole := c.Private()
	v.Omit = append(v.Omit, private...)
	switch {
	case whole:
		v.Shared = IsPrivate
	case x.Authorized && !c.SharedDespiteAuthorization():
		v.Shared = Authorization
	case x.Credentials && !v.Explicit && !c.Has("public"):
		// The operator's ttl is for responses that do not say whom they are for; an
		// answer to a request with credentials may be for one user.
		v.Shared = Credentials
	}
	return v
}

// Storable reports whether a final response with the status may ever be stored:
// not one that speaks of what the client has (304), of the range that it asked
// for (416), or of the client itself (RFC 6585 §3, §4 and §6), nor one whose
// status is none (RFC 9110 §15).
func Storable(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionRequired,
		http.StatusTooManyRequests, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 200 && status <= 599
}

// isRequestError reports whether the status is that of an error which the request
// itself can cause: its fields, its credentials, its method or its connection,
// which are not part of what another client asks for under the same URL.
func isRequestError(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusLengthRequired, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusExpectationFailed, http.StatusMisdirectedRequest,
		http.StatusTooEarly, http.StatusUpgradeRequired, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNotExtended:
		return true
	}
	return false
}

// useful returns Stored if storing can save anything: the response is fresh for a
// while, or can be validated.
func (v *Decision) useful(x *Exchange, c Control) Reason {
	if v.Lifetime > v.Age && !v.NoCache {
		return Stored
	}
	validator := HasValidator(x.Header)
	switch {
	case !v.Explicit && v.Lifetime == 0 && !v.NoCache && !(c.Has("public") && validator):
		return NoFreshness
	case validator && x.Status == http.StatusOK:
		return Stored
	case v.Lifetime+max(v.StaleWhileRevalidate, v.StaleIfError) > v.Age && !v.NoCache:
		return Stored
	}
	return StaleOnly
}

// HasValidator reports whether the stored response can be validated (RFC 9111
// §4.3.1).
func HasValidator(h http.Header) bool {
	return len(h["Etag"]) > 0 || len(h["Last-Modified"]) > 0
}

// perConnection speak about one connection (RFC 9110 §7.6.1) or about one
// exchange with a proxy, and are never stored.
var perConnection = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// StoredFields returns the fields without those that are never stored (RFC 9111 §3.1)
// and without omit. Names are canonical. The values are not copied.
func StoredFields(h http.Header, omit ...string) http.Header {
	var listed []string
	for _, value := range h["Connection"] {
		listed = append(listed, listNames(value)...)
	}
	kept := make(http.Header, len(h))
	for name, values := range h {
		if slices.Contains(perConnection, name) || slices.Contains(listed, name) || slices.Contains(omit, name) ||
			len(name) > len(http.TrailerPrefix) && name[:len(http.TrailerPrefix)] == http.TrailerPrefix {
			continue
		}
		kept[name] = values
	}
	return kept
}
