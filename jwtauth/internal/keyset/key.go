// Package keyset holds the keys that tokens are verified with: secrets, PEM
// public keys, and JSON Web Key Sets (RFC 7517) from a file or a URL.
package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// minRSA is the least accepted size of an RSA modulus in bits (RFC 7518 §3.3).
const minRSA = 2048

// maxRSA bounds what one verification may cost.
const maxRSA = 8192

// Key is one key and what it may be used for.
type Key struct {
	// ID is the `kid`, empty for secrets and PEM keys.
	ID string
	// Algorithms that the key may verify. A key never verifies another, whatever
	// a token says (RFC 8725 §3.1).
	Algorithms []string
	// Value is what golang-jwt takes: []byte, *rsa.PublicKey, *ecdsa.PublicKey
	// or ed25519.PublicKey.
	Value any
	// Print is equal for two keys only if all of the above is.
	Print Print

	kind kind // in a key set
}

// isSecret reports whether the key is symmetric.
func (k *Key) isSecret() bool {
	_, ok := k.Value.([]byte)
	return ok
}

// Print is a fingerprint of a key: a SHA-256.
type Print [sha256.Size]byte

// maxTried is how many keys are tried for a token without a `kid`.
const maxTried = 4

// Set is an immutable set of keys.
type Set struct {
	keys []Key
	// named is true for a JWKS: its keys are found by `kid`.
	named bool

	ids         map[string]struct{}
	byName      map[name][]Key   // named sets: the keys to try
	byAlgorithm map[string][]Key // the keys that can verify an algorithm
	prints      map[Print]struct{}
}

// name is what the header of a token has of its key.
type name struct{ kid, algorithm string }

// newSet makes a set; its keys do not change any more.
func newSet(keys []Key, named bool) *Set {
	s := &Set{
		keys: keys, named: named, ids: map[string]struct{}{}, byName: map[name][]Key{},
		byAlgorithm: map[string][]Key{}, prints: map[Print]struct{}{},
	}
	for _, k := range keys {
		s.ids[k.ID] = struct{}{}
		s.prints[k.Print] = struct{}{}
		for _, a := range k.Algorithms {
			s.byAlgorithm[a] = append(s.byAlgorithm[a], k)
			s.byName[name{k.ID, a}] = append(s.byName[name{k.ID, a}], k)
		}
	}
	if !named {
		return s
	}
	// A key that declares the algorithm comes before others that can do it.
	bound := func(list []Key, algorithm string) []Key {
		slices.SortStableFunc(list, func(a, b Key) int {
			return b.declares(algorithm) - a.declares(algorithm)
		})
		return slices.Clip(list[:min(len(list), maxTried)])
	}
	for n, list := range s.byName {
		s.byName[n] = bound(list, n.algorithm)
	}
	for algorithm, list := range s.byAlgorithm {
		s.byAlgorithm[algorithm] = bound(list, algorithm)
	}
	return s
}

func (k *Key) declares(algorithm string) int {
	if k.kind.alg == algorithm {
		return 1
	}
	return 0
}

// equal reports whether two sets have the same keys. An unchanged set keeps its
// pointer, so that cached tokens need no further check.
func (s *Set) equal(other *Set) bool {
	return s.named == other.named && maps.Equal(s.prints, other.prints)
}

// Has reports whether a key is in the set. Tokens that were verified by a key are
// accepted only as long as it is.
func (s *Set) Has(print Print) bool {
	if s == nil {
		return false
	}
	_, ok := s.prints[print]
	return ok
}

// Len returns the number of keys.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// Find returns the keys to try for a token: all secrets or PEM keys, and of a
// JWKS at most four. These are the keys with the token's `kid` that can do its
// algorithm (RFC 7517 §4.5) or, for a token without one, any that can. known is
// false if the set has no key of that name, which a newer version of it may have.
func (s *Set) Find(kid, algorithm string) (keys []Key, known bool) {
	switch {
	case s == nil:
		return nil, false
	case !s.named:
		return s.byAlgorithm[algorithm], true
	case kid == "":
		return s.byAlgorithm[algorithm], len(s.keys) > 0
	}
	_, known = s.ids[kid]
	return s.byName[name{kid, algorithm}], known
}

