package rediscache

import (
	"net/http"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/rediscache/internal/collapse"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// calls are the requests to origins that others may wait for. There is one group for
// the process: a reload must not double the requests.
var calls = collapse.Group[result]{Ended: func(requests int) { collapsedRequests.Observe(float64(requests)) }}

// hitForMiss are the keys of calls that are not waited for.
var hitForMiss collapse.HitForMiss

type call = collapse.Call[result]

// resultKind is what came of a call.
type resultKind int

const (
	nothingShared    resultKind = iota // each request asks alone
	arrivingResponse                   // a response that is arriving
	storedResponse                     // a stored response
	staleResponse                      // a stored response, since the origin failed
)

// result is what those who wait for a call get.
type result struct {
	kind   resultKind
	object *object.Object
	key    object.Key // under which the object is stored
	// partition is the text of the private key if only one user may have it.
	partition string

	content *stream.Stream // of an arriving response
	length  string         // its Content-Length, if it has one
}

// found returns the result of a response that is stored under the key, or will be.
func (t *target) found(kind resultKind, o *object.Object, key object.Key) result {
	r := result{kind: kind, object: o, key: key}
	if t.isPrivate(key) {
		r.partition = key.Full
	}
	return r
}

// callKey is the text by which requests find each other: what they ask for, the
// variant as far as it is known, and, if nobody else may have the response, for whom.
func (t *target) callKey(private bool) string {
	kind, key := t.callKind(private)
	return string(kind) + key.Full + "\x00" + t.vary.value
}

// callHash is a hash of the callKey.
func (t *target) callHash(private bool) collapse.Hash {
	kind, key := t.callKind(private)
	var array [128]byte
	b := append(append(array[:0], kind), key.Hash[:]...)
	return xxh3.Hash128(append(b, t.vary.value...)).Bytes()
}

func (t *target) callKind(private bool) (kind byte, key object.Key) {
	switch {
	case private:
		return 'u', t.private
	case t.client.authorized:
		return 'a', t.shared
	}
	return 'p', t.shared
}

// callHashes are those of the calls that a request has to do with; unused ones are zero.
type callHashes struct {
	// skipped calls were not waited for, because their responses could not be shared
	// (hit-for-miss).
	skipped [2]collapse.Hash
	led     collapse.Hash
}

// passed reports whether a hit-for-miss sent the request to the origin on its own.
func (c *callHashes) passed() bool { return c.skipped[1] != collapse.Hash{} }

// maxCalls is how many calls a request waits for one after the other: a first one,
// one of its own variant, one of its user, and one in place of a call that was stuck.
const maxCalls = 4

// collapse answers together with others who ask for the same.
func (x *exchange) collapse() error {
	if x.h.CollapseTimeout == 0 {
		return x.alone()
	}
	private := false
	for range maxCalls {
		hash := x.target.callHash(private)
		if hitForMiss.Has(hash, time.Now()) {
			if x.target.hasPartition() && !private {
				x.calls.skipped[0], private = hash, true
				continue
			}
			x.calls.skipped[1] = hash
			break
		}
		c, leader := calls.Join(x.target.callKey(private))
		if leader {
			x.calls.led = hash
			return x.lead(c, private)
		}
		switch x.wait(c) {
		case clientCanceled:
			return caddyhttp.Error(requeststate.StatusClientClosed, x.r.Context().Err())
		case ownTurn:
			x.calls.led = hash
			return x.lead(c, private)
		case resultFits:
			return x.follow(c.Result())
		case outdated:
			// Who asked for it may read it for long yet. One of those who wait asks again.
			calls.Retire(c)
		case otherVariant:
			x.target.vary.set(c.Result().object.Vary, x.r.Header)
		case notForThisRequest:
			if !x.target.hasPartition() || private {
				return x.alone()
			}
			private = true
		case timedOut:
			// The call may be stuck. One of those who wait asks again, and the others
			// wait for that one.
			if now := time.Now(); x.mayServeStale(now, true) {
				return x.h.responder.stale(x.w, x.r, &x.hit, now, "collapse-timeout")
			}
			if c.Failed() {
				return x.alone() // it waited for several already
			}
			calls.Retire(c)
		}
	}
	return x.alone()
}

// lead looks into the Redis tier and then asks the origin, for all who wait. private
// is set if those are requests of one user.
func (x *exchange) lead(c *call, private bool) error {
	x.leading = c
	defer x.stopLeading(endCall)
	// What was not there a moment ago may have come with the call before this one.
	if x.refind() {
		if reuse, _ := x.reuse(time.Now()); reuse == rfc9111.UseFresh {
			calls.Publish(c, x.target.found(storedResponse, x.hit.object, x.hit.key))
			if answered, err := x.serveStored(); answered {
				return err
			}
		}
	}
	before := x.hit.object
	if x.findNewer() && x.hit.object != before {
		switch reuse, _ := x.reuse(time.Now()); {
		case reuse == rfc9111.UseFresh:
			calls.Publish(c, x.target.found(storedResponse, x.hit.object, x.hit.key))
		case reuse == rfc9111.UseWhileRevalidating && !x.background:
			// The refresh is a call of its own under the same key.
			calls.Publish(c, x.target.found(storedResponse, x.hit.object, x.hit.key))
			calls.Retire(c)
		}
		if answered, err := x.serveStored(); answered {
			return err
		}
	}
	answered, err := x.lease(c, private)
	if answered {
		return err
	}
	return newFetch(x, c).do()
}

// handOver lets one of those who wait ask next. A failure may be due to the request
// that failed, or to its connection, so it is not shared: RFC 9111 §4 lets others have
// only what may be stored. All of them at once would be too much for an origin that
// is in trouble.
func (x *exchange) handOver() { x.stopLeading(handOverCall) }

// Method values are made once: each would be an allocation.
var endCall, handOverCall = calls.End, calls.HandOver

func (x *exchange) stopLeading(end func(*call)) {
	if x.release != nil {
		x.release()
	}
	end(x.leading)
	x.leading, x.release = nil, nil
}

// alone answers this request only.
func (x *exchange) alone() error {
	if x.refind() {
		if answered, err := x.serveStored(); answered {
			return err
		}
	}
	if answered, err := x.serveFromRedis(); answered {
		return err
	}
	return newFetch(x, nil).do()
}

// refind looks into the memory tier again, and reports whether it has another
// response than before.
func (x *exchange) refind() bool {
	found := x.h.storage.findInMemory(x.r, &x.target)
	if found.object == nil || found.object == x.hit.object {
		return false
	}
	x.hit = found
	return true
}

// lease waits for another gateway that asks for the same, if the operator wants that.
// Otherwise the lease is held until stopLeading.
func (x *exchange) lease(c *call, private bool) (answered bool, err error) {
	redis := x.h.storage.redis
	if !x.h.Lease || redis == nil || x.background {
		return false, nil
	}
	key := x.target.shared
	if private {
		key = x.target.private
	}
	release, granted := redis.Lease(redisContext(x.r), key, time.Duration(x.h.CollapseTimeout))
	if granted {
		x.release = release
		return false, nil
	}
	ctx, cancel := withTimeout(x.r.Context(), time.Duration(x.h.CollapseTimeout))
	defer cancel()
	var found match
	redis.Await(ctx, key, x.h.storage.variantFilter(x.r), func(e *object.Entry) bool {
		found = x.h.storage.selectVariant(x.r, &x.target, key, e)
		if found.object == nil {
			return false
		}
		reuse, _ := x.h.storage.evaluate(&found, &x.directives, time.Now())
		return reuse == rfc9111.UseFresh
	})
	if found.object != nil {
		x.hit = found
		x.h.storage.putInMemory(key, found.object)
	} else if private || !x.target.hasPartition() || !x.findNewer() { // it may be this user's
		return false, nil
	}
	if reuse, _ := x.reuse(time.Now()); reuse == rfc9111.UseFresh {
		calls.Publish(c, x.target.found(storedResponse, x.hit.object, x.hit.key))
	}
	return x.serveStored()
}

// rememberHitForMiss has requests not wait for each other for a while, which begins
// anew with each response that cannot be shared. ownPartition is set if those of the
// same user may wait for each other all the same.
func (x *exchange) rememberHitForMiss(status int, now time.Time, ownPartition bool) {
	life := time.Duration(x.h.HitForMiss)
	if status >= http.StatusInternalServerError {
		life = min(life, time.Second) // an error is not for long
	}
	if x.background || life == 0 {
		return
	}
	for _, hash := range [...]collapse.Hash{x.calls.skipped[0], x.calls.skipped[1], x.calls.led} {
		switch {
		case hash == collapse.Hash{}:
		case ownPartition && x.target.hasPartition() && hash == x.target.callHash(true):
			hitForMiss.Remove(hash)
		default:
			hitForMiss.Add(hash, now.Add(life))
		}
	}
}
