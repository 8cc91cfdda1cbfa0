// Package resource serves what is fixed at one path, such as the files of a page, compressed
// and with an entity tag.
package resource

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
)

// Resource is what is served at one path, kept compressed.
type Resource struct {
	contentType string
	compressed  []byte
	size        int
	etag        string // without quotes
}

// New compresses a body.
func New(contentType string, body []byte) (*Resource, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err = z.Write(body); err != nil {
		return nil, err
	}
	if err = z.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &Resource{contentType, bytes.Clone(b.Bytes()), len(body), hex.EncodeToString(sum[:12])}, nil
}

// OfCompressed is New for a body that is compressed already.
func OfCompressed(contentType string, compressed []byte) (*Resource, error) {
	r := &Resource{contentType: contentType, compressed: compressed}
	body, err := r.Text()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	r.size, r.etag = len(body), hex.EncodeToString(sum[:12])
	return r, nil
}

// Text returns the body.
func (res *Resource) Text() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(res.compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// Serve answers a GET or HEAD request with the resource.
func (res *Resource) Serve(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	compressed := accepts(r)
	etag := `"` + res.etag + `"`
	if compressed {
		etag = `"` + res.etag + `-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", res.contentType)
	h.Set("Etag", etag)
	h.Add("Vary", "Accept-Encoding")
	if matches(r.Header.Values("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	size := res.size
	if compressed {
		size = len(res.compressed)
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if compressed {
		_, _ = bytes.NewReader(res.compressed).WriteTo(w) // the client may be gone
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(res.compressed))
	if err != nil {
		return err
	}
	_, _ = io.CopyN(w, z, int64(res.size))
	return nil
}

// accepts reports whether the client takes a body that is compressed with gzip.
func accepts(r *http.Request) bool {
	for _, encoding := range encode.AcceptedEncodings(r, []string{"gzip"}) {
		if encoding == "gzip" || encoding == "x-gzip" {
			return true
		}
	}
	return false
}

// matches reports whether a list of entity tags has the tag (RFC 9110 §13.1.2).
func matches(values []string, etag string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.TrimPrefix(item, "W/") == etag {
				return true
			}
		}
	}
	return false
}
