package rediscache

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// timeout is context.WithTimeout, and context.WithCancel without a limit.
func timeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// fwd is why the request goes forward (RFC 9211 §2.2).
func (x *inquiry) fwd() string {
	switch {
	case x.why != "":
		return x.why
	case x.r.Method == http.MethodPost:
		return "method"
	case x.hit.object != nil && x.wish.NoCache:
		return "request"
	case x.hit.object != nil:
		return "stale"
	case x.hit.others:
		return "vary-miss"
	}
	return "uri-miss"
}

// method is the method by whose rules the answer is stored and used: QUERY is as
// GET there (RFC 10008).
func (x *inquiry) method() string {
	if x.t.content != nil {
		return http.MethodGet
	}
	return x.r.Method
}

// fetch asks the service and sends its answer on. f is nil if nobody waits for
// it. It runs in the goroutine of the request, which the handlers behind rely
// on, even when the client is gone.
func (x *inquiry) fetch(f *flight) error {
	missResult.Inc()
	misses.WithLabelValues(x.fwd()).Inc()
	x.h.tell(x.r, "miss")
	c := x.newFill(f)
	defer c.close()
	panicked, err := c.run()
	if panicked != nil {
		return c.broken(panicked)
	}
	if err == nil {
		err = c.invalid
	}
	if err != nil {
		return c.failed(err)
	}
	if c.held {
		return c.settle()
	}
	return c.finish()
}

// newFill prepares a request to the service.
func (x *inquiry) newFill(f *flight) *fill {
	c := &fill{x: x, f: f, outer: x.w.Header().Clone()}
	if c.given = c.outer.Clone(); c.given == nil {
		c.given = http.Header{}
	}
	ctx := x.r.Context()
	if x.r.Method != http.MethodPost {
		// What is asked for on behalf of several, or to be stored, does not end
		// with the client that happened to be the first, nor a refresh with the
		// configuration while somebody reads it.
		ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
		ended := c.clientGone
		if x.background {
			ended = func() { c.settleWorth(false) }
			c.nobody()
		}
		c.unwatch = context.AfterFunc(x.r.Context(), ended)
	}
	c.out = x.r.WithContext(ctx)
	if x.r.ContentLength < 0 && x.r.Method != http.MethodPost {
		c.out.Body, c.out.ContentLength = http.NoBody, 0 // see hasBody
	}
	if x.t.content != nil {
		x.t.content.give(c.out)
	}
	c.prepareRequest()
	c.epoch = x.h.tiers.epochs.Now()
	c.requested = time.Now()
	return c
}

// prepareRequest makes the request that is sent to the service: conditional if
// something is stored, and without what is no part of the key but could change
// the answer.
func (c *fill) prepareRequest() {
	x := c.x
	header := x.r.Header
	own := func() http.Header {
		if !c.ownHeader {
			header, c.ownHeader = header.Clone(), true
			c.out.Header = header
		}
		return header
	}
	stored := x.hit.object
	ranged := len(header["Range"]) > 0
	switch {
	case x.method() != http.MethodGet:
	case stored != nil && stored.Status == http.StatusOK && rfc9111.HasValidator(stored.Header):
		c.validating = rfc9111.SetValidators(own(), stored.Header)
		delete(own(), "Range")
		c.judges = true
	case ranged:
	case c.f != nil || x.background:
		// The answer is for everybody, so it must be a whole one.
		c.judges = true
		if rfc9111.Conditional(header) || len(header["If-Range"]) > 0 {
			rfc9111.RemoveConditions(own())
		}
		c.completing = c.completable()
		if p := c.completing; p != nil {
			own()["Range"] = []string{"bytes=" + formatInt(int64(len(p.Body))) + "-"}
			if etag := p.Header.Get("Etag"); rfc9111.IsStrong(etag) {
				own()["If-Range"] = []string{etag}
			}
		}
	}
	if x.r.Method != http.MethodPost { // such a POST is not stored, see storesPost
		x.h.dropped(x.r, func(name string) bool { delete(own(), name); return true })
	}
	if x.t.content != nil && len(header["Expect"]) > 0 {
		delete(own(), "Expect") // the content is here
	}
	c.sameHost()
	if (x.h.filtersQuery() || x.h.Key.QuerySort) && x.r.URL.RawQuery != "" {
		u := *x.r.URL
		u.RawQuery = x.h.keptQuery(u.RawQuery)
		c.out.URL = &u
	}
}

