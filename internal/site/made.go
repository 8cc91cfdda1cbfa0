package site

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// MadeOf returns the placeholders of what the client sends or is that handlers make
// the request field of, by its canonical name. What a service says in Vary of such a
// field cannot be compared at the place.
func (x *Reads) MadeOf(field string) []string {
	if x == nil {
		return nil
	}
	return slices.Concat(x.made[field], x.made["*"])
}

// EachMade calls f with each such field and the placeholders that it is made of.
func (x *Reads) EachMade(f func(field string, of []string)) {
	if x == nil {
		return
	}
	for _, field := range slices.Sorted(maps.Keys(x.made)) {
		f(field, x.made[field])
	}
}

// headers reads what is done to fields, on the way to a service if up.
func (s *survey) headers(h *headers.Handler, up bool) {
	if h == nil {
		return
	}
	if h.Response != nil {
		s.names(h.Response, s.values)
	}
	if h.Request == nil {
		return
	}
	for _, fields := range []http.Header{h.Request.Set, h.Request.Add} {
		for name, values := range fields {
			if strings.EqualFold(name, "Host") {
				s.names(values, s.values)
			}
			s.makes(name, values)
		}
	}
	for name, replacements := range h.Request.Replace {
		s.makes(name, replacements)
	}
	if up {
		return
	}
	s.changes = s.changes || changes(h.Request)
	s.names(h.Request, s.sent)
	for name := range h.Request.Add {
		s.sent["http.request.header."+name] = true
	}
	for name := range h.Request.Replace {
		s.sent["http.request.header."+name] = true
	}
}

// forwardedPrefix is the field by which the tentagate directive tells a service its path.
const forwardedPrefix = "X-Forwarded-Prefix"

// changes reports whether operations change a field by which a response may be found. The
// prefix is of the place: only a service that has it in Vary is asked more often for it.
func changes(ops *headers.HeaderOps) bool {
	return len(ops.Add)+len(ops.Delete)+len(ops.Replace) > 0 || len(ops.Set) > 1 || len(ops.Set[forwardedPrefix]) == 0
}

// makes notes that a request field is made of the placeholders in something.
func (s *survey) makes(field string, of any) {
	field = http.CanonicalHeaderKey(field)
	if s.made[field] == nil {
		s.made[field] = map[string]bool{}
	}
	s.names(of, s.made[field])
}

const forwardedFor = "X-Forwarded-For"

// settles reports whether the operations set or delete the request field, whatever
// its value was.
func settles(h *headers.Handler, field string) bool {
	return h != nil && h.Request != nil && (len(h.Request.Set[field]) > 0 || slices.Contains(h.Request.Delete, field))
}
