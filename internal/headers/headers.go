// Package headers lets a handler change the header of a response at the moment
// it is sent, when everything that handlers and backends put into it is known.
package headers

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Writer calls a function once, before the final header of a response is sent.
// Informational responses (1xx) pass before it, but for 101, which is final.
// It keeps what http.ResponseController can do with the writer beneath.
type Writer struct {
	http.ResponseWriter
	before func(h http.Header, status int)
	hook   Hook
	sent   bool
}

// Hook is called as the function of Before is.
type Hook interface {
	BeforeHeader(h http.Header, status int)
}

// Before returns a writer that calls before with the header and the status
// just before they are sent.
func Before(w http.ResponseWriter, before func(h http.Header, status int)) *Writer {
	return &Writer{ResponseWriter: w, before: before}
}

// Init makes a writer, which may be a part of something else, what Before
// returns, and allocates nothing.
func (w *Writer) Init(rw http.ResponseWriter, hook Hook) {
	*w = Writer{ResponseWriter: rw, hook: hook}
}

// Sent reports whether the final header was sent.
func (w *Writer) Sent() bool { return w.sent }

// Send calls the function if it was not called yet, for a status that is
// written past this writer.
func (w *Writer) Send(status int) {
	if w.sent {
		return
	}
	w.sent = true
	if w.hook != nil {
		w.hook.BeforeHeader(w.ResponseWriter.Header(), status)
		return
	}
	w.before(w.ResponseWriter.Header(), status)
}

// WriteHeader sends the header. Of a status that HTTP does not have, at which
// net/http panics, it makes 502: a proxy passes on whatever a service sends.
func (w *Writer) WriteHeader(status int) {
	if status < 100 || status > 999 {
		status = http.StatusBadGateway
	}
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.Send(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes the body, after a header with status 200 if there was none.
func (w *Writer) Write(p []byte) (int, error) {
	w.Send(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open for sendfile.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	w.Send(http.StatusOK)
	return (&caddyhttp.ResponseWriterWrapper{ResponseWriter: w.ResponseWriter}).ReadFrom(r)
}

// FlushError flushes, which sends the header.
func (w *Writer) FlushError() error {
	w.Send(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over, after which no header can be sent: the
// status is 101 unless there was another.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.Send(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Push implements http.Pusher for handlers that assert it.
func (w *Writer) Push(target string, opts *http.PushOptions) error {
	return (&caddyhttp.ResponseWriterWrapper{ResponseWriter: w.ResponseWriter}).Push(target, opts)
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
