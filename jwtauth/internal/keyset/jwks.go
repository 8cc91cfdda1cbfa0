package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// maxKeys bounds what a key set may hold.
const maxKeys = 100

var (
	errNoKeys = errors.New("the key set has no usable key")
	errMixed  = errors.New("the key set has both secrets and public keys, which cannot be combined")
)

// ErrEncryption is why a key for encryption is skipped: providers publish such keys
// beside those for signatures.
var ErrEncryption = errors.New("it is for encryption, not for signatures")

// ParseJWKS reads a key set (RFC 7517 §5). A key that is broken, unknown or not
// for signatures is skipped without affecting the others; the reasons are returned
// for the log. A set without a usable key is an error.
//
// One `kid` may stand on several keys that differ in `kty`, curve or `alg` (RFC
// 7517 §4.5), and a key may be repeated. Different keys that do not differ in these
// are all skipped, because they are ambiguous.
//
// secrets accepts symmetric keys (`oct`), in a set that has no others: with
// both, a public key could be taken for a secret (RFC 8725 §2.1).
func ParseJWKS(data []byte, accepted []string, secrets bool) (set *Set, skipped []error, err error) {
	// A map has exact names: a struct would accept `KEYS` too.
	var document map[string]json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, nil, errors.New("the key set is not a JSON object")
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(document["keys"], &raws); err != nil {
		if document["jwks_uri"] != nil {
			return nil, nil, errors.New("it is an issuer's configuration and not a key set: write `discovery <issuer>` instead of `jwks`")
		}
		return nil, nil, errors.New("the key set has no array of keys")
	}
	if len(raws) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys: at most %d are accepted", len(raws), maxKeys)
	}
	var keys []Key
	first := map[kind]Print{}
	ambiguous := map[kind]bool{}
	prints := map[Print]bool{}
	for i, raw := range raws {
		k, err := parseJWK(raw, accepted, secrets)
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if prints[k.Print] {
			continue
		}
		if print, seen := first[k.kind]; seen && print != k.Print && k.ID != "" {
			ambiguous[k.kind] = true
			skipped = append(skipped, fmt.Errorf("key %d: its kid %q is also that of another key of the same kty and alg", i+1, k.ID))
			continue
		}
		prints[k.Print], first[k.kind] = true, k.Print
		keys = append(keys, k)
	}
	keys = slices.DeleteFunc(keys, func(k Key) bool { return ambiguous[k.kind] })
	if len(keys) == 0 {
		if len(skipped) > 0 {
			return nil, skipped, fmt.Errorf("%w: %w", errNoKeys, skipped[0])
		}
		return nil, skipped, errNoKeys
	}
	for i := range keys {
		if keys[i].isSecret() != keys[0].isSecret() {
			return nil, skipped, errMixed
		}
	}
	return newSet(keys, true), skipped, nil
}

// kind distinguishes keys with the same `kid`.
type kind struct{ kid, kty, alg string }

// jwk are the members of a JSON Web Key, by their exact names.
type jwk map[string]any

// text returns a member that is a text, "" where there is none.
func (j jwk) text(name string) (string, error) {
	value, given := j[name]
	text, ok := value.(string)
	if given && !ok {
		return "", fmt.Errorf("its %s is not a string", name)
	}
	return text, nil
}

