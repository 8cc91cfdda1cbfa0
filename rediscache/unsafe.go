package rediscache

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// beforeHeader calls f with the header before it is sent.
func beforeHeader(w http.ResponseWriter, f func(fields http.Header, status int)) *headers.Writer {
	return headers.Before(w, f)
}

// handlerFunc is a handler that is a function.
type handlerFunc = caddyhttp.HandlerFunc

// other passes a request with a method other than GET and HEAD. One that may
// change something makes what is stored for its target invalid, if it succeeds
// (RFC 9111 §4.4).
func (h *Handler) other(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if rfc9111.Safe(r.Method) {
		return h.pass(w, r, next, "method")
	}
	results.bypass.Inc()
	h.tell(r, "bypass")
	t := h.targetOf(r)
	done := false
	invalidate := func(fields http.Header, status int) {
		if !done && rfc9111.Invalidates(r.Method, status) {
			h.invalidate(r, &t, fields)
		}
		done = true
	}
	var err error
	if h.storesPost(r, &t) {
		x := &inquiry{h: h, w: w, r: r, next: invalidatingHandler(next, invalidate), t: &t, wish: rfc9111.ReadWish(r.Header, false)}
		err = x.fetch(nil)
	} else {
		err = next.ServeHTTP(beforeHeader(w, func(fields http.Header, status int) {
			invalidate(fields, status)
			h.addStatus(fields, &rfc9111.Status{Fwd: "method", FwdStatus: status}, nil)
		}), r)
	}
	if err == nil {
		invalidate(w.Header(), http.StatusOK) // an empty 200 that net/http sends
	}
	return err
}

// storesPost reports whether the answer to the request may be stored for later
// GET requests. One with a field that could change it, and is no part of the key,
// is passed on as it is.
func (h *Handler) storesPost(r *http.Request, t *target) bool {
	return r.Method == http.MethodPost && !t.ambiguous && !t.unknown && !h.distorted(r) && !tokenInURL(r) && len(r.Header["Upgrade"]) == 0 && !rfc9111.Precondition(r.Header) &&
		!strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") &&
		!rfc9111.ParseCacheControl(r.Header).Has("no-store") && (h.hosts == nil || h.hosts[hostname.Normal(r.Host)])
}

// invalidatingHandler invalidates before the response of next is judged, so that
// what is stored of it is newer.
func invalidatingHandler(next caddyhttp.Handler, invalidate func(http.Header, int)) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return next.ServeHTTP(beforeHeader(w, func(fields http.Header, status int) {
			invalidate(fields, status)
			if c, ok := w.(*fill); ok {
				c.epoch = c.x.h.tiers.epochs.Now()
			}
		}), r)
	})
}

// invalidate makes invalid what the answer to an unsafe request says: its
// target, Location and Content-Location of the same origin, and cache groups (RFC
// 9875 §3); and what the operator wants to be invalid after a write.
func (h *Handler) invalidate(r *http.Request, t *target, fields http.Header) {
	scopes := []object.Scope{{URL: t.url()}}
	if target, err := url.Parse(t.url()); err == nil {
		for _, u := range rfc9111.AlsoInvalid(target, fields) {
			scopes = append(scopes, object.Scope{URL: u.String()})
		}
	}
	if !rfc9111.GroupsFit(fields["Cache-Group-Invalidation"]) {
		scopes = append(scopes, object.Scope{Host: t.host})
	}
	for _, group := range rfc9111.Groups(fields["Cache-Group-Invalidation"]) {
		scopes = append(scopes, object.Scope{Group: group, Origin: t.scheme + "://" + t.host})
	}
	if h.InvalidateOnWrite != writeOff {
		scopes = append(scopes, h.writeScopes(t)...)
	}
	invalidated.Add(float64(len(scopes)))
	h.tiers.epochs.Invalidate(scopes...)
}
