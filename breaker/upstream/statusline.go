package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// checkStatusLines has the transport refuse answers whose status line has more
// than one space before its code (RFC 9112 §4). net/http accepts them, another
// reader may take them for something else. Upstreams behind a forward proxy are
// checked where they have no TLS.
func checkStatusLines(h *reverseproxy.HTTPTransport) {
	t := h.Transport
	dial, dialTLS := t.DialContext, t.DialTLSContext
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
	if !h.TLSEnabled() {
		return
	}
	if dialTLS == nil {
		dialTLS = tlsDialer(t, dial)
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialTLS(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if secure, ok := c.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol == "h2" {
			return c, nil
		}
		return &conn{Conn: c}, nil
	}
}

// http1OnlyVar is the request variable by which reverse_proxy says that a request
// needs HTTP/1.1, as a WebSocket does.
const http1OnlyVar = "reverse_proxy.tls_h1_only"

// tlsDialer connects as net/http does where a transport has no DialTLSContext.
func tlsDialer(t *http.Transport, dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		config := t.TLSClientConfig.Clone()
		if config == nil {
			config = new(tls.Config)
		}
		if config.ServerName == "" {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			config.ServerName = host
		}
		if caddyhttp.GetVar(ctx, http1OnlyVar) == true {
			config.NextProtos = nil
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if t.TLSHandshakeTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, t.TLSHandshakeTimeout)
			defer cancel()
		}
		secure := tls.Client(c, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		return secure, nil
	}
}

// expectAnswer has the connection that the request gets check what is read from
// it next. The trace is reverse_proxy's own for this attempt, which has no such
// hook; it is changed in place, so that nothing is allocated.
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

// conn is a connection to an upstream that checks status lines.
type conn struct {
	net.Conn
	expects atomic.Bool // an answer begins with the next byte
	line    statusLine  // only Read uses it
}

// Read makes a status line that is to be refused one that net/http refuses.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		if c.expects.Load() && c.expects.Swap(false) {
			c.line = statusLine{scanning: true}
		}
		if c.line.scanning {
			c.line.scan(p[:n])
		}
	}
	return n, err
}

// ReadFrom lets the connection beneath use sendfile.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite ends one direction of a tunnel.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// statusLine scans the beginning of an answer, and of those that follow
// informational ones.
type statusLine struct {
	scanning bool
	at       int  // how much of the line was scanned
	blank    bool // the line of the header section is empty so far
}

// codeAt is where the code stands in `HTTP/1.1 200 OK`.
const codeAt = len("HTTP/1.1 ")

func (s *statusLine) scan(p []byte) {
	for i, c := range p {
		switch {
		case s.at < codeAt:
			s.at++
		case s.at == codeAt:
			if c == ' ' {
				p[i] = '?'
			}
			if c != '1' {
				s.scanning = false
				return
			}
			s.at++ // an informational answer, or a change of protocols
		case c == '\n' && s.blank:
			*s = statusLine{scanning: true}
		case c == '\n':
			s.blank = true
		case c != '\r':
			s.blank = false
		}
	}
}
