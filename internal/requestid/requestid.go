// Package requestid has the ids by which logs, clients and services name a
// request.
package requestid

import (
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Header is the field of a request and of its response that has the id.
const Header = "X-Request-Id"

// maxLen is the longest id that is accepted from a client, in bytes.
const maxLen = 128

// Of returns the id that the client sent, if it is the only one and safe to log,
// and otherwise a new one.
func Of(h http.Header) string {
	if given := h[Header]; len(given) == 1 && Valid(given[0]) {
		return given[0]
	}
	return generate(time.Now())
}

// Valid reports whether an id is safe to log and to look up: it has 1 to 128 letters,
// digits, dots, underscores and hyphens.
func Valid(id string) bool {
	if len(id) == 0 || len(id) > maxLen {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// generate returns a UUIDv7 (RFC 9562 §5.7), which sorts by time. The rest of it
// is random: Go's ChaCha8, without the lock and the system call of uuid.NewV7.
func generate(now time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|rand.Uint64()&0xffff)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id.String()
}
