package rediscache

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/rediscache/object"
	"github.com/pythopus/tentagate/rediscache/rfc9111"
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.tiers.start()
	if h.PurgeMethod.handles(r) {
		return h.PurgeMethod.serve(w, r, h.targetOf(r).url(), h.tiers.epochs)
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return h.passUnsafe(w, r, next)
	case !cacheable(r):
		bypasses.Inc()
		setStatus(w, r, "fwd=bypass")
		return next.ServeHTTP(w, r)
	}
	t := h.targetOf(r)
	wants := rfc9111.ParseCacheControl(r.Header)
	stored, key := h.lookup(r, t)
	now := time.Now()
	if stored != nil {
		fresh := stored.Fresh(now)
		if h.tiers.epochs.Check(key, stored) == object.Soft {
			fresh = min(fresh, 0)
		}
		switch {
		case fresh > 0 && !stored.NoCache:
			hits.Inc()
			return h.answer(w, r, stored, now, "hit; ttl="+wholeSeconds(fresh))
		case -fresh < stored.StaleWhileRevalidate && !stored.MustRevalidate && !stored.NoCache:
			stales.Inc()
			h.refresh(r, next, t, stored)
			return h.answer(w, r, stored, now, "hit; ttl="+wholeSeconds(fresh))
		}
	}
	if wants.Has("only-if-cached") {
		w.Header().Set("Cache-Status", "tentagate; fwd=request; detail=only-if-cached")
		w.WriteHeader(http.StatusGatewayTimeout)
		return nil
	}
	return h.fetch(w, r, next, t, stored)
}

// cacheable reports whether the request is one that the cache answers: not one
// with a body, nor one that wants a connection or a stream of its own.
func cacheable(r *http.Request) bool {
	// HTTP/3 tells an unknown length where there is no body.
	if r.ContentLength > 0 || len(r.TransferEncoding) > 0 || r.Header["Upgrade"] != nil || r.ProtoMajor == 2 && r.Method == http.MethodConnect {
		return false
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") || strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return false
	}
	return !rfc9111.ParseCacheControl(r.Header).Has("no-store")
}

// lookup finds the stored response that the request may get: the user's own
// first, then what everybody may have.
func (h *Handler) lookup(r *http.Request, t *target) (*object.Object, object.Key) {
	if t.private != nil {
		if o := h.find(r, *t.private); o != nil {
			return o, *t.private
		}
	}
	o := h.find(r, t.shared)
	if o != nil && t.authenticated && !rfc9111.SharedDespiteAuthorization(rfc9111.ParseCacheControl(o.Header)) {
		// It was stored for nobody in particular, who may not be this client.
		return nil, t.shared
	}
	return o, t.shared
}

// find asks the tiers in turn.
func (h *Handler) find(r *http.Request, key object.Key) *object.Object {
	if h.tiers.memory != nil {
		if o := h.pick(r, key, h.tiers.memory.Get(r.Context(), key)); o != nil {
			return o
		}
	}
	if h.tiers.redis == nil {
		return nil
	}
	e := h.tiers.redis.Get(r.Context(), key)
	o := h.pick(r, key, e)
	if o != nil && h.tiers.memory != nil {
		h.tiers.memory.Set(key, e)
	}
	return o
}

// pick selects the variant for the request (RFC 9111 §4.1).
func (h *Handler) pick(r *http.Request, key object.Key, e *object.Entry) *object.Object {
	if e == nil {
		return nil
	}
	for _, o := range e.Variants {
		if o.Variant == rfc9111.Variant(o.Vary, r.Header) && h.tiers.epochs.Check(key, o) != object.Hard {
			return o
		}
	}
	return nil
}

// answer sends a stored response.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, o *object.Object, now time.Time, status string) error {
	fields := w.Header()
	for name, values := range o.Header {
		if name == "Vary" {
			fields[name] = append(append([]string(nil), fields[name]...), values...)
			continue
		}
		// New slices: Caddy's header directive edits them in place.
		fields[name] = append([]string(nil), values...)
	}
	fields["Age"] = []string{wholeSeconds(o.Age(now))}
	setStatus(w, r, status)
	if o.Status == http.StatusOK && (r.Header["Range"] != nil || conditional(r)) {
		modified, _ := rfc9111.ParseDate(o.Header.Get("Last-Modified"))
		if o.Header["Content-Type"] == nil {
			fields["Content-Type"] = nil // or ServeContent would guess one
		}
		http.ServeContent(w, r, "", modified, bytes.NewReader(o.Body))
		return nil
	}
	if o.Status != http.StatusNoContent {
		fields["Content-Length"] = []string{strconv.Itoa(len(o.Body))}
	}
	w.WriteHeader(o.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(o.Body) // a client that is gone is no error
	}
	return nil
}

func conditional(r *http.Request) bool {
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if r.Header[name] != nil {
			return true
		}
	}
	return false
}

// setStatus adds to Cache-Status (RFC 9211) and sets the placeholder.
func setStatus(w http.ResponseWriter, r *http.Request, status string) {
	fields := w.Header()
	fields["Cache-Status"] = append(append([]string(nil), fields["Cache-Status"]...), "tentagate; "+status)
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.cache.status", status)
	}
}

func wholeSeconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// passUnsafe lets a request with another method through. One that may change
// something makes what is stored for its target unusable, if it succeeds (RFC
// 9111 §4.4).
func (h *Handler) passUnsafe(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	bypasses.Inc()
	t := h.targetOf(r)
	if r.Method == http.MethodOptions || r.Method == http.MethodTrace || r.Method == http.MethodConnect {
		return next.ServeHTTP(w, r)
	}
	return next.ServeHTTP(headers.Before(w, func(fields http.Header, status int) {
		if status >= 200 && status < 400 {
			h.invalidate(t, fields)
		}
	}), r)
}

func (h *Handler) invalidate(t *target, fields http.Header) {
	urls := []string{t.url()}
	base, err := url.Parse(t.url())
	if err == nil {
		for _, name := range []string{"Location", "Content-Location"} {
			if u, err := base.Parse(fields.Get(name)); err == nil && fields.Get(name) != "" && u.Scheme == base.Scheme && u.Host == base.Host {
				u.Fragment = ""
				urls = append(urls, u.String())
			}
		}
	}
	for _, u := range urls {
		h.tiers.epochs.Invalidate(object.Scope{URL: u})
	}
}

// refresh asks the service again in the background for a response that was
// served stale.
func (h *Handler) refresh(r *http.Request, next caddyhttp.Handler, t *target, stored *object.Object) {
	if !refreshing.begin(stored) {
		return
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil {
		refreshing.end(stored)
		return
	}
	// The client's request ends before this one; nothing of its context may be
	// used by two goroutines.
	ctx, cancel := context.WithTimeout(h.ctx, refreshTimeout)
	clone := r.Clone(ctx)
	clone.Body, clone.ContentLength = http.NoBody, 0
	sink := &discard{header: http.Header{}}
	clone = caddyhttp.PrepareRequest(clone, caddy.NewReplacer(), sink, server)
	h.refreshes.Go(func() {
		defer cancel()
		defer refreshing.end(stored)
		defer func() { _ = recover() }() // reverse_proxy aborts by a panic
		_ = h.fetch(sink, clone, next, t, stored)
	})
}
