// Package deny keeps what was revoked: single tokens, by their `jti`, and all
// tokens of a subject that were issued before a moment. A look-up is in memory;
// with Redis, gateways share what they know.
package deny

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ID names what is revoked. It is a SHA-256: neither subjects nor names of
// tokens are kept.
type ID [sha256.Size]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("an id has %d hexadecimal digits", hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("an id has %d hexadecimal digits: %w", hex.EncodedLen(len(id)), err)
	}
	return id, nil
}

// Scope says whose tokens are meant: those of a provider by its configured
// name, or of an issuer by `iss`, or, with neither, all.
type Scope struct{ Provider, Issuer string }

// Token returns the ID of a token by its `jti`. One is unique only for its
// issuer, so that the scope must name one.
func Token(s Scope, jti string) ID { return s.id('t', jti) }

// Subject returns the ID of all tokens of a subject.
func Subject(s Scope, sub string) ID { return s.id('s', sub) }

func (s Scope) id(kind byte, value string) ID {
	scope, text := byte('a'), ""
	switch {
	case s.Provider != "":
		scope, text = 'p', s.Provider
	case s.Issuer != "":
		scope, text = 'i', s.Issuer
	}
	b := make([]byte, 0, 256)
	b = append(b, kind, scope)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return sha256.Sum256(append(b, value...))
}

// IDs are all by which a token can be revoked.
type IDs struct {
	ids  [5]ID
	n    int
	jtis int // the first ones are of its jti
}

// IDsOf returns the IDs of a token that the provider verified; what it does not
// have is empty.
func IDsOf(provider, issuer, jti, sub string) *IDs {
	all := new(IDs)
	add := func(id ID) { all.ids[all.n], all.n = id, all.n+1 }
	if jti != "" {
		add(Token(Scope{Provider: provider}, jti))
		if issuer != "" {
			add(Token(Scope{Issuer: issuer}, jti))
		}
	}
	all.jtis = all.n
	if sub != "" {
		add(Subject(Scope{}, sub))
		add(Subject(Scope{Provider: provider}, sub))
		if issuer != "" {
			add(Subject(Scope{Issuer: issuer}, sub))
		}
	}
	return all
}

// Entry is one revocation.
type Entry struct {
	ID ID
	// Before is when tokens of a subject must have been issued to be revoked. It
	// is zero for a single token.
	Before time.Time
	// Expires is when the revocation is forgotten.
	Expires time.Time
}

// mark is an entry in the list, in milliseconds of Unix time.
type mark struct{ before, expires int64 }

func (e *Entry) mark() mark {
	m := mark{expires: e.Expires.UnixMilli()}
	if !e.Before.IsZero() {
		m.before = e.Before.UnixMilli()
	}
	return m
}

func (m mark) entry(id ID) Entry {
	e := Entry{ID: id, Expires: time.UnixMilli(m.expires)}
	if m.before != 0 {
		e.Before = time.UnixMilli(m.before)
	}
	return e
}

// ErrFull says that no more can be revoked.
var ErrFull = errors.New("the list of revocations is full: raise max_entries, or wait until some expire")

const shards = 64 // a power of two

// List is what is revoked, as far as this gateway knows.
type List struct {
	shards [shards]shard
	length atomic.Int64
	swept  atomic.Int64 // when, in milliseconds
}

type shard struct {
	mu    sync.RWMutex
	marks map[ID]mark
	_     [32]byte // shards do not share a cache line
}

func (l *List) of(id *ID) *shard { return &l.shards[id[0]&(shards-1)] }

// Len returns the number of entries, some of which may have expired.
func (l *List) Len() int { return int(l.length.Load()) }

// Revoked reports whether a token is revoked. A token without a date of issue
// (zero) counts as issued before any moment.
func (l *List) Revoked(ids *IDs, issued time.Time, now time.Time) bool {
	if l.length.Load() == 0 {
		return false
	}
	at := now.UnixMilli()
	for i := range ids.n {
		s := l.of(&ids.ids[i])
		s.mu.RLock()
		m, ok := s.marks[ids.ids[i]]
		s.mu.RUnlock()
		if !ok || m.expires <= at {
			continue
		}
		if i < ids.jtis || issued.IsZero() || issued.UnixMilli() < m.before {
			return true
		}
	}
	return false
}

// put adds an entry. Of two with one ID, the later moments count.
func (l *List) put(id ID, m mark) {
	s := l.of(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.marks[id]
	if !ok {
		if s.marks == nil {
			s.marks = map[ID]mark{}
		}
		l.length.Add(1)
	}
	s.marks[id] = mark{max(old.before, m.before), max(old.expires, m.expires)}
}

func (l *List) has(id ID) bool {
	s := l.of(&id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.marks[id]
	return ok
}

func (l *List) remove(id ID) bool {
	s := l.of(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.marks[id]; !ok {
		return false
	}
	delete(s.marks, id)
	l.length.Add(-1)
	return true
}

// replace takes over all of marks, and forgets the rest.
func (l *List) replace(marks map[ID]mark) {
	var parts [shards]map[ID]mark
	for id, m := range marks {
		part := &parts[id[0]&(shards-1)]
		if *part == nil {
			*part = map[ID]mark{}
		}
		(*part)[id] = m
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		// The length must not be zero in between: a look-up would find nothing.
		l.length.Add(int64(len(parts[i])))
		old := len(s.marks)
		s.marks = parts[i]
		l.length.Add(-int64(old))
		s.mu.Unlock()
	}
}

// sweepEvery is how often expired entries are looked for, unless room is needed.
const sweepEvery = time.Minute

// sweep removes what has expired.
func (l *List) sweep(now time.Time, atOnce bool) {
	at := now.UnixMilli()
	last := l.swept.Load()
	if !atOnce && at-last < sweepEvery.Milliseconds() || !l.swept.CompareAndSwap(last, at) {
		return
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for id, m := range s.marks {
			if m.expires <= at {
				delete(s.marks, id)
				l.length.Add(-1)
			}
		}
		s.mu.Unlock()
	}
}

// Entries returns up to limit entries that have not expired, in no order.
func (l *List) Entries(now time.Time, limit int) []Entry {
	var entries []Entry
	at := now.UnixMilli()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		for id, m := range s.marks {
			if limit >= 0 && len(entries) >= limit {
				break
			}
			if m.expires > at {
				entries = append(entries, m.entry(id))
			}
		}
		s.mu.RUnlock()
	}
	return entries
}
