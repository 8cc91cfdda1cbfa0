package rediscache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
)

// methodQuery is that of a safe request whose content says what is asked for (RFC
// 10008).
const methodQuery = "QUERY"

const (
	defaultContent = 64 << 10
	maxContent     = 16 << 20
)

// content is that of a QUERY request, as far as responses depend on it.
type content struct {
	body []byte
	key  []byte // its part of the key
}

// readContent reads the content of a QUERY request, which then has a copy of it. If
// there is a reason for the request to bypass the cache, the origin gets the content as
// it came, with an error where the client's broke off.
func readContent(r *http.Request, limit int64) (c *content, bypass string) {
	switch {
	case r.ContentLength > limit:
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
		c.body, err = io.ReadAll(io.LimitReader(from, limit+1))
		again := rereadable{Reader: bytes.NewReader(c.body), Closer: from}
		r.Body = &again
		switch {
		case err != nil:
			again.Reader = io.MultiReader(again.Reader, failing{err})
			return nil, "body"
		case int64(len(c.body)) > limit:
			again.Reader = io.MultiReader(again.Reader, from)
			return nil, "body"
		case len(r.Trailer) > 0:
			return nil, "trailer"
		}
	}
	sum := sha256.Sum256(c.body)
	c.key = hex.AppendEncode([]byte{'q'}, sum[:])
	var names []string // of the fields that say what the content is
	for name := range r.Header {
		if strings.HasPrefix(name, "Content-") && name != "Content-Length" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c.key = cachekey.AppendPart(c.key, name)
		c.key = cachekey.AppendFields(c.key, r.Header, []string{name})
	}
	return c, ""
}

// giveTo puts the content into a request to the origin.
func (c *content) giveTo(r *http.Request) {
	r.ContentLength, r.TransferEncoding, r.Body = int64(len(c.body)), nil, http.NoBody
	if len(c.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(c.body))
	}
}

// rereadable is a request body of which the beginning was read already.
type rereadable struct {
	io.Reader
	io.Closer
}

// failing is where a body broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
