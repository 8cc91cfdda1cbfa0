package rediscache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
)

// methodQuery is that of a safe request whose content says what is asked for (RFC
// 10008).
const methodQuery = "QUERY"

const (
	defaultContent = 64 << 10
	maxContent     = 16 << 20
)

// content is that of a QUERY request, as far as answers depend on it.
type content struct {
	body []byte
	part []byte // of the key
}

// contentOf reads the content of a QUERY request, which then has a copy of it. If
// there is a reason for the cache to have no part in the request, the service gets
// it as it came, with an error where the client's content broke off.
func (h *Handler) contentOf(r *http.Request) (c *content, reason string) {
	switch {
	case r.ContentLength > h.Key.Body:
		return nil, "body"
	case len(r.Header["Range"]) > 0:
		return nil, "range"
	case len(r.Trailer) > 0:
		return nil, "trailer"
	}
	c = new(content)
	if r.Body != nil && r.Body != http.NoBody {
		from := r.Body
		var err error
		c.body, err = io.ReadAll(io.LimitReader(from, h.Key.Body+1))
		again := reread{Reader: bytes.NewReader(c.body), Closer: from}
		r.Body = &again
		switch {
		case err != nil:
			again.Reader = io.MultiReader(again.Reader, broken{err})
			return nil, "body"
		case int64(len(c.body)) > h.Key.Body:
			again.Reader = io.MultiReader(again.Reader, from)
			return nil, "body"
		case len(r.Trailer) > 0:
			return nil, "trailer"
		}
	}
	sum := sha256.Sum256(c.body)
	c.part = hex.AppendEncode([]byte{'q'}, sum[:])
	var names []string // of what the content is
	for name := range r.Header {
		if strings.HasPrefix(name, "Content-") && name != "Content-Length" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c.part = appendPart(c.part, name)
		c.part = appendFields(c.part, r, []string{name})
	}
	return c, ""
}

// give puts the content into a request to the service.
func (c *content) give(r *http.Request) {
	r.ContentLength, r.TransferEncoding, r.Body = int64(len(c.body)), nil, http.NoBody
	if len(c.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(c.body))
	}
}

// reread is a request body of which the beginning was read already.
type reread struct {
	io.Reader
	io.Closer
}

// broken is where a body broke off.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