// sameHost lets the service see the host as the key has it, so that what it
// makes of a port or of the case of letters is for all who get it. Handlers
// behind read the host from the request or by its placeholders.
func (c *fill) sameHost() {
	host := hostname.Normal(c.out.Host)
	if host == c.out.Host {
		return
	}
	c.out.Host = host
	repl, ok := c.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	repl.Set("http.request.hostport", host)
	repl.Set("http.request.host", name)
	repl.Set("http.request.port", port)
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	for i, label := range append(labels, "") {
		repl.Set("http.request.host.labels."+strconv.Itoa(i), label)
	}
}

// completable returns the stored beginning of what is asked for, if the rest of
// it would make it whole (RFC 9111 §3.3).
func (c *fill) completable() *object.Object {
	x := c.x
	if c.x.hit.object != nil || x.background {
		return nil
	}
	now := time.Now()
	var best *object.Object
	x.t.keys(func(key object.Key) bool {
		key = partKey(key)
		for _, o := range x.h.knownParts(x.r, x.t, key) {
			p := x.h.prepare(o)
			variant := partVariant(o.Vary, x.r.Header, rangeOf(o.Variant))
			if p.part.Start != 0 || p.part.End != int64(len(o.Body)) || p.size <= p.part.End || variant != o.Variant ||
				x.h.tiers.epochs.Check(key, o) != object.Valid || !x.h.mayHavePart(x.t, key, o) || o.Fresh(now) <= 0 {
				continue
			}
			if !rfc9111.IsStrong(o.Header.Get("Etag")) && x.h.Profile != profileRFC9111 {
				continue
			}
			if best == nil || len(o.Body) > len(best.Body) {
				best = o
			}
		}
		return best != nil
	})
	return best
}

// run calls the handlers behind. reverse_proxy ends a response that breaks off
// with a panic.
func (c *fill) run() (panicked any, err error) {
	defer func() { panicked = recover() }()
	circuitstate.Watch(c.out)
	return nil, c.x.next.ServeHTTP(c, c.out)
}

// isAbort reports whether a panic is how a handler says that a response broke
// off.
func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// broken is for a panic of the handlers behind.
func (c *fill) broken(panicked any) error {
	x := c.x
	brokeOff := isAbort(panicked)
	if brokeOff && !c.sent && x.mayServeStale(time.Now(), true) {
		return c.standIn()
	}
	c.abort()
	if x.background {
		if !brokeOff {
			x.h.logger.Error("a handler behind the cache panicked during a refresh in the background")
		}
		return nil
	}
	panic(panicked)
}

// failed is for an error of the handlers behind. It is never stored.
func (c *fill) failed(err error) error {
	x := c.x
	if c.sent || c.stream != nil {
		c.abort()
		return err
	}
	if c.status == 0 && c.invalid == nil {
		c.take()
	}
	status := http.StatusInternalServerError
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		status = he.StatusCode
	}
	if status >= http.StatusInternalServerError {
		if x.mayServeStale(time.Now(), true) {
			return c.standIn()
		}
		// Those who wait would learn no more if they asked.
		c.f.arrive(func() {
			c.f.what, c.f.err, c.f.fields = arrivedError, err, rfc9111.StoredFields(c.fields, "Set-Cookie")
		})
	}
	c.merge()
	x.h.addStatus(x.w.Header(), &rfc9111.Status{Fwd: x.fwd(), FwdStatus: 0}, x.t)
	return err
}

// standIn answers with the stale response (RFC 5861 §4).
func (c *fill) standIn() error {
	x := c.x
	c.f.arrive(func() { x.arrived(c.f, arrivedStale, x.hit.object, x.hit.key) })
	if x.background {
		return nil
	}
	return x.h.answerStale(x.w, x.r, &x.hit, time.Now(), "stale-if-error")
}

