// Package deny is a list of revocations: of single tokens, by their `jti`, and of all
// tokens of a subject that were issued before a moment. A look-up is in memory;
// with Redis, gateways share the list.
package deny

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// ID identifies a revocation. It is a SHA-256, so that neither subjects nor `jti`s
// are stored.
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

// Scope limits a revocation to the tokens of a provider, by its configured name, or
// of an issuer, by `iss`. An empty one covers all.
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

// IDs are all IDs that a token can be revoked by.
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

// mark is what the list has of an ID. Times are Unix milliseconds.
type mark struct {
	before, expires int64
	// position in the log of changes: 0 if it is not known, and unshared if the log
	// does not have it yet.
	position uint64
	// removed: the revocation was taken back. The mark is kept as long as the
	// revocation would have been, so that an earlier change does not bring it back.
	removed bool
}

const unshared = math.MaxUint64

func (e *Entry) mark() mark {
	m := mark{expires: e.Expires.UnixMilli(), position: unshared}
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

// ErrFull means that the list takes no more revocations.
var ErrFull = errors.New("the deny list is full: raise max_entries, or wait until revocations expire")

const shards = 64 // a power of two

// List are the revocations that this gateway knows.
type List struct {
	shards [shards]shard
	length atomic.Int64 // without what was taken back
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
		if !ok || m.removed || m.expires <= at {
			continue
		}
		if i < ids.jtis || issued.IsZero() || issued.UnixMilli() < m.before {
			return true
		}
	}
	return false
}

// apply applies a change and reports whether it changed anything. Of two
// revocations of one ID the later times count; of a revocation and its removal, the
// later change.
func (l *List) apply(id ID, m mark) (changed bool) {
	s := l.of(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.marks[id]
	if known && old.removed == m.removed {
		m.before, m.expires, m.position = max(old.before, m.before), max(old.expires, m.expires), max(old.position, m.position)
	} else if known && m.position <= old.position {
		return false
	}
	if known && m == old {
		return false
	}
	s.set(id, m)
	l.count(known && !old.removed, !m.removed)
	return true
}

func (s *shard) set(id ID, m mark) {
	if s.marks == nil {
		s.marks = map[ID]mark{}
	}
	s.marks[id] = m
}

// count keeps the number of revocations.
func (l *List) count(was, is bool) {
	switch {
	case is && !was:
		l.length.Add(1)
	case was && !is:
		l.length.Add(-1)
	}
}

// confirm sets the position of a revocation in the log.
func (l *List) confirm(id ID, position uint64) {
	s := l.of(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.marks[id]; ok && !m.removed {
		m.position = position
		s.marks[id] = m
	}
}

// has reports whether the ID is revoked.
func (l *List) has(id ID) bool {
	s := l.of(&id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, ok := s.marks[id]
	return ok && !m.removed
}

// forget removes the mark of an ID, and reports whether it was revoked.
func (l *List) forget(id ID) bool {
	s := l.of(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.marks[id]
	delete(s.marks, id)
	l.count(ok && !m.removed, false)
	return ok && !m.removed
}

// each calls f with all marks that have not expired, removed ones included.
func (l *List) each(now time.Time, f func(ID, mark)) {
	at := now.UnixMilli()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		marks := maps.Clone(s.marks)
		s.mu.RUnlock()
		for id, m := range marks {
			if m.expires > at {
				f(id, m)
			}
		}
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
				l.count(!m.removed, false)
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
			if m.expires > at && !m.removed {
				entries = append(entries, m.entry(id))
			}
		}
		s.mu.RUnlock()
	}
	return entries
}
