// Package seal encrypts what certificate storage keeps in Redis, and hides its
// names: AES-256-GCM for values, HMAC-SHA-256 for names. Both use keys that are
// derived (HKDF, RFC 5869) from the one that the operator configures.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// version is the first byte of everything that is sealed.
const version = 1

// ErrCorrupt means that a sealed text was changed, belongs to another name, or
// was sealed with another key.
var ErrCorrupt = errors.New("the stored data cannot be decrypted: it was changed, or moved from another name")

// Key seals and opens, and hides names. It is safe for concurrent use.
type Key struct {
	id   string
	aead cipher.AEAD
	mac  []byte
}

// accepted says how a key is written.
const accepted = "accepted are 32 random bytes in hexadecimal (64 digits) or base64, as `openssl rand -base64 32` prints them"

// ParseKey reads a key of 32 bytes in hexadecimal or base64. Its errors show
// nothing of the text.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	raw, err := decode(text)
	if err != nil {
		return nil, err
	}
	return newKey(raw)
}

func decode(text string) ([]byte, error) {
	if len(text) == hex.EncodedLen(KeySize) {
		if raw, err := hex.DecodeString(text); err == nil {
			return raw, nil
		}
	}
	unpadded := strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if raw, err := encoding.Strict().DecodeString(unpadded); err == nil {
			if len(raw) != KeySize {
				return nil, fmt.Errorf("it has %d bytes: %s", len(raw), accepted)
			}
			return raw, nil
		}
	}
	return nil, errors.New("it is neither hexadecimal nor base64: " + accepted)
}

// leastDistinct is how many different bytes a key must have. 32 random bytes have
// fewer with a probability below 10⁻¹⁵.
const leastDistinct = 12

func newKey(raw []byte) (*Key, error) {
	distinct := map[byte]bool{}
	for _, b := range raw {
		distinct[b] = true
	}
	if len(distinct) < leastDistinct {
		return nil, errors.New("it is not random: " + accepted)
	}
	derive := func(purpose string) []byte {
		key, err := hkdf.Key(sha256.New, raw, nil, "tentagate certificate storage "+purpose, KeySize)
		if err != nil {
			panic(err) // the lengths are constants
		}
		return key
	}
	block, err := aes.NewCipher(derive("encryption"))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{id: hex.EncodeToString(derive("identifier")[:4]), aead: aead, mac: derive("names")}, nil
}

// ID identifies the key and reveals nothing of it.
func (k *Key) ID() string { return k.id }

// Name returns what a name of a kind is called in Redis. Only who has the key can
// tell which name it is.
func (k *Key) Name(kind, name string) string {
	h := hmac.New(sha256.New, k.mac)
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// Seal encrypts a text that belongs to name.
func (k *Key) Seal(text []byte, name string) []byte {
	sealed := make([]byte, 1, 1+len(text)+k.aead.Overhead())
	sealed[0] = version
	return k.aead.Seal(sealed, nil, text, associated(name)) //nolint:gosec // the nonce is random and part of what is returned
}

// Open decrypts what Seal returned for the same name. The error is ErrCorrupt.
func (k *Key) Open(sealed []byte, name string) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return nil, ErrCorrupt
	}
	text, err := k.aead.Open(nil, nil, sealed[1:], associated(name))
	if err != nil {
		return nil, ErrCorrupt
	}
	return text, nil
}

func associated(name string) []byte { return append([]byte{version}, name...) }

// Ring are the keys of a storage. The first one seals; each opens what it sealed.
type Ring []*Key

// NewRing reads the keys.
func NewRing(texts []string) (Ring, error) {
	if len(texts) == 0 {
		return nil, errors.New("no key: " + accepted)
	}
	var ring Ring
	seen := map[string]int{}
	for i, text := range texts {
		key, err := ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(texts), err)
		}
		if before := seen[key.id]; before > 0 {
			return nil, fmt.Errorf("key %d of %d: it is the same as key %d", i+1, len(texts), before)
		}
		seen[key.id] = i + 1
		ring = append(ring, key)
	}
	return ring, nil
}

// IDs returns the identifiers of the keys.
func (r Ring) IDs() []string {
	ids := make([]string, len(r))
	for i, k := range r {
		ids[i] = k.id
	}
	return ids
}

// Primary returns the key that seals.
func (r Ring) Primary() *Key { return r[0] }
