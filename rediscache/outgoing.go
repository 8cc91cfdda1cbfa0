package rediscache

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// What handlers in front of the cache do to the fields that speak about caching
// must hold for the cache too: a client that is told that a response is for
// nobody else would be told something that is not true.

// touches reports whether the operations may change one of the fields.
func touches(ops *headers.HeaderOps, names []string) bool {
	if ops == nil {
		return false
	}
	about := func(field string) bool {
		field = strings.ToLower(field)
		if strings.ContainsAny(field, "*{") {
			return true
		}
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, field) })
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for field := range fields {
			if about(field) {
				return true
			}
		}
	}
	for field := range ops.Replace {
		if about(field) {
			return true
		}
	}
	return slices.ContainsFunc(ops.Delete, about)
}

// outgoing returns the fields that speak about caching as the client will get
// them: those that handlers in front have set and those of the response, with
// what handlers in front do to them when the header is sent. If all is set, all
// handlers in front count, and not only those that the request has passed.
func (h *Handler) outgoing(w http.ResponseWriter, r *http.Request, fields http.Header, status int, all bool) http.Header {
	out := http.Header{}
	for _, name := range h.speaking {
		if values := slices.Concat(w.Header()[name], fields[name]); len(values) > 0 {
			out[name] = values
		}
	}
	f := h.inFront(r)
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if len(f.deferred) == 0 || !ok {
		return out
	}
	for name, values := range fields {
		if out[name] == nil {
			out[name] = slices.Clone(values) // what `replace` and conditions may look at
		}
	}
	apply := func(ops *headers.RespHeaderOps) {
		if ops.Require == nil || ops.Require.Match(status, out) {
			ops.ApplyTo(out, repl)
		}
	}
	if all {
		for _, ops := range slices.Backward(f.deferred) {
			apply(ops)
		}
		return out
	}
	for w != nil {
		for _, ops := range f.deferred {
			if defers(w, ops) {
				apply(ops)
			}
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = inner.Unwrap()
	}
	return out
}

// defers reports whether the writer carries out the operations when the header
// is sent. Caddy's writer does not say so itself.
func defers(w http.ResponseWriter, ops *headers.RespHeaderOps) bool {
	v := reflect.ValueOf(w)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct || v.Elem().Type().PkgPath() != headersPackage {
		return false
	}
	field := v.Elem().FieldByName("headerOps")
	if !field.IsValid() || field.Kind() != reflect.Pointer {
		return true // another version of Caddy: as if it did
	}
	return field.Pointer() == reflect.ValueOf(ops.HeaderOps).Pointer()
}

var headersPackage = reflect.TypeFor[headers.Handler]().PkgPath()

// forbids reports what the fields in which handlers in front have their say
// forbid: to store the response at all, or to give it to others. Where they are
// the service's own, the policy has judged them.
func (h *Handler) forbids(w http.ResponseWriter, r *http.Request, fields http.Header, status int, all bool) (store, share bool) {
	if len(h.inFront(r).deferred) == 0 && !slices.ContainsFunc(h.speaking, func(name string) bool { return len(w.Header()[name]) > 0 }) {
		return false, false
	}
	out := h.outgoing(w, r, fields, status, all)
	for _, name := range h.speaking {
		if len(out[name]) == 0 || slices.Equal(out[name], fields[name]) {
			continue
		}
		c := rfc9111.ParseCacheControl(http.Header{"Cache-Control": out[name]})
		own := rfc9111.ParseCacheControl(http.Header{"Cache-Control": fields[name]})
		store = store || c.Has("no-store") && !own.Has("no-store")
		share = share || c.Has("private") && !own.Has("private")
	}
	return store, share || store
}
