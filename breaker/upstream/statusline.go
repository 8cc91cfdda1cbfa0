package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// watchStatusLines has the transport refuse answers whose status line has more
// than one blank before its code (RFC 9112 §4), which net/http takes and another
// reader may not. It sees connections without TLS.
func watchStatusLines(t *http.Transport) {
	dial := t.DialContext
	if dial == nil || t.Protocols != nil && !t.Protocols.HTTP1() {
		return // HTTP/2 has no such line
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c}, nil
	}
}

// expectAnswer has the connection that the request gets look at what is read
// from it. The trace is reverse_proxy's own for this attempt, which has no hook
// there; so that nothing is allocated it is given one.
func expectAnswer(r *http.Request) {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil {
		return
	}
	before := trace.GotConn
	if before == nil {
		trace.GotConn = gotConn
		return
	}
	trace.GotConn = func(info httptrace.GotConnInfo) {
		before(info)
		gotConn(info)
	}
}

func gotConn(info httptrace.GotConnInfo) {
	if c, ok := info.Conn.(*conn); ok {
		c.expects.Store(true)
	}
}

// conn is a connection to an upstream.
type conn struct {
	net.Conn
	expects atomic.Bool // an answer begins with the next byte
	line    statusLine  // the reader's
}

// Read makes a status line that is to be refused one that net/http refuses.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		if c.expects.Load() && c.expects.Swap(false) {
			c.line = statusLine{looks: true}
		}
		if c.line.looks {
			c.line.look(p[:n])
		}
	}
	return n, err
}

// ReadFrom keeps the way open for sendfile.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite ends one direction of a tunnel.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// statusLine looks at the beginning of an answer, and of those that follow
// informational ones.
type statusLine struct {
	looks bool
	at    int  // how much of the line was seen
	blank bool // nothing stands on the line so far, in its header section
}

// codeAt is where the code stands in `HTTP/1.1 200 OK`.
const codeAt = len("HTTP/1.1 ")

func (s *statusLine) look(p []byte) {
	for i, c := range p {
		switch {
		case s.at < codeAt:
			s.at++
		case s.at == codeAt:
			if c == ' ' {
				p[i] = '?'
			}
			if c != '1' {
				s.looks = false
				return
			}
			s.at++ // an informational answer, or a change of protocols
		case c == '\n' && s.blank:
			*s = statusLine{looks: true}
		case c == '\n':
			s.blank = true
		case c != '\r':
			s.blank = false
		}
	}
}
