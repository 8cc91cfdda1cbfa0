package rediscache

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/rediscache/object"
	"github.com/pythopus/tentagate/rediscache/rfc9111"
)

// fetch asks the service, with the validators of a stored response if there is
// one, and stores what may be stored.
func (h *Handler) fetch(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, t *target, stored *object.Object) error {
	validating := stored != nil && !conditional(r) && r.Header["Range"] == nil
	if validating {
		validating = setValidators(r.Header, stored.Header)
	}
	f := &fill{h: h, r: r, t: t, epoch: h.tiers.epochs.Now(), requested: time.Now(), stored: stored, validating: validating}
	f.rec = newRecorder(w, f.begin)
	f.rec.hold = f.hold
	f.rec.limit = h.MaxObjectSize
	err := next.ServeHTTP(f.rec, r)
	if validating {
		// The request itself is changed and not a copy: Caddy's placeholders
		// read the one they were made for.
		delete(r.Header, "If-None-Match")
		delete(r.Header, "If-Modified-Since")
	}
	if err != nil {
		misses.Inc()
		if !f.rec.sent && f.staleIfError() {
			stales.Inc()
			return h.answer(w, r, stored, time.Now(), "hit; ttl="+wholeSeconds(stored.Fresh(time.Now()))+"; detail=stale-if-error")
		}
		if !f.rec.sent {
			// The error is answered further out, with the fields that were set
			// for it: Retry-After, WWW-Authenticate.
			f.rec.merge()
		}
		return err
	}
	if !f.rec.sent && !f.rec.held {
		f.rec.WriteHeader(http.StatusOK) // an empty answer
	}
	switch {
	case f.rec.held && f.rec.status == http.StatusNotModified:
		revalidated.Inc()
		return h.answer(w, r, f.update(), time.Now(), "fwd=stale; fwd-status=304; stored")
	case f.rec.held:
		misses.Inc()
		stales.Inc()
		return h.answer(w, r, stored, time.Now(), "hit; ttl="+wholeSeconds(stored.Fresh(time.Now()))+"; detail=stale-if-error")
	}
	misses.Inc()
	f.rec.trailers()
	f.finish()
	return nil
}

// setValidators makes the request conditional on a stored response, if that has
// a validator (RFC 9111 §4.3.1).
func setValidators(request, stored http.Header) (set bool) {
	if etag := stored.Get("Etag"); etag != "" {
		request["If-None-Match"], set = []string{etag}, true
	}
	if modified := stored.Get("Last-Modified"); modified != "" {
		request["If-Modified-Since"], set = []string{modified}, true
	}
	return set
}

// fill is one request to the service.
type fill struct {
	h          *Handler
	r          *http.Request
	t          *target
	epoch      uint64
	requested  time.Time
	received   time.Time
	stored     *object.Object // the response that is stale, or nil
	validating bool
	rec        *recorder

	object *object.Object // what will be stored if the body ends well, or nil
	key    object.Key
}

// hold decides at the header whether the answer is kept from the client: a 304
// that only the cache asked for, or an error where a stale response may be used.
func (f *fill) hold(status int) bool {
	if status == http.StatusNotModified {
		return f.validating
	}
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return f.staleIfError()
	}
	return false
}

func (f *fill) staleIfError() bool {
	return f.stored != nil && !f.stored.MustRevalidate && !f.stored.NoCache &&
		-f.stored.Fresh(time.Now()) < f.stored.StaleIfError
}

// begin runs when the header of the answer is about to be sent.
func (f *fill) begin(fields http.Header, status int) {
	f.received = time.Now()
	f.object, f.key = f.storable(fields, status)
	f.rec.keep = f.object != nil
	reason := "uri-miss"
	if f.stored != nil {
		reason = "stale"
	}
	text := "fwd=" + reason + "; fwd-status=" + strconv.Itoa(status)
	if f.object != nil {
		text += "; stored"
	}
	setStatus(f.rec, f.r, text)
}

