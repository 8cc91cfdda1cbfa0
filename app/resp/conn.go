package resp

import (
	"context"
	"net"
	"syscall"
)

// Dialer opens a connection, as the option of go-redis does.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// Checked returns a dialer whose connections fail with the first bytes that are no
// acceptable reply.
func Checked(dial Dialer) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner}
		if s, ok := inner.(syscall.Conn); ok {
			return &socket{conn: c, Conn: s}, nil
		}
		return c, nil
	}
}

// conn checks what is read from a connection.
type conn struct {
	net.Conn
	checker Checker
	err     error
}

// Read reads from the connection. go-redis reads each connection from one goroutine
// at a time.
func (c *conn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if c.err = c.checker.Check(p[:n]); c.err != nil {
		return 0, c.err
	}
	return n, err
}

// NetConn returns the connection that is checked. go-redis looks at its socket.
func (c *conn) NetConn() net.Conn { return c.Conn }

// socket is a conn that is no TLS connection: go-redis looks whether the server has
// closed it before it is used again.
type socket struct {
	*conn
	syscall.Conn
}
