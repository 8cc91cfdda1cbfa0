package dpop

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"
)

const (
	// nonceLife is how long a nonce is accepted. A client uses one until it gets
	// another with a refusal, which costs it one request.
	nonceLife = 5 * time.Minute
	macLength = 16
)

// Nonces makes nonces and knows them again (RFC 9449 §8, §9). It keeps none: a
// nonce is a time and its authentication code, so that gateways with one secret
// accept each other's.
type Nonces struct {
	secrets [][]byte
}

// NewNonces takes the secrets whose nonces are accepted; the first makes new
// ones. Without any, a random one lasts as long as the Nonces.
func NewNonces(secrets ...[]byte) *Nonces {
	if len(secrets) == 0 {
		random := make([]byte, sha256.Size)
		_, _ = rand.Read(random) // never fails
		secrets = [][]byte{random}
	}
	return &Nonces{secrets}
}

// New returns a nonce.
func (n *Nonces) New(now time.Time) string {
	var nonce [8 + macLength]byte
	binary.BigEndian.PutUint64(nonce[:8], uint64(now.UnixMilli()))
	copy(nonce[8:], code(n.secrets[0], nonce[:8]))
	return base64.RawURLEncoding.EncodeToString(nonce[:])
}

// Good reports whether a nonce is of these secrets, and not too old.
func (n *Nonces) Good(text string, now time.Time) bool {
	nonce, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(nonce) != 8+macLength {
		return false
	}
	age := now.UnixMilli() - int64(binary.BigEndian.Uint64(nonce[:8]))
	// Another gateway's clock may be ahead.
	if age > nonceLife.Milliseconds() || age < -nonceLife.Milliseconds() {
		return false
	}
	good := 0
	for _, secret := range n.secrets {
		good |= subtle.ConstantTimeCompare(code(secret, nonce[:8]), nonce[8:])
	}
	return good == 1
}

func code(secret, moment []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("tentagate dpop nonce "))
	mac.Write(moment)
	return mac.Sum(nil)[:macLength]
}
