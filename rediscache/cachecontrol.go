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

// What handlers in front of the cache do to the cache-control fields must hold for
// the cache too: a client that reads that a response is private would be misled
// if others got it.

// changes reports whether the operations may change one of the fields.
func changes(ops *headers.HeaderOps, names []string) bool {
	if ops == nil {
		return false
	}
	concerns := func(field string) bool {
		if strings.ContainsAny(field, "*{") {
			return true
		}
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, field) })
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for field := range fields {
			if concerns(field) {
				return true
			}
		}
	}
	for field := range ops.Replace {
		if concerns(field) {
			return true
		}
	}
	return slices.ContainsFunc(ops.Delete, concerns)
}

// restrictions are what handlers in front forbid beyond what the origin does.
type restrictions struct {
	store bool // to store the response at all
	share bool // to give it to other clients
}

// restrictions returns what the cache-control fields forbid in which handlers in
// front have a part. What the origin itself says is evaluated by the policy. outer is
// the header that handlers in front have set, and fields that of the response.
func (c *chains) restrictions(w http.ResponseWriter, r *http.Request, outer, fields http.Header, status int, all bool) (forbidden restrictions) {
	if len(c.of(r).deferred) == 0 && !slices.ContainsFunc(c.controls, func(name string) bool { return len(outer[name]) > 0 }) {
		return forbidden
	}
	sent := c.sent(w, r, outer, fields, status, all)
	for _, name := range c.controls {
		if len(sent[name]) == 0 || slices.Equal(sent[name], fields[name]) {
			continue
		}
		final := rfc9111.ParseCacheControl(http.Header{"Cache-Control": sent[name]})
		own := rfc9111.ParseCacheControl(http.Header{"Cache-Control": fields[name]})
		forbidden.store = forbidden.store || final.Has("no-store") && !own.Has("no-store")
		forbidden.share = forbidden.share || final.Has("private") && !own.Has("private")
	}
	forbidden.share = forbidden.share || forbidden.store
	return forbidden
}

// sent returns the cache-control fields as the client will get them: those that
// handlers in front have set and those of the response, with what handlers in front
// do to them when the header is sent. If all is set, all handlers in front count, and
// not only those that the request has passed.
func (c *chains) sent(w http.ResponseWriter, r *http.Request, outer, fields http.Header, status int, all bool) http.Header {
	out := http.Header{}
	for _, name := range c.controls {
		if values := slices.Concat(outer[name], fields[name]); len(values) > 0 {
			out[name] = values
		}
	}
	deferred := c.of(r).deferred
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if len(deferred) == 0 || !ok {
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
		for _, ops := range slices.Backward(deferred) {
			apply(ops)
		}
		return out
	}
	for w != nil {
		for _, ops := range deferred {
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
