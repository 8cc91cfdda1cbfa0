package rediscache

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// flights are the requests to services whose answers others may wait for.
type flights struct {
	mu sync.Mutex
	m  map[string]*flight
}

// inFlight is one for the process: a reload must not double the requests.
var inFlight = flights{m: map[string]*flight{}}

// arrival says what came of a flight.
type arrival int

const (
	arrivedNothing arrival = iota // every request on its own
	arrivedStream                 // a response that is arriving
	arrivedObject                 // a stored response
	arrivedStale                  // a stored response, because the service failed
	arrivedError                  // the error of the service
)

// flight is one request to the service. What is below ready is written before
// ready is closed and not changed after.
type flight struct {
	key   string
	width atomic.Int32
	once  sync.Once
	ready chan struct{}

	what   arrival
	object *object.Object
	at     object.Key // where it is stored
	// shared: everybody may have it; otherwise only who has the partition.
	shared    bool
	partition string
	stream    *stream
	err       error
	fields    http.Header // of an error
	length    string      // Content-Length of a stream, if it has one
}

// join returns the flight of the key, and whether the caller has to fly it.
func (f *flights) join(key string) (one *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one = f.m[key]; one != nil {
		one.width.Add(1)
		return one, false
	}
	one = &flight{key: key, ready: make(chan struct{})}
	one.width.Store(1)
	f.m[key] = one
	return one, true
}

// land ends a flight: nobody can join any more.
func (f *flights) land(one *flight) {
	if one == nil {
		return
	}
	one.arrive(func() {})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m[one.key] == one {
		delete(f.m, one.key)
		widths.Observe(float64(one.width.Load()))
	}
}

// retire makes way for another flight of the same key.
func (f *flights) retire(one *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m[one.key] == one {
		delete(f.m, one.key)
		widths.Observe(float64(one.width.Load()))
	}
}

// arrive tells those who wait what came, once.
func (f *flight) arrive(set func()) {
	if f == nil {
		return
	}
	f.once.Do(func() {
		set()
		close(f.ready)
	})
}

// flightKey is the text by which requests find each other: what they ask for,
// the variant as far as it is known, and, if nobody else may have the answer,
// for whom.
func (t *target) flightKey(private bool) string {
	kind := "p"
	switch {
	case private:
		return "u" + t.private.Full + "\x00" + t.variant
	case t.authorized:
		kind = "a"
	}
	return kind + t.shared.Full + "\x00" + t.variant
}

// maxFlights is how many flights a request waits for one after the other: a
// first one, one of its own variant, and one of its user.
const maxFlights = 4

// collapsed answers together with others who ask for the same.
func (x *inquiry) collapsed() error {
	if x.h.CollapseTimeout == 0 {
		return x.alone()
	}
	private := false
	for range maxFlights {
		key := x.t.flightKey(private)
		if notShared.has(key, time.Now()) {
			x.passed = append(x.passed, key)
			if x.t.hasPrivate && !private {
				private = true
				continue
			}
			break
		}
		f, leads := inFlight.join(key)
		if leads {
			return x.lead(f)
		}
		switch x.wait(f) {
		case waitGone:
			return nil
		case waitUse:
			return x.share(f)
		case waitVariant:
			x.t.know(f.object.Vary, x.r.Header)
		case waitNot:
			if !x.t.hasPrivate || private {
				return x.alone()
			}
			private = true
		case waitLong:
			// It may be stuck. One of those who wait asks again, and the others
			// wait for that one.
			if x.mayServeStale(time.Now(), true) {
				return x.h.answerStale(x.w, x.r, &x.hit, time.Now(), "collapse-timeout")
			}
			inFlight.retire(f)
		}
	}
	return x.alone()
}

// lead asks the second tier and then the service, for all who wait.
func (x *inquiry) lead(f *flight) error {
	defer inFlight.land(f)
	// What was not there a moment ago may have come with the last flight.
	if x.newer(x.h.lookupMemory(x.r, x.t)) {
		if answered, err := x.fromMemory(f); answered {
			return err
		}
	}
	better := x.h.lookupRedis(x.r, x.t)
	if better.object != nil && (x.hit.object == nil || better.object.ResponseTime.After(x.hit.object.ResponseTime)) {
		x.hit = better
		switch what, _ := x.h.judge(&x.hit, &x.wish, time.Now()); what {
		case rfc9111.UseFresh:
			f.arrive(func() { x.arrived(f, arrivedObject, x.hit.object, x.hit.key) })
		case rfc9111.UseRefreshing:
			if !x.background {
				// The refresh is a flight of its own under the same key.
				f.arrive(func() { x.arrived(f, arrivedObject, x.hit.object, x.hit.key) })
				inFlight.land(f)
			}
		}
		if answered, err := x.fromStored(); answered {
			return err
		}
	}
	if release, answered, err := x.lease(f); answered {
		return err
	} else if release != nil {
		defer release()
	}
	return x.fetch(f)
}

func (x *inquiry) arrived(f *flight, what arrival, o *object.Object, at object.Key) {
	f.what, f.object, f.at = what, o, at
	f.shared = !x.t.hasPrivate || at.Full != x.t.private.Full
	f.partition = x.t.partition()
}

// newer notes what was found if it is not what is known already.
func (x *inquiry) newer(hit found) bool {
	if hit.object == nil || hit.object == x.hit.object {
		return false
	}
	x.hit = hit
	return true
}

