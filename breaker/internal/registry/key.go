package registry

import (
	"crypto/sha256"
	"encoding/hex"
)

// maxKey bounds what a client can make the gateway remember for a key.
const maxKey = 128

// boundKey shortens long keys; two of them stay two.
func boundKey(key string) string {
	if len(key) <= maxKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return key[:maxKey-2*sha256.Size] + hex.EncodeToString(sum[:])
}
