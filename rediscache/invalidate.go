package rediscache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// serveOtherMethod passes a request with a method other than GET and HEAD on. One
// that is not known to be safe invalidates what is stored for its target, if it
// succeeds (RFC 9111 §4.4).
func serveOtherMethod(x *exchange) error {
	h, r := x.h, x.r
	if rfc9111.Safe(r.Method) {
		return h.pass(x.w, r, x.next, "method")
	}
	results.bypass.Inc()
	reportWhy(r, "bypass", "method")
	x.target = h.keys.target(r, nil)
	done := false
	invalidate := func(fields http.Header, status int) {
		if !done && rfc9111.Invalidates(r.Method, status) {
			h.storage.epochs.Invalidate(r, h.writes.invalidated(&x.target, fields)...)
		}
		done = true
	}
	var err error
	if mayStorePost(x) {
		x.directives = rfc9111.ReadRequestDirectives(r.Header, false)
		f, next := newFetch(x, nil), x.next
		// It is invalidated before the response is evaluated, so that what is stored of
		// it is newer.
		x.next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return next.ServeHTTP(headers.Before(w, func(fields http.Header, status int) {
				invalidate(fields, status)
				f.epoch = h.storage.epochs.Now()
			}), r)
		})
		err = f.do()
	} else {
		err = x.next.ServeHTTP(headers.Before(x.w, func(fields http.Header, status int) {
			invalidate(fields, status)
			h.responder.addStatus(fields, &rfc9111.Status{Fwd: "method", FwdStatus: status}, nil)
		}), r)
	}
	if err == nil {
		invalidate(x.w.Header(), http.StatusOK) // an empty 200 that net/http sends
	}
	return err
}

// mayStorePost reports whether the answer to the request may be stored for later GET
// requests. A request with a field that could change the answer, and is not part of the
// key, is passed on as it is.
func mayStorePost(x *exchange) bool {
	r := x.r
	return r.Method == http.MethodPost && x.target.uncacheable == "" && x.h.bypass.reasonWithBody(r) == "" && !x.h.keys.chains.hasUnkeyed(r) &&
		!rfc9111.Precondition(r.Header) && !rfc9111.ParseCacheControl(r.Header).Has("no-store")
}

// writeRules are what a write invalidates beside its own URL: invalidate_on_write.
type writeRules struct {
	mode     string
	segments int
}

const (
	writeOff      = "off"
	writeAbove    = "above"
	writeSegments = "segments"
	writeAll      = "all"

	// maxSegments bounds how deep a path is looked at for invalidate_on_write.
	maxSegments = 16
)

// invalidated returns what the answer to an unsafe request invalidates: its target,
// Location and Content-Location of the same origin, and cache groups (RFC 9875 §3);
// and what the operator wants to be invalid after a write.
func (w *writeRules) invalidated(t *target, fields http.Header) []object.Scope {
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
		scopes = append(scopes, object.Scope{Group: group, Origin: t.origin()})
	}
	scopes = append(scopes, w.scopes(t)...)
	invalidated.Add(float64(len(scopes)))
	return scopes
}

// scopes returns what a write to the target invalidates for the user who wrote:
// without a partition of that user's own, what is stored for everybody.
func (w *writeRules) scopes(t *target) []object.Scope {
	switch w.mode {
	case writeOff:
		return nil
	case writeAbove:
		segments := segmentsOf(t.path)
		var scopes []object.Scope
		for n := range len(segments) + 1 { // the target too: with any query
			scopes = append(scopes, object.Scope{Group: w.group(t.client.user, strings.Join(segments[:n], "/")), Origin: t.origin()})
		}
		return scopes
	}
	return []object.Scope{{Group: w.groupOf(t.client.user, t.path), Origin: t.origin()}}
}

// groups returns the cache groups of a response: its own (RFC 9875), and that by which
// a later write of the same user finds it.
func (w *writeRules) groups(t *target, values []string, d *rfc9111.Decision) []string {
	groups := rfc9111.Groups(values)
	if w.mode == writeOff {
		return groups
	}
	user := ""
	if d.Shared != rfc9111.Stored {
		user = t.client.user
	}
	return append(slices.Clip(groups), w.groupOf(user, t.path))
}

// groupOf returns the group of a response to the path that is stored for the user, or
// for everybody if that is empty.
func (w *writeRules) groupOf(user, path string) string {
	switch segments := segmentsOf(path); w.mode {
	case writeAbove:
		return w.group(user, strings.Join(segments, "/"))
	case writeSegments:
		return w.group(user, strings.Join(segments[:min(len(segments), w.segments)], "/"))
	}
	return w.group(user, "")
}

// group names a cache group of our own. Those of responses are printable, so none of
// them can be equal.
func (w *writeRules) group(user, path string) string {
	hash := object.NewKey(w.mode, user, path).Hash
	return "\x00" + string(hash[:])
}

// segmentsOf splits a path as origins read it: decoded, and without empty segments, so
// that `/users/` is `/users`. Letters are in lower case, as Caddy's path matchers compare
// them, so that a write to `/Users/5` invalidates what `/users` has.
func segmentsOf(escaped string) []string {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		path = escaped
	}
	path = strings.ToLower(path)
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	return segments[:min(len(segments), maxSegments)]
}