// algorithmsOf returns the algorithms that a key of this type and size can
// verify.
func algorithmsOf(value any) ([]string, error) {
	switch k := value.(type) {
	case []byte:
		var list []string
		for _, h := range []struct {
			name string
			min  int
		}{{"HS256", 32}, {"HS384", 48}, {"HS512", 64}} {
			if len(k) >= h.min {
				list = append(list, h.name)
			}
		}
		if list == nil {
			return nil, fmt.Errorf("%d bytes are too short: HS256 takes at least 32, HS384 48, HS512 64", len(k))
		}
		return list, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("an RSA key of %d bits: accepted are %d to %d", bits, minRSA, maxRSA)
		}
		if roca(k.N) {
			return nil, errors.New("an RSA key that can be factored (CVE-2017-15361)")
		}
		if k.E < 3 || k.E%2 == 0 {
			return nil, errors.New("an RSA key with a bad exponent")
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		algorithm, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Params().Name]
		if !ok {
			return nil, fmt.Errorf("an EC key on %s: accepted are P-256, P-384 and P-521", k.Params().Name)
		}
		// Refuses a point that is not on the curve.
		if _, err := k.ECDH(); err != nil {
			return nil, errors.New("an EC key whose point is not on its curve")
		}
		return []string{algorithm}, nil
	case ed25519.PublicKey:
		return []string{"EdDSA", "Ed25519"}, nil
	}
	return nil, fmt.Errorf("a key of type %T: accepted are RSA, EC and Ed25519", value)
}

// newKey makes a key for a set.
func newKey(id string, value any, accepted []string) (Key, error) {
	k, err := limited(id, value, accepted)
	if err == nil {
		k.Print, err = printOf(&k)
	}
	return k, err
}

// limited limits a key to the algorithms that the operator accepts; none given
// accepts all that the key can do.
func limited(id string, value any, accepted []string) (Key, error) {
	list, err := algorithmsOf(value)
	if err != nil {
		return Key{}, err
	}
	if len(accepted) > 0 {
		list = slices.DeleteFunc(list, func(a string) bool { return !slices.Contains(accepted, a) })
		if len(list) == 0 {
			return Key{}, fmt.Errorf("it supports none of the accepted algorithms %v", accepted)
		}
	}
	return Key{ID: id, Algorithms: list, Value: value}, nil
}

func printOf(k *Key) (p Print, err error) {
	material, ok := k.Value.([]byte)
	if !ok {
		if material, err = x509.MarshalPKIXPublicKey(k.Value); err != nil {
			return p, errors.New("a key that cannot be written")
		}
	}
	h := sha256.New()
	for _, part := range []string{k.ID, strings.Join(k.Algorithms, " "), string(material)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Sum(p[:0])
	return p, nil
}

// rocaPrimes are the small odd primes that the faulty generator used.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// roca reports whether an RSA modulus is from the key generator whose primes
// are powers of 65537 modulo a product of small primes (Nemec et al., "The
// Return of Coppersmith's Attack", 2017): such a key can be factored. A sound
// modulus passes for one with a probability under 2⁻²⁷.
func roca(n *big.Int) bool {
	var rest big.Int
	for _, p := range rocaPrimes {
		want := rest.Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p {
			if power == want {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}

// privateMembers are those of a JSON Web Key that only its owner may know (RFC
// 7518 §6.2.2, §6.3.2, §6.4.1).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// Public reads a public key that a client shows of itself, as in the header of a
// DPoP proof (RFC 9449 §4.2). Its members are what token.DecodeObject returns.
// The key must be one that a key set could have, of the accepted algorithms,
// without anything private. It has no
// Print, and its ID has no meaning.
func Public(members map[string]any, accepted []string) (Key, error) {
	members = withoutNulls(maps.Clone(members))
	for _, name := range privateMembers {
		if _, given := members[name]; given {
			return Key{}, errors.New("the key has private members")
		}
	}
	return keyOf(members, accepted, false)
}

// Thumbprint returns the JWK thumbprint of a public key: the base64url of the
// SHA-256 of its required members (RFC 7638, RFC 8037 §2).
func Thumbprint(value any) (string, error) {
	text := base64.RawURLEncoding.EncodeToString
	var members string
	switch k := value.(type) {
	case *rsa.PublicKey:
		members = `{"e":"` + text(big.NewInt(int64(k.E)).Bytes()) + `","kty":"RSA","n":"` + text(k.N.Bytes()) + `"}`
	case *ecdsa.PublicKey:
		// The uncompressed point: 4, x, y, in full length (RFC 7518 §6.2.1.2).
		point, err := k.Bytes()
		if err != nil {
			return "", err
		}
		half := (len(point) - 1) / 2
		members = `{"crv":"` + k.Params().Name + `","kty":"EC","x":"` + text(point[1:1+half]) + `","y":"` + text(point[1+half:]) + `"}`
	case ed25519.PublicKey:
		members = `{"crv":"Ed25519","kty":"OKP","x":"` + text(k) + `"}`
	default:
		return "", errors.New("the key is not a public key")
	}
	sum := sha256.Sum256([]byte(members))
	return text(sum[:]), nil
}
