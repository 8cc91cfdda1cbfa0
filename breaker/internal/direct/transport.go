// Package direct is an HTTP/1.1 client transport for a proxy. It writes a request
// and reads its response in the goroutine that asks, where net/http's transport
// hands both to goroutines of the connection and back. Only a request with a body
// gets one goroutine, which sends it while the response may already come.
//
// Messages are written, parsed and framed by net/http: Request.Write and
// ReadResponse. What is here is the connection: the pool, deadlines,
// cancellation, retries over stale connections, informational responses, protocol
// switches.
//
// It speaks cleartext HTTP/1.1 to the host of the URL: no TLS, no HTTP/2, no
// forward proxies.
package direct

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/benbjohnson/clock"
)

// Options of a Transport. The zero value of a limit or a timeout means none,
// unless it says otherwise.
type Options struct {
	// Dial opens a connection. Network is "tcp"; the address is the host of the
	// URL with its port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	MaxIdle        int // idle connections in all
	MaxIdlePerHost int // idle connections of a host; 0 or less keeps none
	MaxPerHost     int // connections of a host, idle or not; requests wait for one

	IdleTimeout     time.Duration // of an idle connection
	HeaderTimeout   time.Duration // from the end of the request to the end of the response header
	ContinueTimeout time.Duration // for 100 Continue before the body is sent all the same; 0 does not wait
	ReadTimeout     time.Duration // of each read from the connection
	WriteTimeout    time.Duration // of each write to the connection

	MaxHeaderBytes int64 // of a response header, default 10 MiB
	ReadBuffer     int   // bytes, default 4 KiB
	WriteBuffer    int   // bytes, default 4 KiB

	NoKeepAlive   bool // each request gets a connection of its own
	NoCompression bool // do not ask for gzip where the request has no Accept-Encoding
}

const (
	defaultMaxHeader = 10 << 20
	defaultBuffer    = 4 << 10
)

// Transport sends requests. It is an http.RoundTripper.
type Transport struct {
	options Options
	pool    *pool
}

// New returns a transport with the options.
func New(o Options) *Transport {
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = defaultMaxHeader
	}
	if o.ReadBuffer <= 0 {
		o.ReadBuffer = defaultBuffer
	}
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = defaultBuffer
	}
	if o.NoKeepAlive {
		o.MaxIdlePerHost = 0
	}
	return &Transport{options: o, pool: newPool(o, clock.New())}
}

// CloseIdleConnections closes the connections that no request uses. Those in use
// are closed when their request is done, unless a new request came meanwhile.
func (t *Transport) CloseIdleConnections() { t.pool.closeIdle() }

// RoundTrip sends the request and returns the response once its header came. It
// follows the contract of http.RoundTripper. A request that met a connection
// which the server had closed goes over another one, if the server cannot have
// acted on it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := t.outgoing(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	for again := false; ; again = true {
		c, err := t.connect(r, out.trace, again)
		if err != nil {
			out.close()
			return nil, err
		}
		x := &exchange{t: t, c: c, r: r, out: out, trace: out.trace}
		resp, err := x.run()
		if err == nil {
			return resp, nil
		}
		if !x.unanswered || !out.rewind(r, c) {
			out.close()
			return nil, err
		}
	}
}

// connect returns a connection for the request: an idle one, or a new one where
// there is none or the last idle one turned out to be closed.
func (t *Transport) connect(r *http.Request, trace *httptrace.ClientTrace, again bool) (*conn, error) {
	ctx := r.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(address(r))
	}
	c, h, err := t.pool.take(ctx, r.URL.Host, again)
	if err != nil {
		return nil, err
	}
	info := httptrace.GotConnInfo{Reused: c != nil}
	if c == nil {
		if c, err = t.dial(ctx, r, h); err != nil {
			return nil, err
		}
	}
	if trace != nil && trace.GotConn != nil {
		info.Conn = c.nc
		if info.WasIdle = info.Reused; info.WasIdle {
			info.IdleTime = time.Since(c.idleSince)
		}
		trace.GotConn(info)
	}
	return c, nil
}

// dial opens a connection, whose place the pool has counted already.
func (t *Transport) dial(ctx context.Context, r *http.Request, h *host) (*conn, error) {
	dialed := false
	defer func() {
		if !dialed {
			t.pool.leave(h)
		}
	}()
	nc, err := t.options.Dial(ctx, "tcp", address(r))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case nc == nil:
		return nil, errors.New("direct: the dialer returned no connection")
	}
	dialed = true
	return newConn(t, h, nc), nil
}

// address returns the host of the request's URL with a port.
func address(r *http.Request) string {
	if r.URL.Port() != "" {
		return r.URL.Host
	}
	return net.JoinHostPort(r.URL.Hostname(), "80")
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// unlimited is the limit of reading a response body.
const unlimited = math.MaxInt64