// bytes returns a member that is base64url; it must be there.
func (j jwk) bytes(name string) ([]byte, error) {
	text, err := j.text(name)
	if err != nil {
		return nil, err
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(data) == 0 {
		return nil, fmt.Errorf("its %s is not base64url", name)
	}
	return data, nil
}

func parseJWK(raw []byte, accepted []string, secrets bool) (Key, error) {
	m, err := token.DecodeObject(string(raw))
	if err != nil {
		return Key{}, err
	}
	k, err := keyOf(withoutNulls(m), accepted, secrets)
	if err == nil {
		k.Print, err = printOf(&k)
	}
	return k, err
}

// withoutNulls drops members that are null: some libraries write every member
// that they know, and null where the key has none.
func withoutNulls(j jwk) jwk {
	maps.DeleteFunc(j, func(_ string, value any) bool { return value == nil })
	return j
}

// keyOf makes a key without its print.
func keyOf(j jwk, accepted []string, secrets bool) (k Key, err error) {
	var kid, use, alg string
	for _, member := range []struct {
		name  string
		field *string
	}{{"kid", &kid}, {"use", &use}, {"alg", &alg}} {
		if *member.field, err = j.text(member.name); err != nil {
			return Key{}, err
		}
	}
	if member := j.encrypts(use, alg); member != "" {
		return Key{}, fmt.Errorf("by its %s %w", member, ErrEncryption)
	}
	if _, given := j["use"]; given && use != "sig" {
		return Key{}, errors.New("its use is not sig")
	}
	if ops, given := j["key_ops"]; given {
		list, _ := ops.([]any)
		if !slices.Contains(list, any("verify")) {
			return Key{}, errors.New("its key_ops lack verify")
		}
	}
	if _, private := j["d"]; private {
		// Anyone who can read the set can sign with it.
		return Key{}, errors.New("it is a private key")
	}
	value, err := j.value(secrets)
	if err != nil {
		return Key{}, err
	}
	if _, given := j["alg"]; given {
		if len(accepted) > 0 && !slices.Contains(accepted, alg) {
			return Key{}, fmt.Errorf("its alg %q is not accepted here", alg)
		}
		accepted = []string{alg}
	}
	if k, err = limited(kid, value, accepted); err == nil {
		kty, _ := j.text("kty")
		crv, _ := j.text("crv")
		k.kind = kind{kid, kty + " " + crv, alg}
	}
	return k, err
}

// encryptionAlgorithms begin the names of `alg` that are for encryption (RFC
// 7518 §4.1).
var encryptionAlgorithms = []string{"RSA1_5", "RSA-OAEP", "ECDH-ES", "A128", "A192", "A256", "PBES2", "dir"}

// encrypts returns the member by which the key is for encryption, or nothing.
func (j jwk) encrypts(use, alg string) string {
	ops, _ := j["key_ops"].([]any)
	switch {
	case use == "enc":
		return "use"
	case use != "":
	case len(ops) > 0 && !slices.ContainsFunc(ops, func(op any) bool {
		return !slices.Contains([]any{"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"}, op)
	}):
		return "key_ops"
	case slices.ContainsFunc(encryptionAlgorithms, func(begin string) bool { return strings.HasPrefix(alg, begin) }):
		return "alg"
	case j["crv"] == "X25519" || j["crv"] == "X448":
		return "crv"
	}
	return ""
}

// value builds the key. Symmetric keys are only accepted from this machine's
// files: a secret has no place in a document that others read.
func (j jwk) value(secrets bool) (any, error) {
	kty, err := j.text("kty")
	if err != nil {
		return nil, err
	}
	switch kty {
	case "RSA":
		return j.rsa()
	case "EC":
		return j.ec()
	case "OKP":
		x, err := j.bytes("x")
		if err != nil {
			return nil, err
		}
		if j["crv"] != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("it is not an Ed25519 key of 32 bytes")
		}
		return ed25519.PublicKey(x), nil
	case "oct":
		if secrets {
			secret, err := j.bytes("k")
			if err == nil && isPlaceholder(secret) {
				err = errPlaceholder
			}
			return secret, err
		}
		return nil, errors.New("a symmetric key in a key set is refused")
	}
	return nil, errors.New("its kty is not RSA, EC or OKP")
}

func (j jwk) rsa() (*rsa.PublicKey, error) {
	n, err := j.bytes("n")
	if err != nil {
		return nil, err
	}
	e, err := j.bytes("e")
	if err != nil {
		return nil, err
	}
	if len(n) > maxRSA/8+1 || len(e) > 4 || e[0] > 0x7f && len(e) == 4 {
		return nil, errors.New("its n or e is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

func (j jwk) ec() (*ecdsa.PublicKey, error) {
	crv, err := j.text("crv")
	if err != nil {
		return nil, err
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
	if curve == nil {
		return nil, errors.New("its curve is not P-256, P-384 or P-521")
	}
	x, err := j.bytes("x")
	if err != nil {
		return nil, err
	}
	y, err := j.bytes("y")
	if err != nil {
		return nil, err
	}
	// RFC 7518 §6.2.1.2 asks for the full length.
	if size := (curve.Params().BitSize + 7) / 8; len(x) != size || len(y) != size {
		return nil, fmt.Errorf("its x or y is not of %d bytes", size)
	}
	// Refuses a point that is not on the curve.
	return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
}
