package rediscache

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// newObject returns what is stored of the response to a fetch, without its content.
func newObject(f *fetch, fields http.Header, status int, d *rfc9111.Decision) *object.Object {
	x, h, received := f.x, f.x.h, f.recorder.received
	names, _ := rfc9111.Vary(fields)
	var omit []string
	if d.Shared == rfc9111.Stored {
		omit = d.Omit
	}
	header := rfc9111.StoredFields(fields, omit...)
	if !h.StoreCORS {
		for name := range header {
			if strings.HasPrefix(name, "Access-Control-") {
				delete(header, name)
			}
		}
	}
	if h.SetCookie != cookieStore {
		delete(header, "Set-Cookie")
	}
	delete(header, "Content-Length")
	if len(header["Date"]) == 0 {
		header["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	tags, _ := h.tags.of(fields)
	t := &x.target
	o := &object.Object{
		Status: status, Header: object.Compact(header), Vary: names, Variant: rfc9111.Variant(names, x.r.Header),
		RequestTime: f.requested, Epoch: f.epoch, ResponseTime: received,
		InitialAge: d.Age, Lifetime: d.Lifetime,
		StaleWhileRevalidate: d.StaleWhileRevalidate, StaleIfError: d.StaleIfError,
		MustRevalidate: d.MustRevalidate, NoCache: d.NoCache,
		Scheme: t.scheme, Host: t.host, Path: t.pathQuery(), Tags: tags, Groups: h.writes.groups(t, fields["Cache-Groups"], d),
	}
	if !o.MustRevalidate && !o.NoCache {
		o.Keep = h.storage.staleWhenDisconnected
	}
	if h.Jitter > 0 && o.Lifetime > o.InitialAge {
		o.Lifetime -= time.Duration(rand.Float64() * h.Jitter * float64(o.Lifetime-o.InitialAge))
	}
	rule, given := rfc9111.NoVarySearch(fields)
	o.AnyQuery = given || h.keys.query.Changes()
	if h.keys.searchRules.Learn(t.searchHost(), t.path, rule, given) {
		h.keys.renew(t, h.keys.chains.of(x.r))
	}
	return o
}

// isReusable reports whether a response may answer other requests without asking
// again.
func isReusable(d *rfc9111.Decision) bool { return !d.NoCache && d.Lifetime > d.Age }

// put stores a response in the tiers.
func (s *storage) put(key object.Key, o *object.Object) {
	s.putInMemory(key, o)
	if s.redis != nil {
		s.redis.Set(key, o)
	}
}

// entryLocks are held while a variant is added to an entry of the memory tier, so
// that none that comes at the same time is lost. They are the process's, as that tier
// is.
var entryLocks [64]sync.Mutex

// putInMemory adds the response to the variants in the memory tier.
func (s *storage) putInMemory(key object.Key, o *object.Object) {
	if s.memory == nil {
		return
	}
	lock := &entryLocks[key.Hash[0]%uint8(len(entryLocks))]
	lock.Lock()
	defer lock.Unlock()
	s.memory.Set(key, s.memory.Get(key).With(key, o, s.maxVariants))
}

// remove removes a response that must not be used any more.
func (s *storage) remove(key object.Key, o *object.Object) {
	if s.memory != nil {
		if e := s.memory.Get(key); e != nil && slices.Contains(e.Variants, o) {
			s.memory.Delete(key)
		}
	}
	if s.redis != nil {
		s.redis.Delete(key)
	}
}

// removeKey removes all that is stored under a key.
func (s *storage) removeKey(key object.Key) {
	if s.memory != nil {
		s.memory.Delete(key)
	}
	if s.redis != nil {
		s.redis.Delete(key)
	}
}

func (s *storage) parts() partStore { return partStore{s} }
