package rediscache

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// freshened returns the stored response with the fields of a 304, or of a 200 to a
// HEAD request, in place of its own (RFC 9111 §3.2), and the key under which it is to
// be stored. ok is false if it must not be stored any more.
func (f *fetch) freshened(fields http.Header) (o *object.Object, key object.Key, ok bool) {
	x, rec, stored := f.x, &f.recorder, f.x.hit.object
	header := rfc9111.Update(stored.Header, fields)
	d := evaluateResponse(x, &rfc9111.Exchange{
		Method: http.MethodGet, Status: stored.Status, Header: header, Requested: f.requested, Received: rec.received,
	}, rec.fields.outer)
	rec.record.decision = d
	o = newObject(f, header, stored.Status, &d)
	o.Body, o.Trailer = stored.Body, stored.Trailer
	key, ok = x.target.storageKey(&d)
	return o, key, ok && x.h.tags.fit(&x.target, header, rec.received)
}

// freshen updates the stored response by a 304 (RFC 9111 §4.3.4), and answers with it.
func (f *fetch) freshen() error {
	x, h := f.x, f.x.h
	fields := f.recorder.fields.own
	o, key, ok := f.freshened(fields)
	if ok {
		h.storage.put(key, o)
		if isReusable(&f.recorder.record.decision) {
			calls.Publish(f.call, x.target.found(storedResponse, o, key))
		}
	} else {
		h.storage.remove(x.hit.key, x.hit.object)
	}
	results.revalidated.Inc()
	if x.background {
		return nil
	}
	f.recorder.restoreHeader()
	// What is for this client alone and so is not stored.
	for name, values := range fields {
		if o.Header[name] == nil && (name == "Set-Cookie" || strings.HasPrefix(name, "Access-Control-")) {
			x.w.Header()[name] = append(x.w.Header()[name], values...)
		}
	}
	status := rfc9111.Status{Fwd: x.fwd(), FwdStatus: http.StatusNotModified, Stored: ok}
	return h.responder.stored(x.w, x.r, o, time.Now(), outcome{word: "revalidated", status: status})
}

// restoreTag undoes what Caddy's encode makes of entity tags: it marks that of a
// response which it compresses, and takes the mark off in requests, but does not
// put it back into a 304.
func restoreTag(notModified *ownFields, stored http.Header) {
	coding, mine, got := stored.Get("Content-Encoding"), stored.Get("Etag"), notModified.own.Get("Etag")
	if coding != "" && got != "" && mine == strings.TrimSuffix(got, `"`)+"-"+coding+`"` {
		notModified.own["Etag"] = []string{mine}
	}
}

// fetchHead asks the origin with HEAD. Its response freshens what is stored of a GET,
// or shows that it is out of date (RFC 9111 §4.3.5).
func fetchHead(x *exchange) error {
	stored := x.hit
	f := newFetch(x, nil)
	if stored.object == nil || stored.object.Status != http.StatusOK {
		return f.do()
	}
	next := x.next
	x.next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return next.ServeHTTP(headers.Before(w, func(_ http.Header, status int) {
			if status == http.StatusOK {
				f.compareHead(stored)
			}
		}), r)
	})
	return f.do()
}

// compareHead compares the response to a HEAD request with the stored one.
func (f *fetch) compareHead(stored match) {
	s := f.x.h.storage
	f.recorder.received = time.Now()
	fields := f.recorder.ownFields()
	if rfc9111.SameRepresentation(stored.object.Header, fields, int64(len(stored.object.Body))) {
		if o, key, ok := f.freshened(fields); ok && key.Full == stored.key.Full {
			s.put(key, o)
			return
		}
	}
	s.remove(stored.key, stored.object) // or it is no longer for whom it was stored
}
