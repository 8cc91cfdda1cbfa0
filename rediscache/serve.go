package rediscache

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// ServeHTTP answers from memory if it can, and else as problem.Serve has it. A
// hit has no error to tell.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.tiers.start()
	q := h.read(w, r)
	if q.kind == asksStored {
		if answered, err := h.fromMemory(w, r, next, &q); answered {
			return err
		}
	}
	rest := q // only what is not answered goes to the heap
	return problem.Serve(w, r, next, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		return h.serve(w, r, next, &rest)
	})
}

// asks says what a request has to do with the cache.
type asks int

const (
	asksStored asks = iota // it may be answered from it
	asksPurge              // it invalidates
	asksOther              // its method is for the service
	asksPast               // the cache has no part in it
)

// question is a request as the cache reads it.
type question struct {
	kind   asks
	reason string // of asksPast
	target target
	wish   rfc9111.Wish
	hit    found // what memory has
}

// read tells what the request asks for.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (q question) {
	switch {
	case h.PurgeMethod.handles(r):
		q.kind = asksPurge
		return q
	case r.Method == methodQuery && h.Key.Body > 0:
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		q.kind = asksOther
		return q
	}
	q.kind = asksPast
	if q.reason = h.bypassReason(r); q.reason != "" {
		return q
	}
	if tokenInURL(r) {
		q.reason = "query-token"
		return q
	}
	var asked *content
	if r.Method == methodQuery {
		if asked, q.reason = h.contentOf(r); asked == nil {
			return q
		}
	}
	q.target = h.targetWith(r, asked)
	switch {
	case q.target.ambiguous:
		q.reason = "ambiguous-path"
		return q
	case q.target.unknown:
		q.reason = "handlers-behind"
		return q
	}
	switch store, share := h.forbids(w, r, nil, http.StatusOK, false); {
	case store || share && !q.target.hasPrivate:
		q.reason = "outgoing-cache-control"
		return q
	case share:
		q.target.alone = true
	}
	q.wish = rfc9111.ReadWish(r.Header, h.RequestDirectives == directivesHonour)
	if q.wish.NoStore {
		q.reason = "request-no-store"
		return q
	}
	q.kind = asksStored
	return q
}

// fromMemory answers with what the first tier has, if it may be used as it is.
func (h *Handler) fromMemory(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, q *question) (answered bool, err error) {
	q.hit = h.lookupMemory(r, &q.target)
	if q.hit.object == nil {
		return false, nil
	}
	now := time.Now()
	switch what, fresh := h.judge(&q.hit, &q.wish, now); what {
	case rfc9111.UseFresh:
		results.hit.Inc()
		return true, h.answer(w, r, q.hit.object, now, outcome{word: "hit", status: rfc9111.Status{Hit: true, TTL: seconds64(fresh), HasTTL: true}})
	case rfc9111.UseStale, rfc9111.UseRefreshing:
		if what == rfc9111.UseRefreshing {
			h.refresh(r, next, &q.target, q.hit)
		}
		return true, h.answerStale(w, r, &q.hit, now, "")
	}
	return false, nil
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, q *question) error {
	switch q.kind {
	case asksPurge:
		t := h.targetOf(r)
		return h.PurgeMethod.serve(w, r, t.url(), h.tiers.epochs)
	case asksOther:
		return h.other(w, r, next)
	case asksPast:
		return h.pass(w, r, next, q.reason)
	}
	return h.miss(w, r, next, q.target, q.wish, q.hit)
}

// pass lets a request through that the cache has no part in.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, reason string) error {
	results.bypass.Inc()
	h.tell(r, "bypass")
	if h.CacheStatus == statusOff {
		return next.ServeHTTP(w, r)
	}
	s := rfc9111.Status{Fwd: "bypass", Detail: reason}
	if reason == "request-no-store" {
		s = rfc9111.Status{Fwd: "request", Detail: "no-store"}
	}
	return next.ServeHTTP(beforeHeader(w, func(fields http.Header, _ int) { h.addStatus(fields, &s, nil) }), r)
}

