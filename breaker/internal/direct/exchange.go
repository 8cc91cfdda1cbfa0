package direct

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync/atomic"
	"time"
)

// exchange is a request and its response on one connection.
type exchange struct {
	t     *Transport
	c     *conn
	r     *http.Request // as the caller has it
	out   *outgoing
	trace *httptrace.ClientTrace

	stop       func() bool   // ends the watch over the request's context
	sent       chan struct{} // closed when the writer is done; nil if that is the reader
	delivered  atomic.Bool   // the caller has the response
	sendErr    error         // the writer's
	unanswered bool          // the connection ended before the first byte of a response
	body       body          // of the response
}

const (
	// maxInformational is how many 1xx responses a request may have.
	maxInformational = 1000

	// lastWords is how long to wait for the response of a server that closed the
	// connection while the request was sent. It has arrived already, if it was sent.
	lastWords = time.Second

	// sendGrace is how long to wait at the end of a response for the writer, which
	// has most often sent all and only has to notice it.
	sendGrace = 50 * time.Millisecond
)

var (
	errStatusLine    = errors.New("more than one space before the code in the status line")
	errInformational = fmt.Errorf("more than %d informational responses", maxInformational)

	// ErrSwitch is a 101 to a request that did not ask for another protocol.
	ErrSwitch = errors.New("the server switched to a protocol that it was not asked for")
)

// Error is a failure of the connection, or of the server.
type Error struct {
	Op  string // what was being done
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns what happened.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether it took too long; with Temporary it is a net.Error.
func (e *Error) Timeout() bool { return isTimeout(e.Err) }

// Temporary is the same.
func (e *Error) Temporary() bool { return e.Timeout() }

// run sends the request and reads the header of the response. The connection is
// given back, closed, or the body's afterwards.
func (x *exchange) run() (*http.Response, error) {
	x.c.begin()
	x.stop = context.AfterFunc(x.r.Context(), x.c.cancel)
	if x.out.upload != nil || x.out.large {
		x.sent = make(chan struct{})
		go x.send()
	} else {
		x.sendErr = x.write()
		x.wrote()
	}
	resp, err := x.readResponse()
	if err != nil {
		return nil, x.fail(err)
	}
	x.deliver(resp)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return x.tunnel(resp)
	}
	keep := !resp.Close && !x.out.Close && !x.t.options.NoKeepAlive
	if resp.Body == http.NoBody {
		x.finish(keep)
		return resp, nil
	}
	x.body.x, x.body.src, x.body.keep = x, resp.Body, keep
	resp.Body = &x.body
	if x.out.gzip {
		decode(resp, &x.body)
	}
	return resp, nil
}

// deliver ends what depends on the response. A body that waits for 100 Continue is
// not sent any more: net/http does, to keep the connection, but the client of a proxy
// would be asked for a body that the server has refused.
func (x *exchange) deliver(resp *http.Response) {
	u := x.out.upload
	if u == nil {
		return
	}
	u.decide(false)
	x.delivered.Store(true)
	select {
	case <-x.sent:
		_ = u.closeSource()
	default:
	}
}

// send is the writer of a request with a body. It closes the body if the caller
// has the response; RoundTrip does if not.
func (x *exchange) send() {
	x.sendErr = x.write()
	x.wrote()
	close(x.sent)
	if x.delivered.Load() {
		_ = x.out.upload.closeSource()
	}
}

// write sends the request.
func (x *exchange) write() error {
	if x.out.plain {
		return x.writePlain()
	}
	err := x.out.Write(x.c.w)
	if err == nil {
		err = x.c.w.Flush()
	}
	return err
}

