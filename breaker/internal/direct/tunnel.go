package direct

import (
	"context"
	"errors"
	"net"
	"net/http"
)

// tunnel is the body of a response that switches protocols: the connection, both
// ways.
type tunnel struct{ c *conn }

// tunnel returns the response to a request for another protocol, with which the
// connection becomes the caller's.
func (x *exchange) tunnel(resp *http.Response) (*http.Response, error) {
	if !switches(x.out.Header) || !switches(resp.Header) {
		return nil, x.fail(ErrSwitch)
	}
	if !x.stop() {
		x.c.close()
		return nil, context.Cause(x.r.Context())
	}
	if !x.c.detach() {
		return nil, net.ErrClosed // by the writer
	}
	resp.Body = tunnel{x.c}
	return resp, nil
}

// Read returns what came together with the response first.
func (t tunnel) Read(p []byte) (int, error) {
	if t.c.r.Buffered() > 0 {
		return t.c.r.Read(p)
	}
	return t.c.Read(p)
}

func (t tunnel) Write(p []byte) (int, error) { return t.c.Write(p) }

func (t tunnel) Close() error { return t.c.nc.Close() }

// CloseWrite ends one direction.
func (t tunnel) CloseWrite() error {
	if half, ok := t.c.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
