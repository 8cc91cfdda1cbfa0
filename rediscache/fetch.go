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
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// fetch is one request to the origin on behalf of an exchange, and what becomes of the
// response.
type fetch struct {
	x    *exchange
	call *call // whose followers wait for the response; nil if there are none
	out  *http.Request

	conditions conditions
	epoch      uint64 // of the invalidations when the request was sent
	requested  time.Time

	lifetime lifetime
	recorder recorder
}

// conditions are how the conditions and ranges of a request to the origin differ from
// the client's.
type conditions struct {
	// own: the client's conditions were left out. They are evaluated here.
	own bool
	// validating: the request has the validators of a stored response.
	validating bool
	// completing is the stored beginning of what is asked for; the request asks for
	// the rest of it.
	completing *object.Object
}

// newFetch prepares a request to the origin.
func newFetch(x *exchange, c *call) *fetch {
	f := &fetch{x: x, call: c}
	f.recorder.init(f)
	f.lifetime.f = f
	ctx := x.r.Context()
	if x.r.Method != http.MethodPost && !x.calls.passed() {
		// What is asked for on behalf of several, or to be stored, does not end with the
		// client that happened to be the first, nor a refresh with the configuration
		// while somebody reads it. After a hit-for-miss it most likely is for the client
		// alone.
		ctx = f.lifetime.begin(ctx)
	}
	f.out = x.r.WithContext(ctx)
	if x.r.ContentLength < 0 && x.r.Method != http.MethodPost {
		f.out.Body, f.out.ContentLength = http.NoBody, 0 // see hasContent
	}
	if x.target.content != nil {
		x.target.content.giveTo(f.out)
	}
	f.setHeader()
	f.setHost()
	if query := &x.h.keys.query; query.Changes() && x.r.URL.RawQuery != "" {
		u := *x.r.URL
		u.RawQuery = query.Apply(u.RawQuery)
		f.out.URL = &u
	}
	return f
}

// setHeader makes the request conditional if something is stored, and removes what is
// no part of the key but could change the response.
func (f *fetch) setHeader() {
	x := f.x
	header := x.r.Header
	owned := false
	own := func() http.Header {
		if !owned {
			header, owned = header.Clone(), true
			f.out.Header = header
		}
		return header
	}
	if x.h.keys.chains.of(x.r).reads.Changes {
		own() // what is stored is found by the fields as they are here
	}
	stored := x.hit.object
	switch {
	case x.method() != http.MethodGet:
	case stored != nil && stored.Status == http.StatusOK && rfc9111.HasValidator(stored.Header):
		f.conditions.own = true
		f.conditions.validating = rfc9111.SetValidators(own(), stored.Header)
		delete(own(), "Range")
	case len(header["Range"]) > 0:
	case f.call != nil || x.background:
		// The response is for everybody, so it must be a whole one.
		f.conditions.own = true
		if rfc9111.Conditional(header) || len(header["If-Range"]) > 0 {
			rfc9111.RemoveConditions(own())
		}
		if stored == nil && !x.background {
			f.conditions.completing = x.h.storage.parts().completable(x.r, &x.target)
		}
		if p := f.conditions.completing; p != nil {
			own()["Range"] = []string{"bytes=" + strconv.Itoa(len(p.Body)) + "-"}
			if etag := p.Header.Get("Etag"); rfc9111.IsStrong(etag) {
				own()["If-Range"] = []string{etag}
			}
		}
	}
	if x.r.Method != http.MethodPost { // a POST with such a field is not stored, see storesPost
		x.h.keys.chains.unkeyed(x.r, func(name string) bool { delete(own(), name); return true })
	}
	if x.target.content != nil && len(header["Expect"]) > 0 {
		delete(own(), "Expect") // the content is here
	}
}