// writePlain sends a request that is a header alone.
func (x *exchange) writePlain() error {
	x.c.writeHead(x.out)
	if x.trace != nil && x.trace.WroteHeaders != nil {
		x.trace.WroteHeaders()
	}
	err := x.c.w.Flush()
	if x.trace != nil && x.trace.WroteRequest != nil {
		x.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
	return err
}

// wrote bounds the wait for the response once the request is sent, or ends it where
// the request cannot be.
func (x *exchange) wrote() {
	switch err := x.c.writeErr; {
	case x.sendErr == nil:
		x.c.expectHeader(x.t.options.HeaderTimeout)
	case x.out.upload != nil && x.out.upload.withheld:
		// The response is there.
	case err == nil:
		x.c.close() // the body could not be read, or the request not be written
	case isTimeout(err):
		x.c.close()
	default:
		x.c.expectHeader(lastWords)
	}
}

// readResponse reads header sections up to that of the final response.
func (x *exchange) readResponse() (*http.Response, error) {
	c := x.c
	if _, err := c.r.Peek(1); err != nil {
		x.unanswered = !isTimeout(err)
		return nil, err
	}
	if x.trace != nil && x.trace.GotFirstResponseByte != nil {
		x.trace.GotFirstResponseByte()
	}
	for range maxInformational {
		if err := checkStatusLine(c); err != nil {
			return nil, err
		}
		resp, err := c.readHead(x.r)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.gotHeader()
			return resp, nil
		}
		if err = x.inform(resp); err != nil {
			return nil, err
		}
	}
	return nil, errInformational
}

// codeAt is where the code stands in `HTTP/1.1 200 OK`.
const codeAt = len("HTTP/1.1 ")

// checkStatusLine refuses a second space before the code (RFC 9112 §4), which
// ReadResponse takes and another reader may not.
func checkStatusLine(c *conn) error {
	if line, err := c.r.Peek(codeAt + 1); err == nil && line[codeAt] == ' ' {
		return errStatusLine
	}
	return nil
}

// inform passes on an informational response.
func (x *exchange) inform(resp *http.Response) error {
	if resp.StatusCode == http.StatusContinue {
		if u := x.out.upload; u != nil && u.proceed != nil && x.trace != nil && x.trace.Got100Continue != nil {
			x.trace.Got100Continue()
		}
		x.out.upload.decide(true)
	}
	if x.trace != nil && x.trace.Got1xxResponse != nil {
		x.c.limit = x.t.options.MaxHeaderBytes
		return x.trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header))
	}
	return nil
}

// fail ends an exchange without a response and returns the error for the caller.
func (x *exchange) fail(err error) error {
	late := x.c.headerLate()
	x.c.close()
	x.out.upload.decide(false)
	if x.sent != nil {
		<-x.sent // the caller may use the request again
	}
	x.stop()
	ctx, u := x.r.Context(), x.out.upload
	if u != nil && u.withheld {
		x.sendErr = nil // the body waited until now; err is why it need not any more
	}
	own := ctx.Err() != nil || u != nil && u.err != nil || x.sendErr != nil && x.c.writeErr == nil
	x.unanswered = x.unanswered && !own && !isTimeout(x.c.writeErr)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case u != nil && u.err != nil:
		return u.err
	case own:
		return x.sendErr
	case x.sendErr != nil:
		return &Error{"sending the request", x.c.writeErr} // sendErr may hide it
	case late:
		return &Error{"waiting for the response header", os.ErrDeadlineExceeded}
	default:
		return &Error{"reading the response", err}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// finish ends an exchange whose response is complete. The connection is kept if
// both sides want to, all of the request was sent, and nothing follows the
// response: surplus bytes could be taken for the response to another request.
func (x *exchange) finish(keep bool) {
	canceled := !x.stop()
	if !keep || canceled || !x.allSent() || x.c.eof || x.c.r.Buffered() > 0 {
		x.c.close()
		return
	}
	x.c.rest()
	x.t.pool.put(x.c)
}

// allSent reports whether the whole request was sent.
func (x *exchange) allSent() bool {
	if x.sent == nil {
		return x.sendErr == nil
	}
	select {
	case <-x.sent:
		return x.sendErr == nil
	default:
	}
	timer := time.NewTimer(sendGrace)
	defer timer.Stop()
	select {
	case <-x.sent:
		return x.sendErr == nil
	case <-timer.C:
		return false
	}
}
