// Package token reads and verifies JSON Web Tokens (RFC 7519) in the compact
// serialization, strictly: what two parsers could read differently is refused.
//
// golang-jwt/jwt verifies the signature. The checks around it that the library
// does not make are here.
package token

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // HS256, RS256, PS256, ES256
	_ "crypto/sha512" // the 384 and 512 of each
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// MaxLength is the longest token that is read, in bytes.
const MaxLength = 16 << 10

// Errors of Parse, Verify and Claims. Their text contains nothing of a token.
var (
	ErrMalformed = errors.New("malformed token")
	ErrTooLong   = fmt.Errorf("%w: it is longer than %d bytes", ErrMalformed, MaxLength)
	ErrHeader    = errors.New("header not accepted")
	ErrSignature = errors.New("signature does not verify")
	ErrPayload   = errors.New("payload not accepted")
	ErrAlgorithm = errors.New("algorithm not accepted")
)

var (
	errCrit  = fmt.Errorf("%w: crit is not supported", ErrHeader)
	errB64   = fmt.Errorf("%w: b64 is not supported", ErrHeader)
	errNoAlg = fmt.Errorf("%w: alg is missing", ErrHeader)
)

// Errors of Parse that are an ErrMalformed.
var (
	errEmpty     = &detailed{"the token is empty", ErrMalformed}
	errEncrypted = &detailed{"the token is encrypted (JWE): only signed tokens (JWS) are accepted", ErrMalformed}
	errOpaque    = &detailed{"the token is opaque, not a JWT: only signed JWTs are accepted", ErrMalformed}
)

// strict refuses padding and non-canonical last characters (RFC 7515 §2).
var strict = base64.RawURLEncoding.Strict()

// Token is a token whose form and header are sound. Nothing in it is to be
// trusted before Verify.
type Token struct {
	// Algorithm, KeyID and Type are the `alg`, `kid` and `typ` of the header.
	Algorithm, KeyID, Type string

	signed    string // what the signature is over
	content   string // header and payload, decoded
	payload   string
	signature []byte
	values    int // of the payload, known after Claims
}

// Parse checks length, characters and the number of parts, and reads the
// header. It costs no cryptography.
func Parse(text string) (*Token, error) {
	if len(text) > MaxLength {
		return nil, ErrTooLong
	}
	first := strings.IndexByte(text, '.')
	last := strings.LastIndexByte(text, '.')
	if first <= 0 || last == first || last == len(text)-1 || strings.IndexByte(text[first+1:last], '.') >= 0 {
		return nil, noJWS(text)
	}
	// encoding/base64 skips line ends, and refuses all else that is not of the
	// alphabet.
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return nil, ErrMalformed
	}
	// One buffer for the three parts.
	decoded := make([]byte, 0, strict.DecodedLen(len(text)))
	decoded, err := strict.AppendDecode(decoded, []byte(text[:first]))
	if err != nil {
		return nil, ErrMalformed
	}
	header := len(decoded)
	if decoded, err = strict.AppendDecode(decoded, []byte(text[first+1:last])); err != nil {
		return nil, ErrMalformed
	}
	payload := len(decoded)
	if decoded, err = strict.AppendDecode(decoded, []byte(text[last+1:])); err != nil {
		return nil, ErrMalformed
	}
	content := string(decoded[:payload])
	t := &Token{signed: text[:last], content: content, payload: content[header:], signature: decoded[payload:]}
	return t, t.readHeader(content[:header])
}

// noJWS returns the error for a text without the three parts of a signed token.
func noJWS(text string) error {
	// The header of each begins with a brace.
	object := strings.HasPrefix(text, "ey") || strings.HasPrefix(text, "ew")
	switch dots := strings.Count(text, "."); {
	case text == "":
		return errEmpty
	case dots == 4 && object:
		return errEncrypted
	case dots != 2 && !object:
		return errOpaque
	}
	return ErrMalformed
}

// readHeader reads what is needed of the header. Keys that a header contains or
// points to (jwk, jku, x5c, x5u) are never used, and are accepted.
func (t *Token) readHeader(text string) error {
	var refused error
	err := visitMembers(text, func(name string, value any) {
		var field *string
		switch name {
		case "alg":
			field = &t.Algorithm
		case "kid":
			field = &t.KeyID
		case "typ":
			field = &t.Type
		// No extension is understood, so none may be critical (RFC 7515 §4.1.11);
		// `b64` changes what is signed (RFC 7797).
		case "crit":
			refused = errCrit
			return
		case "b64":
			refused = errB64
			return
		default:
			return
		}
		text, ok := value.(string)
		if !ok {
			refused = fmt.Errorf("%w: %s is not a string", ErrHeader, name)
		}
		*field = text
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHeader, err)
	case refused != nil:
		return refused
	case t.Algorithm == "":
		return errNoAlg
	}
	return nil
}

// Verify checks the signature with one key. The algorithm is the key's, never
// only the token's.
func (t *Token) Verify(algorithm string, key any) error {
	if t.Algorithm != algorithm {
		return ErrAlgorithm
	}
	method := Method(algorithm)
	if method == nil {
		return ErrAlgorithm
	}
	if err := method.Verify(t.signed, t.signature, key); err != nil {
		return ErrSignature
	}
	return nil
}

// Claims decodes the payload.
func (t *Token) Claims() (Claims, error) {
	m, values, err := decodeObject(t.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	t.values = values
	return m, nil
}

// Header decodes all of the header.
func (t *Token) Header() (Claims, error) {
	m, err := DecodeObject(t.content[:len(t.content)-len(t.payload)])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return m, nil
}

// Footprint estimates the memory that decoded claims take, in bytes. They share
// the text of header and payload.
func (t *Token) Footprint() int64 { return int64(len(t.content) + 600 + 80*t.values) }

// IsType reports whether the token's type is one of the accepted, compared
// without case and without `application/` (RFC 7515 §4.1.9). A token without a
// type is accepted if "JWT" is.
func (t *Token) IsType(accepted []string) bool { return IsType(t.Type, accepted) }

// IsType is Token.IsType for a type taken from a token before.
func IsType(typ string, accepted []string) bool {
	typ = shortType(typ)
	if typ == "" {
		typ = "JWT"
	}
	for _, a := range accepted {
		if strings.EqualFold(shortType(a), typ) {
			return true
		}
	}
	return false
}

func shortType(typ string) string {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		return typ[len(prefix):]
	}
	return typ
}

// methods are the accepted algorithms (RFC 7518 §3, RFC 8037, RFC 9864). PS
// verifies with the salt as long as the hash and no other (RFC 7518 §3.5); the
// library's own take any.
var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384, "HS512": jwt.SigningMethodHS512,
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": pss("PS256", crypto.SHA256), "PS384": pss("PS384", crypto.SHA384), "PS512": pss("PS512", crypto.SHA512),
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
	"EdDSA": jwt.SigningMethodEdDSA, "Ed25519": jwt.SigningMethodEdDSA,
}

func pss(name string, hash crypto.Hash) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: name, Hash: hash},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// Method returns the signing method of an algorithm, or nil.
func Method(algorithm string) jwt.SigningMethod { return methods[algorithm] }

// Algorithms are the names of the accepted algorithms.
var Algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
	"ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}
