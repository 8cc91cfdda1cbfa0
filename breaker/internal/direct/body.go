package direct

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// body is the body of a response. Its end gives the connection back.
type body struct {
	x      *exchange
	src    io.ReadCloser
	keep   bool        // the connection may be used again
	done   atomic.Bool // it is given back, or closed
	closed atomic.Bool
}

var errBodyClosed = errors.New("direct: read of a closed response body")

// Read reads from the connection. The source knows its end, and does not read on
// behind it.
func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	n, err := b.src.Read(p)
	if err == nil {
		return n, nil
	}
	if b.done.CompareAndSwap(false, true) {
		b.x.finish(b.keep && errors.Is(err, io.EOF))
	}
	if ctx := b.x.r.Context(); !errors.Is(err, io.EOF) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return n, err
}

// Close closes the connection unless the body was read to its end. It may be
// called during a read.
func (b *body) Close() error {
	b.closed.Store(true)
	if b.done.CompareAndSwap(false, true) {
		b.x.finish(false)
	}
	return nil
}

// decode has the caller read what a server sent as gzip because the transport
// asked for it.
func decode(resp *http.Response, b *body) {
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	resp.Body = &gzipBody{body: b}
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// gzipBody decodes a body.
type gzipBody struct {
	*body
	reader *gzip.Reader // nil before the first read and behind the end
	err    error        // of the end
}

// Read decodes. Close, which may be called meanwhile, leaves the reader alone.
func (g *gzipBody) Read(p []byte) (n int, err error) {
	if g.err != nil {
		return 0, g.err
	}
	if g.reader == nil {
		g.reader = gzipReaders.Get().(*gzip.Reader)
		g.err = g.reader.Reset(g.body)
	}
	if g.err == nil {
		n, g.err = g.reader.Read(p)
	}
	if g.err != nil {
		gzipReaders.Put(g.reader)
		g.reader = nil
	}
	return n, g.err
}
