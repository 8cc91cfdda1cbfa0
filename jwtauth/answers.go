package jwtauth

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/jwtauth/internal/dpop"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// The reasons of {http.auth.error.reason}; the set is fixed.
const (
	reasonMissing   = "missing"
	reasonSeveral   = "several_tokens"
	reasonMalformed = "malformed"
	reasonHeader    = "header"
	reasonAlgorithm = "algorithm"
	reasonKey       = "unknown_key"
	reasonNoKeys    = "keys_unavailable"
	reasonSignature = "signature"
	reasonPayload   = "payload"
	reasonType      = "type"
	reasonIssuer    = "issuer"
	reasonAudience  = "audience"
	reasonExpired   = "expired"
	reasonNotYet    = "not_yet_valid"
	reasonClaims    = "claims"
	reasonScope     = "insufficient_scope"
	reasonRevoked   = "revoked"

	reasonConfirmation = "confirmation"
	reasonProof        = "dpop_proof"
	reasonNonce        = "dpop_nonce"

	// The token is the only subprotocol of a WebSocket.
	reasonProtocol = "subprotocol"

	reasonNoDenyList = "revocations_unavailable"
)

// reasons are in order: the first match counts, because the error of a proof may
// also wrap one of a token.
var reasons = []struct {
	err    error
	reason string
}{
	{errConfirmation, reasonConfirmation},
	{dpop.ErrKey, reasonConfirmation},
	{dpop.ErrNonce, reasonNonce},
	{dpop.ErrProof, reasonProof},
	{token.ErrMalformed, reasonMalformed},
	{token.ErrHeader, reasonHeader},
	{token.ErrAlgorithm, reasonAlgorithm},
	{token.ErrSignature, reasonSignature},
	{token.ErrPayload, reasonPayload},
	{token.ErrExpired, reasonExpired},
	{token.ErrNotYet, reasonNotYet},
	{token.ErrIssuer, reasonIssuer},
	{token.ErrAudience, reasonAudience},
	{errUnknownKey, reasonKey},
	{errKeysUnavailable, reasonNoKeys},
	{errUnknownIssuer, reasonIssuer},
	{errType, reasonType},
}

func reasonOf(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return reasonClaims
}

// refuse answers a request whose token is missing or bad (RFC 6750 §3), or cannot
// be verified now.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, provider, reason string, err error) error {
	decided(r, provider, reason)
	setReason(r, reason)
	h.debug(reason, err)
	if reason == reasonNoKeys {
		// The token may be valid: the client should neither drop it nor get another.
		retryAfter := time.Second
		if u, ok := errors.AsType[*unavailable](err); ok {
			retryAfter = max(retryAfter, u.retryAfter.Round(time.Second))
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
		w.Header().Set("Cache-Control", "no-store")
		return problem.Error(problem.New(http.StatusServiceUnavailable, errKeysUnavailable.Error()))
	}
	challenge := ""
	p := problem.New(http.StatusUnauthorized, h.missingDetail)
	if h.DPoP != nil && h.DPoP.Required {
		p.Detail = "a token with the scheme DPoP in the Authorization field is required, and a proof in the DPoP field"
	}
	switch reason {
	case reasonMissing:
	case reasonSeveral:
		p = problem.New(http.StatusBadRequest, "the request has more than one token")
		challenge += `, error="invalid_request", error_description="more than one token"`
	case reasonProtocol:
		p = problem.New(http.StatusBadRequest, "Sec-WebSocket-Protocol has a token and no other subprotocol: "+
			"the gateway answers with one of the others, never with the token")
		challenge += `, error="invalid_request", error_description="a subprotocol beside the token is missing"`
	default:
		text := reason
		if err != nil {
			text = err.Error()
		}
		p.Detail = "the token is not accepted: " + text
		code := "invalid_token"
		switch reason {
		case reasonProof:
			code = "invalid_dpop_proof"
		case reasonNonce:
			code = "use_dpop_nonce"
			w.Header().Set("DPoP-Nonce", h.DPoP.nonces.New(h.now()))
		}
		challenge += `, error="` + code + `", error_description="` + quotable(text) + `"`
	}
	h.challenge(w, r, challenge)
	return problem.Error(p)
}

// challenge names the accepted schemes, and the error of the one that was used (RFC 9110 §11.6.1, RFC 9449 §7.2).
func (h *Handler) challenge(w http.ResponseWriter, r *http.Request, failure string) {
	realm := ` realm="` + h.Realm + `"`
	var list []string
	used := "Bearer"
	if h.DPoP != nil && h.DPoP.Required || h.usesDPoP(r) {
		used = "DPoP"
	}
	add := func(scheme, parameters string) {
		text := scheme + realm
		if scheme == used {
			text += failure
		}
		list = append(list, text+parameters+h.challengeParameter())
	}
	if h.DPoP == nil || !h.DPoP.Required {
		add("Bearer", "")
	}
	if h.DPoP != nil {
		add("DPoP", h.DPoP.challenge())
	}
	w.Header()["Www-Authenticate"] = list
	w.Header().Set("Cache-Control", "no-store")
}

// forbid answers a request whose token does not suffice. The challenge has the
// required scopes (RFC 6750 §3.1), needs describes what is missing; what the token
// has is never disclosed.
func (h *Handler) forbid(w http.ResponseWriter, r *http.Request, provider string, scopes []string, needs string) error {
	decided(r, provider, reasonScope)
	setReason(r, reasonScope)
	challenge := `, error="insufficient_scope"`
	p := problem.New(http.StatusForbidden, "the token does not permit this request: it needs "+needs)
	if len(scopes) > 0 {
		challenge += `, scope="` + quotable(strings.Join(scopes, " ")) + `"`
	}
	h.challenge(w, r, challenge)
	return problem.Error(p)
}

// describeNeeds returns "the scope a", "one of the scopes a, b" and the like.
func describeNeeds(kind string, all bool, values []string) string {
	switch {
	case len(values) == 1:
		return "the " + kind + " " + values[0]
	case all:
		return "all of the " + kind + "s " + strings.Join(values, ", ")
	}
	return "one of the " + kind + "s " + strings.Join(values, ", ")
}

func setReason(r *http.Request, reason string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.auth.error.reason", reason)
	}
}

// quotable removes what a challenge's description cannot have (RFC 6750 §3).
func quotable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return -1
		}
		return c
	}, text)
}
