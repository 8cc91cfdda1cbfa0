// Package past keeps the last requests in memory with what the gateway decided about them,
// for `tentagate explain --request-id` and the admin API. What is kept is that of this
// process: it outlives reloads of the configuration, and is gone at a restart.
package past

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/internal/stage"
)

// Request is a request and what was decided about it. It has no query, no other header
// field than Host, and no body.
type Request struct {
	// Copied up to a length each: they may be parts of larger texts of the request, such as
	// its target with the query.
	ID, Method, Host, Path, Client, Detail, Upstream string
	// Decoded: Path is percent-decoded. Cut: it was longer than what is kept of it.
	Decoded, Cut bool

	// Names of the configuration and constants.
	Service, Route                 string
	CORS, Auth, Provider           string
	Limit, Zone                    string
	Cache, CacheReason, Circuit    string
	ByGuard, ByCircuit             bool // guard, or the circuit breaker, answered
	ClientClosed                   bool // the client closed the request before it had the response
	Aborted                        bool // a handler panicked, as for a response that breaks off
	ErrorLogged                    bool // the log has the error, with the id
	Remaining                      int64
	User                           [8]byte // the beginning of a hash of the subject; zero for nobody
	TraceID                        [16]byte
	Status, ProtoMajor, ProtoMinor int
	RequestBytes, ResponseBytes    int64
	Began                          time.Time
	Took                           time.Duration
	Stages                         [stage.Count]time.Duration // negative: not reached
}

// Bounds of the copied texts, in bytes.
const (
	maxID       = 128 // as package requestid has it
	maxMethod   = 32  // as Caddy has it
	maxHost     = 128
	maxPath     = 256
	maxClient   = 48
	maxDetail   = 256
	maxUpstream = 256
	maxText     = maxID + maxMethod + maxHost + maxPath + maxClient + maxDetail + maxUpstream
)

// class is what requests are kept apart by: many of one class do not displace those of
// another.
type class uint8

const (
	other   class = iota
	slow          // took slowAfter or longer
	refused       // 4xx
	failed        // 5xx
	classes
)

// sizes are how many requests of each class are kept.
var sizes = [classes]int{other: 1000, slow: 200, refused: 500, failed: 200}

// slowAfter is how long a slow request takes at least.
const slowAfter = time.Second

func classOf(r *Request) class {
	switch {
	case r.Status >= http.StatusInternalServerError:
		return failed
	case r.Status >= http.StatusBadRequest:
		return refused
	case r.Took >= slowAfter && r.Status != http.StatusSwitchingProtocols:
		return slow
	}
	return other
}

// store has the requests of each class.
type store struct {
	since time.Time
	rings [classes]ring
}

func newStore(now time.Time) *store {
	s := &store{since: now}
	for i := range s.rings {
		s.rings[i].slots = make([]slot, sizes[i])
	}
	return s
}

// ring has the last requests of a class. Each slot has a lock of its own, so that requests
// wait for one another only if so many end at once as there are slots.
type ring struct {
	next  atomic.Uint64
	slots []slot
}

type slot struct {
	mu   sync.Mutex
	used bool
	// r has no copied texts: they are in text, one behind the other.
	r    Request
	ends [copied]uint16
	text [maxText]byte
}

// copied is the number of texts that are copied.
const copied = 7

// texts returns the texts of a request that are copied, with their bounds.
func (r *Request) texts() [copied]struct {
	text *string
	most int
} {
	return [copied]struct {
		text *string
		most int
	}{{&r.ID, maxID}, {&r.Method, maxMethod}, {&r.Host, maxHost}, {&r.Path, maxPath}, {&r.Client, maxClient}, {&r.Detail, maxDetail}, {&r.Upstream, maxUpstream}}
}

// add keeps a request in place of the oldest of its class. It does not allocate.
func (s *store) add(r *Request) {
	ring := &s.rings[classOf(r)]
	ring.slots[(ring.next.Add(1)-1)%uint64(len(ring.slots))].set(r)
}

func (k *slot) set(r *Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used, k.r = true, *r
	k.r.Cut = len(r.Path) > maxPath
	end := 0
	for i, t := range k.r.texts() {
		end += copy(k.text[end:end+t.most], *t.text)
		*t.text, k.ends[i] = "", uint16(end)
	}
}

// get returns the request of the slot if it has the id.
func (k *slot) get(id string) (r Request, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.used || string(k.text[:k.ends[0]]) != id {
		return r, false
	}
	r = k.r
	begin := uint16(0)
	for i, t := range r.texts() {
		*t.text = string(k.text[begin:k.ends[i]])
		begin = k.ends[i]
	}
	return r, true
}

// find returns all requests with an id.
func (s *store) find(id string) (found []Request) {
	for i := range s.rings {
		for j := range s.rings[i].slots {
			if r, ok := s.rings[i].slots[j].get(id); ok {
				found = append(found, r)
			}
		}
	}
	return found
}

// Failure is a request that was answered with a status of 500 or more.
type Failure struct {
	ID, Service, Route string
	Status             int
	Ended              time.Time
}

// failure returns the request of the slot if it ended after a time.
func (k *slot) failure(since time.Time) (Failure, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &k.r
	ended := r.Began.Add(r.Took)
	if !k.used || !ended.After(since) {
		return Failure{}, false
	}
	return Failure{string(k.text[:k.ends[0]]), r.Service, r.Route, r.Status, ended}, true
}

// failures returns the failures that ended after a time, the latest first.
func (s *store) failures(since time.Time) (list []Failure) {
	for i := range s.rings[failed].slots {
		if f, ok := s.rings[failed].slots[i].failure(since); ok {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b Failure) int { return b.Ended.Compare(a.Ended) })
	return list
}

// kept is the store of this process.
var kept atomic.Pointer[store]

// Start begins to keep requests, unless it was called before.
func Start() {
	if kept.Load() == nil {
		kept.CompareAndSwap(nil, newStore(time.Now()))
	}
}

// Failures returns the failures that ended after a time, the latest first, as far as they
// are kept.
func Failures(since time.Time) []Failure {
	if s := kept.Load(); s != nil {
		return s.failures(since)
	}
	return nil
}

// Keep keeps a request that has an id. It does not allocate.
func Keep(r *Request) {
	if s := kept.Load(); s != nil && r.ID != "" {
		s.add(r)
	}
}
