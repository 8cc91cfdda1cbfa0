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
)

// maxKeys bounds what a key set may hold.
const maxKeys = 100

var errNoKeys = errors.New("the key set has no usable key")

// jwk are the members of a JSON Web Key that are needed to verify.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Alg    string   `json:"alg"`
	Crv    string   `json:"crv"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
}

// ParseJWKS reads a key set. A key that is broken, unknown or not for
// signatures is left out, and does not spoil the others; what was left out is
// returned for the log. A set in which no key is left is an error.
func ParseJWKS(data []byte, accepted []string) (set *Set, left []error, err error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, nil, errors.New("the key set is not JSON")
	}
	if len(document.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys: at most %d are accepted", len(document.Keys), maxKeys)
	}
	set = &Set{named: true}
	seen := map[string]bool{}
	for i, raw := range document.Keys {
		k, err := parseJWK(raw, accepted)
		if err != nil {
			left = append(left, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if k.ID != "" && seen[k.ID] {
			// Which of two is meant cannot be known; neither may be used.
			set.keys = slices.DeleteFunc(set.keys, func(other Key) bool { return other.ID == k.ID })
			left = append(left, fmt.Errorf("key %d: its kid stands twice", i+1))
			continue
		}
		seen[k.ID] = true
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 {
		return nil, left, errNoKeys
	}
	return set, left, nil
}

func parseJWK(raw []byte, accepted []string) (Key, error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return Key{}, errors.New("a member has the wrong type")
	}
	if j.Use != "" && j.Use != "sig" {
		return Key{}, errors.New("its use is not sig")
	}
	if j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
		return Key{}, errors.New("its key_ops lack verify")
	}
	value, err := j.value()
	if err != nil {
		return Key{}, err
	}
	if j.Alg != "" {
		if len(accepted) > 0 && !slices.Contains(accepted, j.Alg) {
			return Key{}, errors.New("its alg is not accepted here")
		}
		accepted = []string{j.Alg}
	}
	return newKey(j.Kid, value, accepted)
}

// value builds the public key. Symmetric keys are refused: a secret has no
// place in a document that others read.
func (j *jwk) value() (any, error) {
	switch j.Kty {
	case "RSA":
		n, err1 := number(j.N)
		e, err2 := number(j.E)
		if err := errors.Join(err1, err2); err != nil {
			return nil, errors.New("n or e is not base64url")
		}
		if e.BitLen() > 31 || n.BitLen() > maxRSA {
			return nil, errors.New("n or e is too large")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		if curve == nil {
			return nil, errors.New("its curve is not P-256, P-384 or P-521")
		}
		x, err1 := base64.RawURLEncoding.DecodeString(j.X)
		y, err2 := base64.RawURLEncoding.DecodeString(j.Y)
		size := (curve.Params().BitSize + 7) / 8
		if err := errors.Join(err1, err2); err != nil || len(x) != size || len(y) != size {
			// RFC 7518 §6.2.1.2 asks for the full length.
			return nil, fmt.Errorf("x or y is not base64url of %d bytes", size)
		}
		// Refuses a point that is not on the curve.
		return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if j.Crv != "Ed25519" || err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("it is not an Ed25519 key of 32 bytes")
		}
		return ed25519.PublicKey(x), nil
	case "oct":
		return nil, errors.New("a symmetric key in a key set is refused")
	}
	return nil, errors.New("its kty is not RSA, EC or OKP")
}

func number(text string) (*big.Int, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data) > maxRSA/8+1 {
		return nil, errors.New("length")
	}
	return new(big.Int).SetBytes(data), nil
}
