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
	"math/big"
	"slices"

	"github.com/pythopus/tentagate/jwtauth/token"
)

// maxKeys bounds what a key set may hold.
const maxKeys = 100

var (
	errNoKeys = errors.New("the key set has no usable key")
	errMixed  = errors.New("the key set has secrets and public keys: they never stand together")
)

// ParseJWKS reads a key set (RFC 7517 §5). A key that is broken, unknown or not
// for signatures is left out, and does not spoil the others; what was left out
// is returned for the log. A set in which no key is left is an error.
//
// secrets accepts symmetric keys (`oct`), in a set that has no others: with
// both, a public key could be taken for a secret (RFC 8725 §2.1).
func ParseJWKS(data []byte, accepted []string, secrets bool) (set *Set, left []error, err error) {
	// A map has exact names: a struct would take `KEYS` too.
	var document map[string]json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, nil, errors.New("the key set is not a JSON object")
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(document["keys"], &raws); err != nil {
		return nil, nil, errors.New("the key set has no array of keys")
	}
	if len(raws) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys: at most %d are accepted", len(raws), maxKeys)
	}
	var keys []Key
	seen := map[string]bool{}
	for i, raw := range raws {
		k, err := parseJWK(raw, accepted, secrets)
		if err != nil {
			left = append(left, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if k.ID != "" && seen[k.ID] {
			// Which of two is meant cannot be known; neither may be used.
			keys = slices.DeleteFunc(keys, func(other Key) bool { return other.ID == k.ID })
			left = append(left, fmt.Errorf("key %d: its kid stands twice", i+1))
			continue
		}
		seen[k.ID] = true
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, left, errNoKeys
	}
	for i := range keys {
		if keys[i].isSecret() != keys[0].isSecret() {
			return nil, left, errMixed
		}
	}
	return newSet(keys, true), left, nil
}

// jwk are the members of a JSON Web Key, by their exact names.
type jwk map[string]any

// text returns a member that is a text, "" where there is none.
func (j jwk) text(name string) (string, error) {
	value, given := j[name]
	text, ok := value.(string)
	if given && !ok {
		return "", fmt.Errorf("its %s is not a text", name)
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
	k, err := keyOf(m, accepted, secrets)
	if err == nil {
		k.Print, err = printOf(&k)
	}
	return k, err
}

// keyOf makes a key without its print.
func keyOf(j jwk, accepted []string, secrets bool) (_ Key, err error) {
	var kid, use, alg string
	for _, member := range []struct {
		name  string
		field *string
	}{{"kid", &kid}, {"use", &use}, {"alg", &alg}} {
		if *member.field, err = j.text(member.name); err != nil {
			return Key{}, err
		}
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
		// Whoever can read the set can sign with it.
		return Key{}, errors.New("it is a private key")
	}
	value, err := j.value(secrets)
	if err != nil {
		return Key{}, err
	}
	if _, given := j["alg"]; given {
		if len(accepted) > 0 && !slices.Contains(accepted, alg) {
			return Key{}, errors.New("its alg is not accepted here")
		}
		accepted = []string{alg}
	}
	return limited(kid, value, accepted)
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
			return j.bytes("k")
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
