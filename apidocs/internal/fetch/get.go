package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/document"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
	"github.com/pythopus/tentagate/internal/refresh"
)

// accept says which documents are understood; JSON is cheaper to read.
const accept = "application/vnd.oai.openapi+json, application/json;q=0.9, application/vnd.oai.openapi;q=0.8, application/yaml;q=0.8, */*;q=0.1"

func newClient(o Options) *http.Client {
	own := refresh.NewTransport()
	if o.H2C {
		own.Protocols = new(http.Protocols)
		own.Protocols.SetUnencryptedHTTP2(true)
	}
	return refresh.NewClient(own)
}

// tag is by what a server, or a file, is asked whether a document is the same.
type tag struct{ url, etag, modified string }

// errNone says that a service has no document.
var errNone = errors.New("the service has no document there")

// get gets the document from the first place that has one.
func (s *Source) get(ctx context.Context) (d *document.Document, from, result string, err error) {
	if s.File != "" {
		text, err := readFile(s.File)
		if err != nil {
			return nil, s.File, Failed, err
		}
		d, result, err = s.read(text)
		return d, s.File, result, err
	}
	for _, address := range s.URLs {
		var text []byte
		var unchanged bool
		if text, unchanged, err = s.ask(ctx, address); err != nil {
			from = Shown(address)
			continue
		}
		if unchanged {
			result, err = s.unchanged()
		} else {
			d, result, err = s.read(text)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", Shown(address), err)
		}
		return d, Shown(address), result, err
	}
	if errors.Is(err, errNone) {
		return nil, from, None, err
	}
	return nil, from, Failed, err
}

// read reads a text, unless it is the one that was read last.
func (s *Source) read(text []byte) (d *document.Document, result string, err error) {
	sum := sha256.Sum256(text)
	if sum == s.sum {
		result, err = s.unchanged()
		return nil, result, err
	}
	d, err = document.Read(text)
	s.sum, s.readErr = sum, err
	if err != nil {
		return nil, Failed, err
	}
	return d, OK, nil
}

// unchanged returns the result of a text that was read before.
func (s *Source) unchanged() (result string, err error) {
	if s.readErr != nil {
		return Failed, s.readErr
	}
	return Unchanged, nil
}

// Shown returns a URL as it may be shown: its query may hold a secret, such as the
// signature of a link to a store, and is left out.
func Shown(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

// ask asks for the document at a URL. Errors name the URL.
func (s *Source) ask(ctx context.Context, address string) (text []byte, unchanged bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", Shown(address), err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "TentaGate")
	conditional := s.tag.url == address && s.tag.etag+s.tag.modified != ""
	if conditional {
		setIf(req.Header, "If-None-Match", s.tag.etag)
		setIf(req.Header, "If-Modified-Since", s.tag.modified)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, false, refresh.Cause(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return nil, true, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return nil, false, fmt.Errorf("status %d: %w", resp.StatusCode, errNone)
	case resp.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("status %d", resp.StatusCode)
	}
	if text, err = readAll(resp.Body, resp.ContentLength); err != nil {
		return nil, false, err
	}
	s.tag = tag{address, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}
	return text, false, nil
}

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

func readFile(name string) ([]byte, error) {
	// Before it is opened, which waits for the writer of a named pipe.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, info.Size())
}

// readAll reads at most what a document may have.
func readAll(r io.Reader, size int64) ([]byte, error) {
	maximum := int64(tree.Standard().Bytes)
	if size > maximum {
		return nil, fmt.Errorf("the document is longer than %d bytes", maximum)
	}
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(size) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(r, maximum+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > maximum {
		return nil, fmt.Errorf("the document is longer than %d bytes", maximum)
	}
	return b.Bytes(), nil
}
