package rediscache

import (
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pythopus/tentagate/internal/forwarded"
)

// addNames adds the fields which could change an answer and which handlers in
// front set, such as `request_header X-Forwarded-Prefix /shop`. Those are the
// operator's: they reach the service, and are part of the key.
func (f *front) addNames(ops *headers.HeaderOps) {
	one := func(name string) {
		name = http.CanonicalHeaderKey(name)
		if !slices.Contains(f.names, name) && (slices.Contains(forwarding, name) || slices.Contains(overrides, name)) {
			f.names = append(f.names, name)
		}
	}
	for name := range ops.Add {
		one(name)
	}
	for name := range ops.Set {
		one(name)
	}
	for name := range ops.Replace {
		one(name)
	}
}

// addForwarded adds fields that say who asks, as `jwt_auth` sets them with forward.
// What clients send of them is removed before.
func (f *front) addForwarded(fields *forwarded.Fields) {
	for _, name := range slices.Concat(forwarding, overrides) {
		if fields.Has(name) && !slices.Contains(f.names, name) {
			f.names = append(f.names, name)
		}
	}
}

// counts reports whether the field is part of the key.
func (h *Handler) counts(r *http.Request, name string) bool {
	return slices.Contains(h.Key.Headers, name) || slices.Contains(h.inFront(r).names, name)
}

// dropped calls f with the names of fields that the client sent, that could
// change the answer, and that are no part of the key, until it returns false.
func (h *Handler) dropped(r *http.Request, f func(name string) bool) {
	for _, name := range forwarding {
		if len(r.Header[name]) > 0 && !fromTrustedProxy(r) && !h.counts(r, name) && !f(name) {
			return
		}
	}
	for _, name := range overrides {
		if len(r.Header[name]) > 0 && !h.counts(r, name) && !f(name) {
			return
		}
	}
}

// distorted reports whether the request has such a field.
func (h *Handler) distorted(r *http.Request) (has bool) {
	h.dropped(r, func(string) bool { has = true; return false })
	return has
}
