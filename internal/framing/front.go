package framing

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
)

// Install wraps the server whose handler is being provisioned, so that every
// response of that server is covered: those of handlers in front of TentaGate's, of
// other sites, and Caddy's own.
//
// Caddy has no option for a handler in front of its server. But the function that it
// calls for each connection gets the http.Server before the first request of any
// connection is read, and its handler can still be replaced then.
func Install(ctx caddy.Context) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterConnContext(new(installation).connContext)
	}
}

type installation struct {
	once sync.Once
	held *held
}

// installed is the key of the *connection in the context of connections whose server has
// its front.
type installed struct{}

func (i *installation) connContext(ctx context.Context, conn net.Conn) context.Context {
	if ctx.Value(installed{}) != nil {
		return ctx // another handler did it
	}
	// No connection is served before this returned for it, so nothing reads the fields
	// that are written here.
	i.once.Do(func() {
		if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok && server.Handler != nil {
			server.Handler = newFront(server.Handler)
			// Go's own answer to it reads the body before, for as long as that takes.
			server.DisableGeneralOptionsHandler = true
			if i.held = newHeld(server); i.held != nil {
				server.ConnState = both(i.held.connState, server.ConnState)
			}
		}
	})
	return context.WithValue(ctx, installed{}, i.held.add(conn))
}

// both returns a hook that calls both, of which the second may be nil.
func both(first, second func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	if second == nil {
		return first
	}
	return func(conn net.Conn, state http.ConnState) {
		first(conn, state)
		second(conn, state)
	}
}

// front is what the http.Server calls in place of Caddy's server.
type front struct {
	next    http.Handler
	bound   time.Duration // of reading the rest of a body
	timeout time.Duration // of reading a request, 0 for none
}

// defaultBound replaces Caddy's read_idle_timeout where it is off, so that the wait
// for the rest of a body is always bounded.
const defaultBound = time.Minute

func newFront(next http.Handler) *front {
	f := &front{next: next, bound: defaultBound}
	if server, ok := next.(*caddyhttp.Server); ok {
		f.timeout = time.Duration(server.ReadTimeout)
		if server.ReadIdleTimeout > 0 {
			f.bound = time.Duration(server.ReadIdleTimeout)
		}
	}
	return f
}

// ServeHTTP observes requests of HTTP/1 that have a body, and all of HTTP/1.0: a
// Transfer-Encoding in one of those is not visible here, and means a body that is not
// read; and a proxy should not keep connections of HTTP/1.0 anyway (RFC 9112 §6.1,
// §9.3).
//
// Caddy gets a copy of the request, so that Go's server finds its own body in its own
// request, and handles it as usual.
//
// The userinfo of a target such as `http://user:password@host/` is a password, which
// must not be in any log of Caddy.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(installed{}).(*connection)
	conn.turn(r)
	defer conn.turn(r) // Go's server still reads from the connection if a handler panics
	f.serve(w, r)
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	target := r.RequestURI
	if r.URL.User != nil {
		target = credentials.RedactUserinfo(target)
	}
	next := f.next
	if r.RequestURI == "*" && r.Method == http.MethodOptions {
		next = general{}
	}
	if r.ProtoMajor != 1 || r.ContentLength == 0 && r.ProtoMinor > 0 {
		r.RequestURI = target
		next.ServeHTTP(w, r)
		return
	}
	q, r := Watch(w, r)
	r.RequestURI = target
	q.bound = f.bound
	if f.timeout > 0 {
		q.ceiling = time.Now().Add(f.timeout)
	}
	defer q.linger()
	next.ServeHTTP(q, r)
	q.Send(0)
}

// general answers `OPTIONS *`, which is about the server and no site of it (RFC 9110
// §9.3.7), as Go's server does.
type general struct{}

func (general) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}
