package rediscache

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
)

// recorder passes a response on and keeps a copy. The handlers behind it get a
// header of their own, so that what is stored is the service's and not what
// handlers in front have set for this one request.
type recorder struct {
	http.ResponseWriter
	fields http.Header
	begin  func(fields http.Header, status int)
	hold   func(status int) bool

	status int
	sent   bool // the header is out
	held   bool // the response is kept from the client
	keep   bool // the body is copied
	limit  int64
	body   []byte
}

func newRecorder(w http.ResponseWriter, begin func(http.Header, int)) *recorder {
	return &recorder{ResponseWriter: w, fields: http.Header{}, begin: begin}
}

// Header returns the header that the handlers behind fill.
func (w *recorder) Header() http.Header { return w.fields }

// WriteHeader merges the header into the client's and sends it. Informational
// responses pass.
func (w *recorder) WriteHeader(status int) {
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		w.merge()
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.sent || w.held {
		return
	}
	w.status = status
	if w.hold != nil && w.hold(status) {
		w.held = true
		return
	}
	w.sent = true
	w.begin(w.fields, status)
	w.merge()
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) merge() {
	out := w.ResponseWriter.Header()
	for name, values := range w.fields {
		if name == "Vary" || name == "Cache-Status" {
			out[name] = append(append([]string(nil), out[name]...), values...)
			continue
		}
		out[name] = values
	}
}

// trailers passes on the trailer fields that came after the body.
func (w *recorder) trailers() {
	out := w.ResponseWriter.Header()
	for name, values := range w.fields {
		if _, sent := out[name]; !sent || strings.HasPrefix(name, http.TrailerPrefix) {
			out[name] = values
		}
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	if !w.sent && !w.held {
		w.WriteHeader(http.StatusOK)
	}
	if w.held {
		return len(p), nil
	}
	if w.keep {
		if int64(len(w.body)+len(p)) > w.limit {
			w.keep, w.body = false, nil
		} else {
			w.body = append(w.body, p...)
		}
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom copies through Write, which sees every byte.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

// FlushError flushes what the client has been sent.
func (w *recorder) FlushError() error {
	if !w.sent && !w.held {
		w.WriteHeader(http.StatusOK)
	}
	if w.held {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over, as an upgrade does.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.keep = false
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
