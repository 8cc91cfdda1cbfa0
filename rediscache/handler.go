package rediscache

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// ServeHTTP answers from the memory tier if it can. What it cannot answer from there
// may end in an error, which problem.Serve turns into a response.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.storage.start()
	if s := requeststate.Of(r); s != nil {
		s.Decisions.Stages.Enter(stage.Cache)
		accesslog.Add(r, s)
	}
	q := h.classify(w, r)
	if q.kind == cacheableRequest {
		if answered, err := h.serveFromMemory(w, r, next, &q); answered {
			return err
		}
	}
	x := &exchange{request: q, h: h} // a hit does not come here, and allocates nothing of it
	return problem.Serve(w, r, next, x.serve)
}

// requestKind is what a request has to do with the cache.
type requestKind int

const (
	cacheableRequest requestKind = iota // it may be answered from the cache
	purgeRequestKind                    // it invalidates
	otherMethod                         // only the origin can answer it
	bypassingRequest                    // it is neither answered from the cache nor stored
)

// request is a request as the cache reads it.
type request struct {
	kind       requestKind
	bypass     string // why, of a bypassingRequest
	target     target
	directives rfc9111.RequestDirectives
	hit        match // what is stored for it, as far as is known
}

// classify reads what the request asks for.
func (h *Handler) classify(w http.ResponseWriter, r *http.Request) (q request) {
	switch {
	case h.PurgeMethod.handles(r):
		q.kind = purgeRequestKind
		return q
	case r.Method == methodQuery && h.Key.Body > 0:
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		q.kind = otherMethod
		return q
	}
	q.kind = bypassingRequest
	if q.bypass = h.bypass.reason(r); q.bypass != "" {
		return q
	}
	var query *content
	if r.Method == methodQuery {
		if query, q.bypass = readContent(r, h.Key.Body); query == nil {
			return q
		}
	}
	q.target = h.keys.target(r, query)
	if q.bypass = q.target.uncacheable; q.bypass != "" {
		return q
	}
	switch forbidden := h.keys.chains.restrictions(w, r, w.Header(), nil, http.StatusOK, false); {
	case forbidden.store || forbidden.share && !q.target.hasPartition():
		q.bypass = "outgoing-cache-control"
		return q
	case forbidden.share:
		q.target.client.exclusive = true
	}
	q.directives = rfc9111.ReadRequestDirectives(r.Header, h.RequestDirectives == directivesHonour)
	if q.directives.NoStore {
		q.bypass = "request-no-store"
		return q
	}
	q.kind = cacheableRequest
	return q
}

// serveFromMemory answers with what the memory tier has, if it may be used as it is.
func (h *Handler) serveFromMemory(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, q *request) (answered bool, err error) {
	q.hit = h.storage.findInMemory(r, &q.target)
	if q.hit.object == nil {
		return false, nil
	}
	now := time.Now()
	switch reuse, fresh := h.storage.evaluate(&q.hit, &q.directives, now); reuse {
	case rfc9111.UseFresh:
		return true, h.responder.hit(w, r, &q.hit, now, fresh)
	case rfc9111.UseWhileRevalidating:
		h.refresher.start(r, next, &q.target, q.hit)
		return true, h.responder.stale(w, r, &q.hit, now, "")
	case rfc9111.UseStale:
		return true, h.responder.stale(w, r, &q.hit, now, "")
	case rfc9111.Validate:
	}
	return false, nil
}

// exchange is a request that the memory tier could not answer, until it is answered.
type exchange struct {
	request
	h    *Handler
	w    http.ResponseWriter
	r    *http.Request
	next caddyhttp.Handler

	// forwardReason is why the origin is asked, if that has been noted: when it is
	// asked again, it is still the first reason.
	forwardReason string
	calls         callHashes
	// leading is the call that the exchange makes for others, and release ends its
	// lease in Redis.
	leading *call
	release func()
	// background: nobody waits for the response.
	background bool
}

func (x *exchange) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x.w, x.r, x.next = w, r, next
	switch x.kind {
	case purgeRequestKind:
		t := x.h.keys.target(r, nil)
		return x.h.PurgeMethod.serve(w, r, t.url(), x.h.storage.epochs)
	case otherMethod:
		return serveOtherMethod(x)
	case bypassingRequest:
		return x.h.pass(w, r, next, x.bypass)
	case cacheableRequest:
	}
	switch {
	case x.directives.OnlyIfCached:
		return x.onlyIfCached()
	case r.Method == http.MethodHead || len(r.Header["Range"]) > 0:
		return x.uncollapsible()
	}
	return x.collapse()
}