// miss answers a request for which the first tier has nothing to send as it is.
func (h *Handler) miss(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, at target, wish rfc9111.Wish, hit found) error {
	t := &at
	x := &inquiry{h: h, w: w, r: r, next: next, t: t, wish: wish, hit: hit}
	switch {
	case wish.OnlyIfCached:
		return x.onlyIfCached()
	case r.Method == http.MethodHead || len(r.Header["Range"]) > 0:
		return x.single()
	}
	return x.collapsed()
}

// inquiry is a request that the first tier could not answer.
type inquiry struct {
	h    *Handler
	w    http.ResponseWriter
	r    *http.Request
	next caddyhttp.Handler
	t    *target
	wish rfc9111.Wish
	// hit is what is stored but could not be used as it is.
	hit found
	// why is the reason to ask the service if it is asked for the second time.
	why string
	// passed are the flights that the request did not wait for, because their
	// answers could not be shared.
	passed []string
	// background: nobody waits for the answer.
	background bool
}

// second asks the second tier. It reports whether the request is answered.
func (x *inquiry) second() (answered bool, err error) {
	better := x.h.lookupRedis(x.r, x.t)
	if better.object == nil {
		x.hit.others = x.hit.others || better.others
		return false, nil
	}
	if x.hit.object == nil || better.object.ResponseTime.After(x.hit.object.ResponseTime) || better.object.Epoch > x.hit.object.Epoch {
		x.hit = better
	}
	return x.fromStored()
}

// fromStored answers with what is stored, if it may be used by now.
func (x *inquiry) fromStored() (answered bool, err error) {
	now := time.Now()
	what, fresh := x.h.judge(&x.hit, &x.wish, now)
	switch {
	case what == rfc9111.UseFresh:
		results.hit.Inc()
		if x.background {
			return true, nil
		}
		return true, x.h.answer(x.w, x.r, x.hit.object, now, outcome{word: "hit", status: rfc9111.Status{Hit: true, TTL: seconds64(fresh), HasTTL: true}})
	case what == rfc9111.Validate || x.background:
		return false, nil
	case what == rfc9111.UseRefreshing:
		x.h.refresh(x.r, x.next, x.t, x.hit)
	}
	return true, x.h.answerStale(x.w, x.r, &x.hit, now, "")
}

// onlyIfCached answers from the second tier or with a 504 (RFC 9111 §5.2.1.7).
func (x *inquiry) onlyIfCached() error {
	if answered, err := x.second(); answered {
		return err
	}
	results.onlyIfCached.Inc()
	x.h.tell(x.r, "miss")
	x.h.addStatus(x.w.Header(), &rfc9111.Status{Fwd: "request", Detail: "only-if-cached"}, nil)
	return problem.Error(problem.New(http.StatusGatewayTimeout, "the answer is not in the cache, and the request does not want another"))
}

// tell sets the placeholder and the field of the access log.
func (h *Handler) tell(r *http.Request, word string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(placeholder, words[word])
	}
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.Logs != nil {
		if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
			extra.Set(zap.String("cache", word))
		}
	}
}

const placeholder = "http.cache.status"

// words are the values of the placeholder, boxed once.
var words = map[string]any{
	"hit": "hit", "stale": "stale", "revalidated": "revalidated", "miss": "miss", "collapsed": "collapsed", "bypass": "bypass", "invalidate": "invalidate",
}

// addStatus adds the cache's member to Cache-Status (RFC 9211): it is the last,
// since this cache is nearer to the client than those that are there already.
func (h *Handler) addStatus(fields http.Header, s *rfc9111.Status, t *target) {
	if h.CacheStatus == statusOff {
		return
	}
	if h.CacheStatus == statusKey && t != nil {
		s.Key = strings.ToValidUTF8(t.shared.Full, "?")
	}
	var array [160]byte
	text := string(s.Append(array[:0], cacheName))
	fields["Cache-Status"] = append(append([]string(nil), fields["Cache-Status"]...), text)
}

// cacheName is what this cache is called in Cache-Status.
const cacheName = "tentagate"

func seconds64(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}
