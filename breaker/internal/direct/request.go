package direct

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// outgoing is a request as it is sent.
type outgoing struct {
	*http.Request // the caller's, or a copy
	trace         *httptrace.ClientTrace
	plain         bool    // written by writeHead
	gzip          bool    // the transport asked for gzip, and decodes it
	upload        *upload // nil without a body
	large         bool    // the header may not fit into the buffers of the connection
}

// inlineHeader is how large a header may be to be sent before the response is read.
// Any socket buffers as much; more could block on a server that answers without
// reading.
const inlineHeader = 16 << 10

// outgoing checks the request as net/http's transport does and returns a copy to
// send. The request itself is not changed.
func (t *Transport) outgoing(r *http.Request) (*outgoing, error) {
	switch {
	case r.URL == nil || r.URL.Host == "":
		return nil, errors.New("http: no Host in request URL")
	case r.URL.Scheme != "http":
		return nil, fmt.Errorf("direct: unsupported scheme %q", r.URL.Scheme)
	case r.Header == nil:
		return nil, errors.New("direct: the request has no header")
	case !validMethod(r.Method):
		return nil, fmt.Errorf("invalid method %q", r.Method)
	}
	size, err := checkFields("header", r.Header)
	if err != nil {
		return nil, err
	}
	if _, err = checkFields("trailer", r.Trailer); err != nil {
		return nil, err
	}
	out := &outgoing{Request: r, trace: httptrace.ContextClientTrace(r.Context()), large: size > inlineHeader}
	t.addFields(out)
	if r.Body != nil && r.Body != http.NoBody {
		out.copy()
		out.upload = &upload{src: r.Body, trace: out.trace}
		if t.options.ContinueTimeout > 0 && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
			out.upload.timeout = t.options.ContinueTimeout
			out.upload.wait, out.upload.proceed = out.upload.timeout, make(chan bool, 1)
		}
		out.Body = out.upload
	}
	return out, nil
}

// addFields changes the request to what the transport needs.
func (t *Transport) addFields(out *outgoing) {
	if strings.EqualFold(out.Header.Get("Upgrade"), "h2c") {
		// A tunnel of HTTP/2 would carry requests that nobody checks. A server
		// answers over HTTP/1.1 if it is not asked.
		h := maps.Clone(out.Header)
		h.Del("Upgrade")
		h.Del("Http2-Settings")
		h.Del("Connection")
		out.copy().Header = h
	}
	h := out.Header
	if t.options.NoKeepAlive && !switches(h) {
		out.copy().Close = true
	}
	out.plain = out.simple()
	if !t.options.NoCompression && h.Get("Accept-Encoding") == "" && h.Get("Range") == "" && out.Method != http.MethodHead {
		out.gzip = true
		if !out.plain {
			h = maps.Clone(h)
			h["Accept-Encoding"] = []string{"gzip"}
			out.copy().Header = h
		}
	}
}

// copy has the request be one that may be changed.
func (out *outgoing) copy() *http.Request {
	r := *out.Request
	out.Request = &r
	return out.Request
}

// switches reports whether a header asks for, or agrees to, another protocol.
func switches(h http.Header) bool {
	return h.Get("Upgrade") != "" && httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade")
}

func validMethod(method string) bool {
	for i := range len(method) {
		if !httpguts.IsTokenRune(rune(method[i])) {
			return false
		}
	}
	return true
}

// checkFields returns about how many bytes the fields take, or an error for one
// that HTTP does not allow.
func checkFields(what string, fields http.Header) (size int, err error) {
	for name, values := range fields {
		if !httpguts.ValidHeaderFieldName(name) {
			return 0, fmt.Errorf("invalid HTTP %s field name %q", what, name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return 0, fmt.Errorf("invalid HTTP %s value of field %q", what, name) // the value may be a secret
			}
			size += len(name) + len(value) + 4
		}
	}
	return size, nil
}

// close closes the body, unless the exchange did.
func (out *outgoing) close() {
	if out.upload != nil {
		_ = out.upload.closeSource()
	}
}

// rewind prepares the request to be sent again after an exchange on a connection
// that gave no response. It returns false where the server may have taken the
// request, or the body is not there any more (RFC 9110 §9.2.2).
func (out *outgoing) rewind(r *http.Request, c *conn) bool {
	if !c.reused || c.written > 0 && !replayable(r) {
		return false
	}
	if out.upload == nil {
		return true
	}
	if !out.upload.used.Load() {
		if c.written > 0 {
			return false
		}
		out.upload = out.upload.renewed(out.upload.src)
		out.Body = out.upload
		return true
	}
	if r.GetBody == nil {
		return false
	}
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	_ = out.upload.closeSource()
	out.upload = out.upload.renewed(body)
	out.Body = out.upload
	return true
}

// renewed returns the upload of another attempt.
func (u *upload) renewed(src io.ReadCloser) *upload {
	again := &upload{src: src, trace: u.trace, timeout: u.timeout}
	if again.timeout > 0 {
		again.wait, again.proceed = again.timeout, make(chan bool, 1)
	}
	return again
}

// replayable reports whether a request may be sent twice. The rules are those of
// net/http.
func replayable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return false
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return len(r.Header["Idempotency-Key"]) > 0 || len(r.Header["X-Idempotency-Key"]) > 0
}

// upload is a request body as it is read to be sent.
type upload struct {
	src     io.ReadCloser
	trace   *httptrace.ClientTrace
	timeout time.Duration // how long at most to wait for 100 Continue, or 0
	wait    time.Duration // the same, until it was waited
	proceed chan bool     // whether to send the body, where there is a wait

	used     atomic.Bool // reading began
	closed   atomic.Bool
	withheld bool  // it is not sent, since the server answered without it
	err      error // why it could not be read
}

var errWithheld = errors.New("direct: the request body is not needed")

// Read reads for Request.Write, which has sent the header before.
func (u *upload) Read(p []byte) (int, error) {
	if u.wait > 0 && !u.await() {
		u.withheld = true
		return 0, errWithheld
	}
	u.used.Store(true)
	n, err := u.src.Read(p)
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// await waits for 100 Continue, for another response, or until there was time
// enough. It reports whether to send the body.
func (u *upload) await() bool {
	if u.trace != nil && u.trace.Wait100Continue != nil {
		u.trace.Wait100Continue()
	}
	timer := time.NewTimer(u.wait)
	defer timer.Stop()
	u.wait = 0
	select {
	case send := <-u.proceed:
		return send
	case <-timer.C:
		return true
	}
}

// decide ends the wait for 100 Continue, the first time that it is called.
func (u *upload) decide(send bool) {
	if u == nil || u.proceed == nil {
		return
	}
	select {
	case u.proceed <- send:
	default:
	}
}

// Close is called by Request.Write. A body that was not touched may yet be sent
// over another connection.
func (u *upload) Close() error {
	if u.used.Load() {
		return u.closeSource()
	}
	return nil
}

func (u *upload) closeSource() error {
	if !u.closed.CompareAndSwap(false, true) {
		return nil
	}
	return u.src.Close()
}
