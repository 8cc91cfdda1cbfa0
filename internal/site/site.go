// Package site finds the place of a handler in the running configuration: its server
// and site, and the matchers and handlers in front of it. The place separates the
// state of one handler from that of others by something that no client can choose,
// and lets a handler see the other handlers of its site.
//
// A configuration is complete only when all of it has been provisioned, so places are
// found at the first request, once for each handler.
package site

import (
	"crypto/rand"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Finder finds the place of one handler. It is made when the handler is
// provisioned.
type Finder struct {
	ctx     caddy.Context
	handler caddyhttp.MiddlewareHandler
	place   atomic.Pointer[Place]
	finding sync.Mutex // one request finds the place, and others wait for it
}

// NewFinder returns the finder for a handler, which must be a pointer. ctx is
// that of its Provision.
func NewFinder(ctx caddy.Context, handler caddyhttp.MiddlewareHandler) *Finder {
	return &Finder{ctx: ctx, handler: handler}
}

// Place returns the place of the handler in the server that serves the request.
// It is nil where no server with routes does, as in tests of a handler alone.
// After the first time it costs a look into the request's context.
func (f *Finder) Place(r *http.Request) *Place {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || len(server.Routes) == 0 {
		return nil
	}
	if p := f.place.Load(); p != nil && p.server == server {
		return p
	}
	return f.find(server)
}

func (f *Finder) find(server *caddyhttp.Server) *Place {
	f.finding.Lock()
	defer f.finding.Unlock()
	if p := f.place.Load(); p != nil && p.server == server {
		return p
	}
	x := indexOf(f.ctx, server)
	p := x.place(server, f.handler)
	if len(p.ways) == 0 {
		// It is inside of a handler whose routes are not visible. Its place is unknown,
		// so it shares nothing.
		p.alone = "?" + rand.Text()
		f.ctx.Logger().Warn("the place of this handler in the configuration cannot be found: it shares nothing with other gateways",
			zap.String("handler", moduleID(f.handler)))
	}
	f.place.Store(p)
	return p
}

// Place is the place of a handler in a server.
type Place struct {
	server  *caddyhttp.Server
	ways    []*way // several where a named route is invoked more than once
	names   [][]string
	sockets []socket
	alone   string // the name of a place that could not be found
}

// AppendName appends a text that names the place, and that no other place of the
// configuration has. It is the same in every process with this configuration,
// also where only the ports are others, after a reload, and after a change of
// another site or of lines. It is made of the addresses that are listened on,
// without their ports, the matchers on the way to the handler, and the
// configuration of the handlers after it. Where this is the same for several places,
// their listeners and the handlers before them distinguish them.
func (p *Place) AppendName(b []byte, r *http.Request) []byte {
	switch {
	case p == nil:
		return b
	case p.alone != "":
		return append(b, p.alone...)
	}
	at := 0
	if len(p.sockets) > 1 || p.sockets[0].size() > 1 {
		var offset uint
		at, offset = accepted(p.sockets, r)
		if at < 0 {
			// It came by a listener that is none of the configuration's.
			at = 0
			b = appendAddress(append(b, '?'), r)
		} else if offset > 0 {
			b = appendUint(append(b, '+'), uint64(offset))
		}
	}
	if len(p.ways) == 1 {
		return append(b, p.names[0][at]...)
	}
	set := p.taken(r)
	for i, name := range p.names {
		if set == 0 || set>>i&1 == 1 {
			b = append(b, name[at]...)
		}
	}
	return b
}

// taken returns the ways that the request may have taken, as bits.
func (p *Place) taken(r *http.Request) (set uint64) {
	for i, w := range p.ways {
		if i < 64 && w.matches(r) {
			set |= 1 << i
		}
	}
	return set
}

// Before returns the handlers that a request may have passed before the place, those
// inside of other handlers included.
func (p *Place) Before() []caddyhttp.MiddlewareHandler {
	var list []caddyhttp.MiddlewareHandler
	seen := map[caddyhttp.MiddlewareHandler]bool{}
	for _, w := range p.ways {
		for _, h := range w.before(p.server) {
			if pointer(h) && !seen[h] {
				seen[h] = true
				list = append(list, h)
			}
		}
	}
	return list
}

// AllPass reports whether every request at the place has passed the handler: no matcher
// and no group of routes is on the way to it.
func (p *Place) AllPass(h caddyhttp.MiddlewareHandler) bool {
	return !slices.ContainsFunc(p.ways, func(w *way) bool { return !w.allPass(p.server, h) })
}

// Behind returns the placeholders in the configuration of the handlers after the
// place.
func (p *Place) Behind() []string {
	c := &canonical{}
	for _, w := range p.ways {
		w.appendAfter(c)
	}
	var names []string
	for _, found := range placeholder.FindAllSubmatch(c.b, -1) {
		names = append(names, string(found[1]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// placeholder is one in the text of a configuration, where other braces have
// quotes between them.
var placeholder = regexp.MustCompile(`\{([^{}"\s]+)\}`)

// HandlersOf returns all handlers of routes of the server, those inside of other
// handlers too.
func HandlersOf(server *caddyhttp.Server, routes caddyhttp.RouteList) []caddyhttp.MiddlewareHandler {
	var list []caddyhttp.MiddlewareHandler
	seen := map[caddyhttp.MiddlewareHandler]bool{}
	walk(server, routes, nil, "", func(_ []step, h caddyhttp.MiddlewareHandler) {
		if pointer(h) && !seen[h] {
			seen[h] = true
			list = append(list, h)
		}
	})
	return list
}