// storable decides whether and where a response is stored (RFC 9111 §3).
func (f *fill) storable(fields http.Header, status int) (*object.Object, object.Key) {
	var none object.Key
	if f.r.Method != http.MethodGet || f.r.Header["Range"] != nil {
		return nil, none
	}
	d := rfc9111.ParseCacheControl(fields)
	names, never := rfc9111.Vary(fields)
	lifetime, explicit := rfc9111.Explicit(fields, d, f.received)
	switch {
	case never || d.Has("no-store") || fields["Set-Cookie"] != nil || fields["Content-Range"] != nil:
		return nil, none
	case strings.HasPrefix(fields.Get("Content-Type"), "text/event-stream") || fields["Trailer"] != nil:
		return nil, none
	case !explicit:
		ttl, ok := f.h.StatusTTL[status]
		if !ok && (status == 200 || status == 203 || status == 301 || status == 308) {
			ttl, ok = f.h.TTL, f.h.TTL > 0
		}
		if !ok || d.Has("no-cache") {
			return nil, none
		}
		lifetime = time.Duration(ttl)
	case !rfc9111.Understood(status):
		return nil, none
	}
	key := f.t.shared
	switch {
	case f.t.authenticated && !rfc9111.SharedDespiteAuthorization(d), d.Has("private"):
		if f.t.private == nil {
			return nil, none
		}
		key = *f.t.private
	}
	if length, err := strconv.ParseInt(fields.Get("Content-Length"), 10, 64); err == nil && length > f.h.MaxObjectSize {
		return nil, none
	}
	o := &object.Object{
		Status: status, Header: rfc9111.Storable(fields), Vary: names, Variant: rfc9111.Variant(names, f.r.Header),
		RequestTime: f.requested, Epoch: f.epoch, ResponseTime: f.received,
		InitialAge: rfc9111.InitialAge(fields, f.requested, f.received), Lifetime: lifetime,
		MustRevalidate: rfc9111.MustRevalidate(d), NoCache: d.Has("no-cache"),
		Scheme: f.t.scheme, Host: f.t.host, Path: f.t.path, Tags: f.h.tagsOf(fields),
	}
	for name := range o.Header {
		// What a CORS handler further out decides for each request anew.
		if strings.HasPrefix(name, "Access-Control-") {
			delete(o.Header, name)
		}
	}
	delete(o.Header, "Cache-Status")
	if o.Header["Date"] == nil {
		o.Header["Date"] = []string{f.received.UTC().Format(http.TimeFormat)}
	}
	o.StaleWhileRevalidate, o.StaleIfError = time.Duration(f.h.StaleWhileRevalidate), time.Duration(f.h.StaleIfError)
	if v, ok := d.Seconds("stale-while-revalidate"); ok {
		o.StaleWhileRevalidate = v
	}
	if v, ok := d.Seconds("stale-if-error"); ok {
		o.StaleIfError = v
	}
	return o, key
}

func (h *Handler) tagsOf(fields http.Header) []string {
	var tags []string
	for _, name := range h.Tags {
		for _, value := range fields[name] {
			tags = append(tags, strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })...)
		}
	}
	return tags
}

// finish stores the object if its body came whole.
func (f *fill) finish() {
	if f.object == nil || !f.rec.keep {
		return
	}
	if text := f.rec.fields.Get("Content-Length"); text != "" && text != strconv.Itoa(len(f.rec.body)) {
		return
	}
	if f.r.Context().Err() != nil {
		return // the client is gone, and the end of the body may have been lost with it
	}
	f.object.Body = f.rec.body
	delete(f.object.Header, "Content-Length")
	f.h.keep(f.r, f.key, f.object)
}

// update refreshes the stored response with a 304 (RFC 9111 §4.3.4).
func (f *fill) update() *object.Object {
	fields := rfc9111.Update(f.stored.Header, f.rec.fields)
	fields.Del("Cache-Status")
	f.received = time.Now()
	fresh, key := f.storable(fields, f.stored.Status)
	if fresh == nil {
		o := f.stored.Clone()
		o.Header = fields
		return o
	}
	fresh.Body = f.stored.Body
	delete(fresh.Header, "Content-Length")
	f.h.keep(f.r, key, fresh)
	return fresh
}

// keep puts the object into the tiers.
func (h *Handler) keep(r *http.Request, key object.Key, o *object.Object) {
	if h.tiers.memory != nil {
		h.tiers.memory.Set(key, h.tiers.memory.Get(r.Context(), key).With(key, o, maxVariants))
	}
	if h.tiers.redis != nil {
		h.tiers.redis.Set(key, (*object.Entry)(nil).With(key, o, maxVariants))
	}
}

// inFlight are the objects that are being refreshed in the background.
type inFlight struct{ m sync.Map }

var refreshing inFlight

func (f *inFlight) begin(o *object.Object) bool {
	_, running := f.m.LoadOrStore(o, struct{}{})
	return !running
}

func (f *inFlight) end(o *object.Object) { f.m.Delete(o) }

// discard is the client of a request that nobody waits for.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header               { return d.header }
func (*discard) Write(p []byte) (int, error)         { return len(p), nil }
func (*discard) WriteHeader(int)                     {}
func (*discard) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
