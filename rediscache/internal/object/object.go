// Package object has what the cache stores: keys, responses, and the entries that hold
// the variants of one key; and what invalidations name.
package object

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
)

// Key is a primary cache key (RFC 9111 §2): the text that identifies what was
// asked for, and its hash for look-ups. Two keys are equal only if the texts
// are; a tier that finds by hash compares the text too.
type Key struct {
	Hash [16]byte
	Full string
}

// NewKey joins the parts, each with its length in front, so that no choice of
// parts can imitate another.
func NewKey(parts ...string) Key {
	var b []byte
	for _, p := range parts {
		b = cachekey.AppendPart(b, p)
	}
	full := string(b)
	return Key{Hash: xxh3.HashString128(full).Bytes(), Full: full}
}

// Object is one stored response. It is never changed once it is in a tier:
// an update stores a new one.
type Object struct {
	// Status is the final status code.
	Status int

	// Header are the stored fields, without those of one connection.
	Header http.Header

	// Body is the whole content as it came, content coding included.
	Body []byte

	// Trailer are the trailer fields that came after the content.
	Trailer http.Header

	// Vary are the names that select the variant, canonical and sorted.
	Vary []string

	// Variant is the key of this variant among those of the entry: the
	// normalised values of the Vary fields of the request that caused it.
	Variant string

	// RequestTime is when the request that filled the object was sent.
	RequestTime time.Time

	// Epoch is the number of the last invalidation just before that request was sent, or
	// before the request that validated the object. A later invalidation that
	// concerns the object makes it unusable, whatever the clocks say.
	Epoch uint64

	// ResponseTime is when the response was received.
	ResponseTime time.Time

	// InitialAge is the corrected initial age (RFC 9111 §4.2.3).
	InitialAge time.Duration

	// Lifetime is the freshness lifetime (RFC 9111 §4.2.1).
	Lifetime time.Duration

	// StaleWhileRevalidate and StaleIfError are how long after the end of its
	// freshness the object may still be used (RFC 5861).
	StaleWhileRevalidate, StaleIfError time.Duration

	// Keep is how long after the end of its freshness the object may still be
	// used where the service cannot be reached. It is the operator's, not the
	// response's: a tier need not store it.
	Keep time.Duration

	// MustRevalidate forbids every use of the object when it is stale.
	MustRevalidate bool

	// NoCache asks for a validation before each use.
	NoCache bool

	// Scheme, Host and Path are those of the request, for invalidation by
	// origin and prefix. Path is the escaped path with the query.
	Scheme, Host, Path string

	// AnyQuery: the object answers the same URL with other queries too
	// (No-Vary-Search, or parameters that the operator left out of the key). An
	// invalidation of any of them concerns it.
	AnyQuery bool

	// Tags are the surrogate keys that the origin gave the response.
	Tags []string

	// Groups are its cache groups (RFC 9875); they are scoped to the origin.
	Groups []string

	// Arriving: the body is not here yet. Such an object is in no tier, and a clone is
	// not arriving.
	Arriving bool

	// memo is what the last check for invalidations found. It also keeps an object from being
	// copied by assignment: use Clone.
	memo atomic.Uint64

	// prepared is what SetPrepared left.
	prepared atomic.Value
}

// Clone returns a copy for an update. It shares the body and the maps.
func (o *Object) Clone() *Object {
	return &Object{
		Status: o.Status, Header: o.Header, Body: o.Body, Trailer: o.Trailer,
		Vary: o.Vary, Variant: o.Variant,
		RequestTime: o.RequestTime, Epoch: o.Epoch, ResponseTime: o.ResponseTime,
		InitialAge: o.InitialAge, Lifetime: o.Lifetime,
		StaleWhileRevalidate: o.StaleWhileRevalidate, StaleIfError: o.StaleIfError, Keep: o.Keep,
		MustRevalidate: o.MustRevalidate, NoCache: o.NoCache,
		Scheme: o.Scheme, Host: o.Host, Path: o.Path, AnyQuery: o.AnyQuery, Tags: o.Tags, Groups: o.Groups,
	}
}

// CheckMemo returns what SetCheckMemo left, zero at first. It is for the code that knows the
// invalidations, so that a hit costs no hashing while nothing was invalidated.
func (o *Object) CheckMemo() uint64 { return o.memo.Load() }

