// Package forwarded removes the header fields that tell a service who the client is
// from the requests of clients. Not every request of a site reaches the handler that
// sets the fields, but the service trusts them in every request.
package forwarded

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/site"
)

// Fields are names of header fields in every spelling that a service may read as the
// same: CGI and WSGI, for example, turn X-User, X_User and x.user into HTTP_X_USER.
type Fields struct{ plain []string }

// Forwarder is a handler that sets fields for the service.
type Forwarder interface {
	// ForwardedFields returns nil if it sets none.
	ForwardedFields() *Fields
}

// Of returns the fields of these names, or nil for none.
func Of(names ...string) *Fields {
	if len(names) == 0 {
		return nil
	}
	f := new(Fields)
	for _, name := range names {
		f.add(plain(name))
	}
	return f
}

// Join returns the fields of all, or nil if there are none.
func Join(all ...*Fields) *Fields {
	var joined *Fields
	for _, f := range all {
		if f == nil {
			continue
		}
		if joined == nil {
			joined = new(Fields)
		}
		for _, name := range f.plain {
			joined.add(name)
		}
	}
	return joined
}

func (f *Fields) add(name string) {
	if slices.Contains(f.plain, name) {
		return
	}
	f.plain = append(f.plain, name)
}

// Has reports whether a service may read the name as one of the fields.
func (f *Fields) Has(name string) bool {
	if f == nil {
		return false
	}
	for _, p := range f.plain {
		if alike(p, name) {
			return true
		}
	}
	return false
}

// Remove removes the fields from the request, and their names from Connection, which
// would make the proxy delete them. All trailers are removed: their values arrive
// later, and a service may merge them into the header.
func (f *Fields) Remove(r *http.Request) {
	if f == nil {
		return
	}
	for name := range r.Header {
		if f.Has(name) {
			delete(r.Header, name)
		}
	}
	r.Trailer = nil
	connection := r.Header["Connection"]
	if connection == nil {
		return
	}
	var kept []string
	for _, value := range connection {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" && !f.Has(name) {
				kept = append(kept, name)
			}
		}
	}
	r.Header["Connection"] = []string{strings.Join(kept, ", ")}
}

// plain returns the letters, in lower case, and digits of a name.
func plain(name string) string {
	b := make([]byte, 0, len(name))
	for i := range len(name) {
		if c, ok := plainByte(name[i]); ok {
			b = append(b, c)
		}
	}
	return string(b)
}

// alike reports whether plain(name) is p.
func alike(p, name string) bool {
	at := 0
	for i := range len(name) {
		c, ok := plainByte(name[i])
		if !ok {
			continue
		}
		if at == len(p) || p[at] != c {
			return false
		}
		at++
	}
	return at == len(p) && at > 0
}

func plainByte(c byte) (byte, bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A', true
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c, true
	}
	return 0, false
}

// cleanKey is the variable that marks a request whose fields were removed.
const cleanKey = "tentagate.forwarded"

// Install makes each site of the server that is being provisioned remove the fields
// that any of its handlers forwards, and define the gateway's placeholders, before its
// first handler runs. ctx is that of Provision.
func Install(ctx caddy.Context) {
	site.OnEntry(ctx, func(handlers []caddyhttp.MiddlewareHandler) func(*http.Request) {
		var fields *Fields
		for _, h := range handlers {
			if f, ok := h.(Forwarder); ok {
				fields = Join(fields, f.ForwardedFields())
			}
		}
		return func(r *http.Request) {
			placeholders.Known(r)
			clean(r, fields)
		}
	})
}

// clean removes the fields, once per request: matchers may be evaluated again after
// handlers have set them.
func clean(r *http.Request, fields *Fields) {
	if fields == nil {
		return
	}
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok || vars[cleanKey] != nil {
		return
	}
	vars[cleanKey] = cleaned{}
	fields.Remove(r)
}

// cleaned is the value of the variable. String keeps it out of {http.vars.*}.
type cleaned struct{}

func (cleaned) String() string { return "" }
