package apidocs

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

	"github.com/pythopus/tentagate/internal/problem"
)

// resource is what is served at one path, kept compressed.
type resource struct {
	contentType string
	compressed  []byte
	size        int
	etag        string // without quotes
}

// newResource compresses a body.
func newResource(contentType string, body []byte) (*resource, error) {
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
	return &resource{contentType, bytes.Clone(b.Bytes()), len(body), hex.EncodeToString(sum[:12])}, nil
}

// ofCompressed is newResource for a body that is compressed already.
func ofCompressed(contentType string, compressed []byte) (*resource, error) {
	r := &resource{contentType: contentType, compressed: compressed}
	body, err := r.text()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	r.size, r.etag = len(body), hex.EncodeToString(sum[:12])
	return r, nil
}

// text returns the body.
func (res *resource) text() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(res.compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// serve answers a request with the resource.
func (res *resource) serve(w http.ResponseWriter, r *http.Request) error {
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

// methodNotAllowed refuses requests that are not GET or HEAD.
func methodNotAllowed(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD")
	return problem.Error(problem.New(http.StatusMethodNotAllowed, "the API documentation is read with GET or HEAD"))
}
