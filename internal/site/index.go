package site

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// indexes are of the configurations in use, by their HTTP app, or by the server
// where there is none.
var indexes sync.Map

// index knows where the handlers of a configuration are.
type index struct {
	made  sync.Once // by one request, however many come first
	nodes map[node][]*way
	order []node // as they were found

	mu    sync.Mutex
	names map[reflect.Type]map[node][][]string // by way and socket
}

// node is a handler in a server.
type node struct {
	server  *caddyhttp.Server
	handler caddyhttp.MiddlewareHandler
}

// indexOf returns the index of the configuration that a handler with this
// context and the server belong to.
func indexOf(ctx caddy.Context, server *caddyhttp.Server) *index {
	var key any = server
	var servers []*caddyhttp.Server
	if val, err := ctx.AppIfConfigured("http"); err == nil {
		if app, ok := val.(*caddyhttp.App); ok {
			key = app
			for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
				servers = append(servers, app.Servers[name])
			}
		}
	}
	if !slices.Contains(servers, server) {
		servers = append(servers, server)
	}
	val, loaded := indexes.LoadOrStore(key, new(index))
	x := val.(*index)
	x.made.Do(func() { x.make(servers) })
	if !loaded && ctx.Context != nil {
		// At once, if the configuration has ended and this request outlasts it.
		context.AfterFunc(ctx.Context, func() { indexes.Delete(key) })
	}
	return x
}

// make fills the index.
func (x *index) make(servers []*caddyhttp.Server) {
	x.nodes, x.names = map[node][]*way{}, map[reflect.Type]map[node][][]string{}
	for _, server := range servers {
		add := func(steps []step, h caddyhttp.MiddlewareHandler) {
			if !pointer(h) {
				return
			}
			n := node{server, h}
			if x.nodes[n] == nil {
				x.order = append(x.order, n)
			}
			x.nodes[n] = append(x.nodes[n], &way{steps: steps})
		}
		walk(server, server.Routes, nil, "", add)
		if server.Errors != nil {
			walk(server, server.Errors.Routes, nil, labelErrors, add)
		}
	}
}

// place returns the place of a handler in a server.
func (x *index) place(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler) *Place {
	n := node{server, h}
	p := &Place{server: server, ways: x.nodes[n], sockets: socketsOf(server)}
	if len(p.ways) == 0 {
		return p
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	kind := reflect.TypeOf(h)
	if x.names[kind] == nil {
		x.names[kind] = x.nameAll(kind)
	}
	p.names = x.names[kind][n]
	return p
}

// spot is one way to a handler by one socket.
type spot struct {
	node        node
	way, socket int
	start, size uint64
	path        string // of a Unix socket
	main, rest  string
}

// nameAll names all places of handlers of one type.
func (x *index) nameAll(kind reflect.Type) map[node][][]string {
	names := map[node][][]string{}
	var spots []spot
	for _, n := range x.order {
		if reflect.TypeOf(n.handler) != kind {
			continue
		}
		own := canonicalText(n.handler)
		sockets := socketsOf(n.server)
		names[n] = make([][]string, len(x.nodes[n]))
		for i, w := range x.nodes[n] {
			names[n][i] = make([]string, len(sockets))
			main, rest := w.text(), own+w.textBefore()
			for j, s := range sockets {
				one := spot{node: n, way: i, socket: j, start: uint64(s.StartPort), size: uint64(s.size()), main: s.where() + "\n" + main, rest: rest}
				if s.IsUnixNetwork() || s.IsFdNetwork() {
					one.path = s.Host
				}
				spots = append(spots, one)
			}
		}
	}
	// Spots with equal names are distinguished by the handlers before them, and those
	// that are still equal by their listeners.
	slices.SortStableFunc(spots, func(a, b spot) int {
		return cmp.Or(strings.Compare(a.main, b.main), strings.Compare(a.rest, b.rest), cmp.Compare(a.start, b.start), strings.Compare(a.path, b.path))
	})
	for from := 0; from < len(spots); {
		to, differ := from+1, false
		for to < len(spots) && spots[to].main == spots[from].main {
			differ = differ || spots[to].rest != spots[from].rest
			to++
		}
		var before uint64
		for k := from; k < to; k++ {
			s := spots[k]
			text := s.main
			if k > from && spots[k-1].rest != s.rest {
				before = 0
			}
			if differ {
				text += "\n" + s.rest
			}
			name := digest(text)
			if before > 0 {
				name += "." + strconv.FormatUint(before, 10)
			}
			before += s.size
			names[s.node][s.way][s.socket] = name
		}
		from = to
	}
	return names
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// text is what names the way, but for the socket: the matchers on it, and the
// handlers that a request may come to after it.
func (w *way) text() string {
	c := &canonical{}
	for _, s := range w.steps {
		if s.label != "" {
			c.text("in " + s.label)
		}
		if sets := matchersOf(s.at()); len(sets) > 0 {
			c.text("if")
			c.value(reflect.ValueOf(sets))
		}
	}
	c.b = append(c.b, '\n')
	w.appendAfter(c)
	return string(c.b)
}

// appendAfter writes the handlers behind the last of the steps.
func (w *way) appendAfter(c *canonical) {
	w.after(func(route caddyhttp.Route) bool { return c.route(route, "") })
}

// after calls f with the routes that a request may come to behind the last of
// the steps, the rest of that route first, until f reports that no request goes
// on behind one.
func (w *way) after(f func(caddyhttp.Route) (ends bool)) {
	for _, s := range slices.Backward(w.steps) {
		own := s.at()
		if f(caddyhttp.Route{Handlers: own.Handlers[s.handler+1:]}) || own.Terminal {
			return
		}
		for _, route := range s.routes[s.route+1:] {
			if route.Group != "" && route.Group == own.Group {
				continue // one of a group excludes the others
			}
			if f(route) {
				return
			}
		}
	}
}

// textBefore is the configuration of the handlers on the way.
func (w *way) textBefore() string {
	c := &canonical{}
	for _, s := range w.steps {
		for _, route := range s.earlier() {
			c.route(route, "")
		}
		c.handlers(s.at().Handlers[:s.handler])
	}
	return string(c.b)
}

// route writes a route beside one of the group, and reports whether no request
// goes on behind it.
func (c *canonical) route(route caddyhttp.Route, group string) (ends bool) {
	if route.Group != "" && route.Group == group {
		return false // one of a group excludes the others
	}
	sets := matchersOf(route)
	if len(sets) > 0 {
		c.text("if")
		c.value(reflect.ValueOf(sets))
	}
	return c.handlers(route.Handlers) && len(sets) == 0 && route.Group == ""
}

func (c *canonical) handlers(list []caddyhttp.MiddlewareHandler) (ends bool) {
	for i, h := range list {
		c.value(reflect.ValueOf(&list[i]).Elem())
		if endsAt(h) {
			return true
		}
	}
	return false
}

// endsAt reports whether no request goes on behind a handler. One does behind a
// reverse_proxy that has its answer handled, as forward_auth is.
func endsAt(h caddyhttp.MiddlewareHandler) bool {
	if proxy, ok := h.(*reverseproxy.Handler); ok {
		return len(proxy.HandleResponse) == 0
	}
	switch moduleID(h) {
	case "http.handlers.static_response", "http.handlers.error", "http.handlers.services":
		return true
	}
	return false
}