// pass lets a request through that the cache has no part in.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, reason string) error {
	results.bypass.Inc()
	reportWhy(r, "bypass", reason)
	if h.responder.cacheStatus == statusOff {
		return next.ServeHTTP(w, r)
	}
	s := rfc9111.Status{Fwd: "bypass", Detail: reason}
	if reason == "request-no-store" {
		s = rfc9111.Status{Fwd: "request", Detail: "no-store"}
	}
	return next.ServeHTTP(headers.Before(w, func(fields http.Header, _ int) { h.responder.addStatus(fields, &s, nil) }), r)
}

// onlyIfCached answers from the Redis tier or with a 504 (RFC 9111 §5.2.1.7).
func (x *exchange) onlyIfCached() error {
	if answered, err := x.serveFromRedis(); answered {
		return err
	}
	results.onlyIfCached.Inc()
	reportWhy(x.r, "miss", "only-if-cached")
	x.h.responder.addStatus(x.w.Header(), &rfc9111.Status{Fwd: "request", Detail: "only-if-cached"}, nil)
	return notCached()
}

func notCached() error {
	return problem.Error(problem.New(http.StatusGatewayTimeout, "not cached, and only-if-cached was requested"))
}

// uncollapsible answers a HEAD request, or one for a part. Others do not wait for it.
func (x *exchange) uncollapsible() error {
	h := x.h
	if x.r.Method == http.MethodGet && x.hit.object == nil && h.responder.storedPart(x.w, x.r, &x.request, time.Now()) {
		return nil
	}
	if answered, err := x.serveFromRedis(); answered {
		return err
	}
	if x.r.Method == http.MethodHead {
		return fetchHead(x)
	}
	return newFetch(x, nil).do()
}

// serveFromRedis answers with what the Redis tier has, if it may be used as it is.
func (x *exchange) serveFromRedis() (answered bool, err error) {
	if !x.findNewer() {
		return false, nil
	}
	return x.serveStored()
}

// findNewer looks into the Redis tier, and notes what is better than what is known.
func (x *exchange) findNewer() bool {
	found := x.h.storage.findInRedis(x.r, &x.target)
	if found.object == nil {
		x.hit.otherVariants = x.hit.otherVariants || found.otherVariants
		return false
	}
	if known := x.hit.object; known == nil || found.object.ResponseTime.After(known.ResponseTime) || found.object.Epoch > known.Epoch {
		x.hit = found
	}
	return true
}

// reuse returns what may be done with what is stored.
func (x *exchange) reuse(now time.Time) (rfc9111.Reuse, time.Duration) {
	return x.h.storage.evaluate(&x.hit, &x.directives, now)
}

// serveStored answers with what is stored, if it may be used as it is.
func (x *exchange) serveStored() (answered bool, err error) {
	now := time.Now()
	reuse, fresh := x.reuse(now)
	switch {
	case x.background:
		if reuse == rfc9111.UseFresh {
			results.hit.Inc()
		}
		return reuse == rfc9111.UseFresh, nil
	case reuse == rfc9111.UseFresh:
		return true, x.h.responder.hit(x.w, x.r, &x.hit, now, fresh)
	case reuse == rfc9111.Validate:
		return false, nil
	case reuse == rfc9111.UseWhileRevalidating:
		x.h.refresher.start(x.r, x.next, &x.target, x.hit)
	}
	return true, x.h.responder.stale(x.w, x.r, &x.hit, now, "")
}

// mayServeStale reports whether the stored response may stand in for an origin that
// answers with an error (RFC 5861 §4), or that cannot be reached at all (RFC 9111
// §4.2.4).
func (x *exchange) mayServeStale(now time.Time, disconnected bool) bool {
	o := x.hit.object
	if o == nil || o.MustRevalidate || o.NoCache || x.directives.NoCache {
		return false
	}
	window := o.StaleIfError
	if disconnected {
		window = max(window, x.h.storage.staleWhenDisconnected)
	}
	return -o.Fresh(now) < window
}

// isFailure reports whether the status is one that stale-if-error is for (RFC 5861
// §4).
func isFailure(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// fwd is why the request goes forward (RFC 9211 §2.2).
func (x *exchange) fwd() string {
	switch {
	case x.forwardReason != "":
		return x.forwardReason
	case x.r.Method == http.MethodPost:
		return "method"
	case x.hit.object != nil && x.directives.NoCache:
		return "request"
	case x.hit.object != nil:
		return "stale"
	case x.hit.otherVariants:
		return "vary-miss"
	}
	return "uri-miss"
}

// method is the method by whose rules the response is stored and used: QUERY is as
// GET there (RFC 10008).
func (x *exchange) method() string {
	if x.target.content != nil {
		return http.MethodGet
	}
	return x.r.Method
}