// setHost lets the origin see the host as the key has it, so that what it makes of a
// port or of the case of letters is for all who get it. Handlers behind read the host
// from the request or by its placeholders.
func (f *fetch) setHost() {
	host := hostname.Normal(f.out.Host)
	if host == f.out.Host {
		return
	}
	f.out.Host = host
	repl, ok := f.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
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

// do asks the origin and sends its response on. It runs in the goroutine of the
// request, which the handlers behind rely on, even when the client is gone.
func (f *fetch) do() error {
	x, rec := f.x, &f.recorder
	defer f.close()
	results.miss.Inc()
	reason := x.fwd()
	misses.WithLabelValues(reason).Inc()
	reportWhy(x.r, "miss", reason)
	f.epoch, f.requested = x.h.storage.epochs.Now(), time.Now()
	panicked, err := f.callNext()
	if err == nil {
		err = rec.invalid
	}
	if err == nil && panicked == nil && rec.phase == awaitingHeader && problem.DroppedUpgrade(f.out) {
		err = problem.Error(problem.Standard(http.StatusBadGateway))
	}
	switch {
	case panicked != nil:
		return f.recoverFrom(panicked)
	case err != nil:
		return f.fail(err)
	}
	rec.finishHeader()
	if rec.phase == withheld {
		return f.replaceWithheld()
	}
	rec.finish()
	return nil
}

// callNext calls the handlers behind. reverse_proxy ends a response that breaks off
// with a panic.
func (f *fetch) callNext() (panicked any, err error) {
	defer func() { panicked = recover() }()
	circuitstate.Watch(f.out)
	return nil, f.x.next.ServeHTTP(&f.recorder, f.out)
}

// recoverFrom ends a fetch whose handlers panicked.
func (f *fetch) recoverFrom(panicked any) error {
	x, rec := f.x, &f.recorder
	err, _ := panicked.(error)
	brokeOff := errors.Is(err, http.ErrAbortHandler)
	if brokeOff && !rec.sent() && x.mayServeStale(time.Now(), true) {
		return f.serveStale()
	}
	rec.abort()
	x.handOver()
	if !x.background {
		panic(panicked)
	}
	if !brokeOff {
		x.h.logger.Error("panic in a handler behind the cache, while refreshing in the background", panicField(panicked))
	}
	return nil
}

// fail ends a fetch with an error of the handlers behind. It is never stored, and for
// nobody else.
func (f *fetch) fail(err error) error {
	x, rec := f.x, &f.recorder
	if rec.sent() {
		rec.abort()
		return err
	}
	status := http.StatusInternalServerError
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		status = he.StatusCode
	}
	failed := status >= http.StatusInternalServerError
	if failed && x.mayServeStale(time.Now(), true) {
		return f.serveStale()
	}
	if failed || status == requeststate.StatusClientClosed {
		x.handOver()
	}
	if rec.phase != awaitingHeader {
		rec.restoreHeader()
	}
	x.h.responder.addStatus(x.w.Header(), &rfc9111.Status{Fwd: x.fwd()}, &x.target)
	return err
}

// serveStale answers with the stored response, which is stale (RFC 5861 §4).
func (f *fetch) serveStale() error {
	x := f.x
	f.recorder.restoreHeader()
	calls.Publish(f.call, x.target.found(staleResponse, x.hit.object, x.hit.key))
	if x.background {
		return nil
	}
	return x.h.responder.stale(x.w, x.r, &x.hit, time.Now(), "stale-if-error")
}

// replaceWithheld answers in place of a response that is not for the client: a 304 to
// our own condition, an error where a stale response may stand in, or a part that
// does not fit.
func (f *fetch) replaceWithheld() error {
	x, rec := f.x, &f.recorder
	if rec.status == http.StatusNotModified {
		restoreTag(rec.fields, x.hit.object.Header)
	}
	switch {
	case rec.status == http.StatusNotModified && rfc9111.Confirms(x.hit.object.Header, rec.fields.own):
		return f.freshen()
	case rec.status >= http.StatusInternalServerError:
		return f.serveStale()
	}
	// The origin's answer is about another response than the stored one: ask again, for
	// the whole.
	rec.restoreHeader()
	if f.conditions.completing != nil {
		x.h.storage.parts().remove(&x.target)
	}
	x.forwardReason = x.fwd()
	x.hit = match{}
	return newFetch(x, f.call).do()
}

// close frees what the fetch holds. It is called when the response has come to its
// end, however that is.
func (f *fetch) close() {
	f.lifetime.close()
	f.recorder.close()
}

// withTimeout is context.WithTimeout, and context.WithCancel without a limit.
func withTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}
