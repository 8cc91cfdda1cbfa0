package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
)

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
