package forwarded

import (
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/site"
)

// cleanKey is the variable of a request that was cleaned.
const cleanKey = "tentagate.forwarded"

// Site removes the fields that any handler of a site forwards, once in a
// request: by the first handler that does it, so that what later handlers set
// stays.
type Site struct {
	finder *site.Finder
	known  atomic.Pointer[known]
}

// known are the fields of the site of a place.
type known struct {
	place  *site.Place
	fields *Fields
}

// NewSite returns the site of a handler, which must be a pointer. ctx is that of
// its Provision.
func NewSite(ctx caddy.Context, handler caddyhttp.MiddlewareHandler) *Site {
	return &Site{finder: site.NewFinder(ctx, handler)}
}

// Clean removes the fields, unless that was done before in the request.
func (s *Site) Clean(r *http.Request) {
	f := s.fields(r)
	if f == nil {
		return
	}
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok || vars[cleanKey] != nil {
		return
	}
	vars[cleanKey] = clean{}
	f.Remove(r)
}

// clean is the value of the variable. String keeps it out of {http.vars.*}.
type clean struct{}

func (clean) String() string { return "" }

func (s *Site) fields(r *http.Request) *Fields {
	p := s.finder.Place(r)
	if p == nil {
		return nil
	}
	if k := s.known.Load(); k != nil && k.place == p {
		return k.fields
	}
	k := &known{place: p}
	for _, h := range p.SiteHandlers() {
		if f, ok := h.(Forwarder); ok {
			k.fields = Join(k.fields, f.ForwardedFields())
		}
	}
	s.known.Store(k)
	return k.fields
}