// settle answers after a response that was kept from the client: a 304 to our
// own condition, an error where a stale response may stand in, or a part that
// does not fit.
func (c *fill) settle() error {
	x := c.x
	if c.status == http.StatusNotModified {
		c.restoreTag()
	}
	switch {
	case c.status == http.StatusNotModified && rfc9111.Confirms(x.hit.object.Header, c.fields):
		return c.confirm()
	case c.status >= http.StatusInternalServerError:
		return c.standIn()
	}
	// The service spoke of another response than the one that is stored: ask
	// again, for the whole.
	if c.completing != nil {
		x.h.forgetParts(x.t)
	}
	x.why = x.fwd()
	x.hit = found{}
	return x.fetch(c.f)
}

// restoreTag undoes what Caddy's encode makes of entity tags: it marks that of a
// response which it compresses, and takes the mark off in requests, but does not
// put it back into a 304.
func (c *fill) restoreTag() {
	stored := c.x.hit.object.Header
	coding, mine, got := stored.Get("Content-Encoding"), stored.Get("Etag"), c.fields.Get("Etag")
	if coding != "" && got != "" && mine == strings.TrimSuffix(got, `"`)+"-"+coding+`"` {
		c.fields["Etag"] = []string{mine}
	}
}

// confirm freshens the stored response (RFC 9111 §4.3.4) and answers with it.
func (c *fill) confirm() error {
	x, h := c.x, c.x.h
	stored := x.hit.object
	header := rfc9111.Update(stored.Header, c.fields)
	verdict := h.policy.Judge(&rfc9111.Exchange{
		Method: http.MethodGet, Authorized: x.t.authorized, Personal: x.t.personal, Status: stored.Status, Header: header,
		Requested: c.requested, Received: c.received,
	})
	x.restrict(&verdict, header, stored.Status)
	o := c.newObject(header, stored.Status, &verdict)
	o.Body, o.Trailer = stored.Body, stored.Trailer
	// Which variant it is was settled when it was selected.
	key, ok := x.place(&verdict)
	ok = ok && c.named(header)
	status := rfc9111.Status{Fwd: x.fwd(), FwdStatus: http.StatusNotModified, Stored: ok}
	if ok {
		h.keep(x.r, key, o)
		if reusable(&verdict) {
			c.f.arrive(func() { x.arrived(c.f, arrivedObject, o, key) })
		}
	} else {
		h.forget(x.r, x.hit.key, stored)
	}
	results.revalidated.Inc()
	if x.background {
		return nil
	}
	// What is for this client alone and so is not stored.
	for name, values := range c.fields {
		if o.Header[name] == nil && (name == "Set-Cookie" || strings.HasPrefix(name, "Access-Control-")) {
			x.w.Header()[name] = append(x.w.Header()[name], values...)
		}
	}
	return h.answer(x.w, x.r, o, time.Now(), outcome{word: "revalidated", status: status})
}

// refresh asks the service in the background for what was sent stale. If
// somebody asks already, that is enough.
func (h *Handler) refresh(r *http.Request, next caddyhttp.Handler, t *target, hit found) {
	f, leads := inFlight.join(t.flightKey(t.hasPrivate && hit.key.Full == t.private.Full))
	if !leads {
		return
	}
	clone, cancel := h.detach(r)
	if clone == nil {
		inFlight.land(f)
		return
	}
	own := *t
	own.spent = nil // the request still uses it
	h.background.Go(func() {
		defer cancel()
		defer inFlight.land(f)
		defer func() {
			if p := recover(); p != nil {
				h.logger.Error("refreshing in the background", panicField(p))
			}
		}()
		x := &inquiry{h: h, w: &discard{header: http.Header{}}, r: clone, next: next, t: &own, wish: rfc9111.Wish{MaxAge: -1, MaxStale: -1}, hit: hit, background: true}
		refreshes.Inc()
		_ = x.lead(f)
	})
}