// SetCheckMemo leaves a value for CheckMemo.
func (o *Object) SetCheckMemo(v uint64) { o.memo.Store(v) }

// Prepared returns what SetPrepared left, nil at first. It is for the code that sends
// the object, so that what is the same for each request is computed once. It
// does not count into Size.
func (o *Object) Prepared() any { return o.prepared.Load() }

// SetPrepared leaves a value, always of one type, for Prepared.
func (o *Object) SetPrepared(v any) { o.prepared.Store(v) }

// Age returns the current age (RFC 9111 §4.2.3).
func (o *Object) Age(now time.Time) time.Duration {
	return max(o.InitialAge+now.Sub(o.ResponseTime), 0)
}

// Fresh returns how long the object is still fresh; zero or less means stale.
func (o *Object) Fresh(now time.Time) time.Duration {
	return o.Lifetime - o.Age(now)
}

// UsefulUntil returns the last moment at which the object may serve as an
// answer, stale uses included, or be validated: a tier may forget it then.
func (o *Object) UsefulUntil() time.Time {
	keep := max(o.Lifetime-o.InitialAge, 0) + max(o.StaleWhileRevalidate, o.StaleIfError, o.Keep)
	if o.Header.Get("Etag") != "" || o.Header.Get("Last-Modified") != "" {
		// A stale object with a validator saves a transfer.
		keep += max(o.Lifetime, time.Minute)
	}
	return o.ResponseTime.Add(keep)
}

// Size returns what the object costs in memory, headers included.
func (o *Object) Size() int {
	n := 384 + cap(o.Body) + len(o.Variant) + len(o.Host) + len(o.Path)
	for _, h := range []http.Header{o.Header, o.Trailer} {
		for name, values := range h {
			n += 48 + len(name)
			for _, v := range values {
				n += 16 + len(v)
			}
		}
	}
	for _, list := range [][]string{o.Vary, o.Tags, o.Groups} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	return n
}

// Entry are the stored variants of one key, newest first. It is never changed
// once it is in a tier.
type Entry struct {
	Key      Key
	Variants []*Object
}

// With returns an entry in which o replaces the variant with its name, keeping
// at most limit of the newest.
func (e *Entry) With(key Key, o *Object, limit int) *Entry {
	next := &Entry{Key: key, Variants: []*Object{o}}
	if e == nil {
		return next
	}
	for _, v := range e.Variants {
		if len(next.Variants) == limit {
			break
		}
		if v.Variant == o.Variant && slices.Equal(v.Vary, o.Vary) {
			continue
		}
		next.Variants = append(next.Variants, v)
	}
	return next
}

// Size returns what the entry costs in memory, its key included.
func (e *Entry) Size() int {
	n := 128 + len(e.Key.Full)
	for _, v := range e.Variants {
		n += v.Size()
	}
	return n
}

// UsefulUntil returns the last moment at which any variant may serve.
func (e *Entry) UsefulUntil() time.Time {
	var last time.Time
	for _, v := range e.Variants {
		if t := v.UsefulUntil(); t.After(last) {
			last = t
		}
	}
	return last
}

// Freshness is what an invalidation says of a stored object.
type Freshness int

const (
	// Valid means no invalidation since the object was asked for.
	Valid Freshness = iota
	// Soft means the object counts as stale.
	Soft
	// Hard means the object must not be used.
	Hard
)

// Scope says what is invalidated. Exactly one of URL, Prefix, Host, Tag, Group
// and All is set.
type Scope struct {
	// URL is scheme://host/path?query; all its variants and partitions.
	URL string `json:"url,omitempty"`
	// Prefix is scheme://host/path…; everything whose URL begins with it.
	Prefix string `json:"prefix,omitempty"`
	// Host is the host, with the port where it is not the scheme's default.
	Host string `json:"host,omitempty"`
	// Tag is a surrogate key.
	Tag string `json:"tag,omitempty"`
	// Group is a cache group of the origin that Origin names.
	Group string `json:"group,omitempty"`
	// Origin is scheme://host of the group.
	Origin string `json:"origin,omitempty"`
	// All invalidates everything.
	All bool `json:"all,omitempty"`
	// Soft makes objects stale instead of unusable.
	Soft bool `json:"soft,omitempty"`
}
