// Package dpop checks proofs of possession (RFC 9449): that the client holds the
// private key that its token is bound to.
package dpop

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// MaxLength is the longest proof that is read, in bytes: one with an RSA key of
// 8192 bits, its signature, and a kilobyte and more for the claims.
const MaxLength = 6 << 10

// Errors of Check. Their text contains nothing of a proof.
var (
	// ErrProof is a proof that is not accepted (`invalid_dpop_proof`).
	ErrProof = errors.New("the DPoP proof is not accepted")
	// ErrKey is a proof by another key than the token is bound to
	// (`invalid_token`).
	ErrKey = errors.New("the DPoP proof was made with another key than the token is bound to")
	// ErrNonce is a proof without a nonce of this gateway, or with an old one
	// (`use_dpop_nonce`).
	ErrNonce = errors.New("the DPoP proof needs a nonce of this gateway")
)

// Algorithms are those that proofs may be signed with: all but HMAC, whose key
// the gateway would have to know (RFC 9449 §4.3, check 5).
var Algorithms = slices.DeleteFunc(slices.Clone(token.Algorithms), func(a string) bool { return strings.HasPrefix(a, "HS") })

var proofType = []string{"dpop+jwt"}

// Rules are what proofs must keep to.
type Rules struct {
	// Algorithms that are accepted. Empty: all of Algorithms.
	Algorithms []string
	// MaxAge is how old a proof may be.
	MaxAge time.Duration
	// Leeway is how far the clocks of client and gateway may differ.
	Leeway time.Duration
	// Nonces asks for a nonce of this gateway (RFC 9449 §9). Nil asks for none.
	Nonces *Nonces
	// Replays remembers proofs, so that each is accepted once.
	Replays Replays
}

// Life is how long a proof can be accepted at most, with any accepted clock skew of
// the client, and so how long it must be remembered.
func (r *Rules) Life() time.Duration { return r.MaxAge + 2*r.Leeway }

// Request is what a proof must be for.
type Request struct {
	// Method of the request.
	Method string
	// Targets are the addresses by which clients may know the resource, as
	// Target returns them. One of them must be the proof's.
	Targets []string
	// Token is the access token that came with the proof.
	Token string
	// Thumbprint of the key that the token is bound to (`jkt`).
	Thumbprint string
	// Again is true for a proof that an earlier handler of the same request has
	// accepted.
	Again bool
}

// Check evaluates a proof (RFC 9449 §4.3). The signature is checked late, so that a
// client without a token bound to the proof's key costs no cryptography.
func (r *Rules) Check(ctx context.Context, proof string, req *Request, now time.Time) error {
	if len(proof) > MaxLength {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrProof, MaxLength)
	}
	t, err := token.Parse(proof)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	key, err := r.key(t)
	if err != nil {
		return err
	}
	thumbprint, err := keyset.Thumbprint(key.Value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	if subtle.ConstantTimeCompare([]byte(thumbprint), []byte(req.Thumbprint)) != 1 {
		return ErrKey
	}
	claims, err := t.Claims()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	id, err := r.checkClaims(claims, req, now)
	if err != nil {
		return err
	}
	if err := t.Verify(t.Algorithm, key.Value); err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	// Only a proof that is good otherwise gets a nonce.
	if r.Nonces != nil {
		if nonce, ok := claims["nonce"].(string); !ok || !r.Nonces.Good(nonce, now) {
			return ErrNonce
		}
	}
	if !req.Again && r.Replays.Seen(ctx, replayID(thumbprint, id), now) {
		return fmt.Errorf("%w: it was used before", ErrProof)
	}
	return nil
}

// key takes the public key out of the header.
func (r *Rules) key(t *token.Token) (*keyset.Key, error) {
	// A type is required here.
	if t.Type == "" || !t.IsType(proofType) {
		return nil, fmt.Errorf("%w: its typ is not dpop+jwt", ErrProof)
	}
	accepted := r.Algorithms
	if len(accepted) == 0 {
		accepted = Algorithms
	}
	if !slices.Contains(accepted, t.Algorithm) {
		return nil, fmt.Errorf("%w: its alg is none of %s", ErrProof, strings.Join(accepted, " "))
	}
	header, err := t.Header()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	members, ok := header["jwk"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: its header has no jwk", ErrProof)
	}
	key, err := keyset.Public(members, []string{t.Algorithm})
	if err != nil {
		return nil, fmt.Errorf("%w: jwk: %w", ErrProof, err)
	}
	return &key, nil
}

// checkClaims returns the `jti`.
func (r *Rules) checkClaims(claims token.Claims, req *Request, now time.Time) (string, error) {
	var id, method, address, hash string
	for _, c := range []struct {
		name  string
		value *string
	}{{"jti", &id}, {"htm", &method}, {"htu", &address}, {"ath", &hash}} {
		text, ok := claims[c.name].(string)
		if !ok || text == "" {
			return "", fmt.Errorf("%w: %s is missing or not a string", ErrProof, c.name)
		}
		*c.value = text
	}
	if method != req.Method {
		return "", fmt.Errorf("%w: htm is not the request's method", ErrProof)
	}
	target, err := Target(address)
	if err != nil || !slices.Contains(req.Targets, target) {
		return "", fmt.Errorf("%w: htu is not the request's address", ErrProof)
	}
	sum := sha256.Sum256([]byte(req.Token))
	if hash != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return "", fmt.Errorf("%w: ath is not the token's hash", ErrProof)
	}
	// MaxAge makes `iat` required; `exp` and `nbf` count where they are given.
	rules := token.Rules{OptionalExpiry: true, MaxAge: r.MaxAge, Leeway: r.Leeway}
	if err := claims.Check(&rules, now); err != nil {
		return "", fmt.Errorf("%w: %w", ErrProof, err)
	}
	return id, nil
}