// fromMemory is fromStored for one who leads others, who get the same.
func (x *inquiry) fromMemory(f *flight) (answered bool, err error) {
	if what, _ := x.h.judge(&x.hit, &x.wish, time.Now()); what == rfc9111.UseFresh {
		f.arrive(func() { x.arrived(f, arrivedObject, x.hit.object, x.hit.key) })
		return x.fromStored()
	}
	return false, nil
}

// alone asks for this request only.
func (x *inquiry) alone() error {
	if x.newer(x.h.lookupMemory(x.r, x.t)) {
		if answered, err := x.fromStored(); answered {
			return err
		}
	}
	if answered, err := x.second(); answered {
		return err
	}
	return x.fetch(nil)
}

// lease waits for another gateway that asks for the same, if the operator wants
// that.
func (x *inquiry) lease(f *flight) (release func(), answered bool, err error) {
	if !x.h.Lease || x.h.tiers.redis == nil || x.background {
		return nil, false, nil
	}
	key := x.t.shared
	if x.t.hasPrivate {
		key = x.t.private
	}
	release, granted := x.h.tiers.redis.Lease(x.r.Context(), key, time.Duration(x.h.CollapseTimeout))
	if granted {
		return release, false, nil
	}
	ctx, cancel := timeout(x.r.Context(), time.Duration(x.h.CollapseTimeout))
	defer cancel()
	var hit found
	x.h.tiers.redis.Await(ctx, key, x.h.matcher(x.r), func(e *object.Entry) bool {
		hit = x.h.pick(x.r, x.t, key, e)
		if hit.object == nil {
			return false
		}
		what, _ := x.h.judge(&hit, &x.wish, time.Now())
		return what == rfc9111.UseFresh
	})
	if hit.object == nil {
		return nil, false, nil
	}
	x.hit = hit
	x.h.remember(x.r, key, hit.object)
	if what, _ := x.h.judge(&x.hit, &x.wish, time.Now()); what == rfc9111.UseFresh {
		f.arrive(func() { x.arrived(f, arrivedObject, hit.object, key) })
	}
	answered, err = x.fromStored()
	return nil, answered, err
}

// waited says what came of waiting.
type waited int

const (
	waitUse     waited = iota // the answer is for this request too
	waitVariant               // it is of another variant
	waitNot                   // it is not for this request
	waitLong                  // it did not come in time
	waitGone                  // the client is gone
)

// wait waits until it is known what comes of a flight.
func (x *inquiry) wait(f *flight) waited {
	timer := time.NewTimer(time.Duration(x.h.CollapseTimeout))
	defer timer.Stop()
	select {
	case <-f.ready:
	case <-x.r.Context().Done():
		return waitGone
	case <-timer.C:
		return waitLong
	}
	switch f.what {
	case arrivedNothing:
		return waitNot
	case arrivedError:
		return waitUse
	}
	o := f.object
	if rfc9111.Variant(o.Vary, x.r.Header) != o.Variant {
		return waitVariant
	}
	if f.shared && !x.h.mayHave(x.t, x.t.shared, o) || !f.shared && (!x.t.hasPrivate || f.partition != x.t.partition()) {
		return waitNot
	}
	// What was invalidated since it was asked for is for nobody who comes after.
	if x.h.tiers.epochs.Check(f.at, o) != object.Valid {
		return waitNot
	}
	if f.what == arrivedStream && o.Fresh(time.Now()) <= 0 {
		return waitNot
	}
	// What was found for another request may not be fresh enough for this one.
	if what, _ := x.h.judge(&found{object: o, key: f.at}, &x.wish, time.Now()); f.what == arrivedObject && what == rfc9111.Validate {
		return waitNot
	}
	return waitUse
}

// share answers with what came of another request's flight.
func (x *inquiry) share(f *flight) error {
	h := x.h
	now := time.Now()
	switch f.what {
	case arrivedError:
		if x.mayServeStale(now, true) {
			return h.answerStale(x.w, x.r, &x.hit, now, "stale-if-error")
		}
		results.collapsed.Inc()
		h.tell(x.r, "collapsed")
		merge(x.w.Header(), f.fields)
		return f.err
	case arrivedStale:
		return h.answerStale(x.w, x.r, &found{object: f.object, key: f.at}, now, "stale-if-error")
	}
	results.collapsed.Inc()
	status := rfc9111.Status{Fwd: x.fwd(), Collapsed: true}
	if f.what == arrivedObject {
		return h.answer(x.w, x.r, f.object, now, outcome{word: "collapsed", status: status})
	}
	return x.followStream(f, now, &status)
}

// followStream sends a response while it arrives.
func (x *inquiry) followStream(f *flight, now time.Time, status *rfc9111.Status) error {
	h, o := x.h, f.object
	rd := f.stream.follow(0)
	if rd == nil {
		return x.alone() // it has become too large to be kept
	}
	defer rd.close()
	h.tell(x.r, "collapsed")
	fields := x.w.Header()
	p := h.prepare(o)
	h.writeFields(fields, o, p, now, status)
	if rfc9111.NotModified(x.r.Header, o.Header, o.Status, o.ResponseTime) {
		return notModified(x.w)
	}
	if f.length != "" {
		fields["Content-Length"] = []string{f.length}
	}
	x.w.WriteHeader(o.Status)
	for {
		chunk, err := rd.next(x.r.Context().Done())
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case x.r.Context().Err() != nil:
			return nil
		default:
			// What was sent is no whole response, and must not look like one.
			panic(http.ErrAbortHandler)
		}
		if _, err := x.w.Write(chunk); err != nil {
			return nil // the client is gone
		}
		if rd.idle() {
			_ = http.NewResponseController(x.w).Flush()
		}
	}
}
