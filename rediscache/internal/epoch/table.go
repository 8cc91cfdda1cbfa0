package epoch

import (
	"sync"
	"sync/atomic"

	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// Table holds the epochs of all names. Its size is fixed, about 4 MiB. The
// zero value is not usable; use New.
type Table struct {
	marks []atomic.Uint64

	// clock is the highest epoch known here; last is the highest of any
	// invalidation, so a response that is not older needs no check of the marks.
	clock, last atomic.Uint64
	// floor makes everything below it unusable.
	floor atomic.Uint64
	// version changes with each invalidation. It dates what Check found.
	version atomic.Uint64

	mu    sync.Mutex
	onAll []func()
}

// New returns an empty table.
func New() *Table {
	t := &Table{marks: make([]atomic.Uint64, markCount)}
	t.version.Store(1)
	return t
}

// Now returns the epoch for a response whose request is sent after the call.
func (t *Table) Now() uint64 { return t.clock.Load() }

// Invalidate covers everything that the scopes name and whose request was sent
// until now. An invalid scope covers nothing.
func (t *Table) Invalidate(scopes ...object.Scope) {
	if marks := ValidMarks(scopes...); len(marks) > 0 {
		t.Bump(marks)
	}
}

// Bump invalidates the marks at a new epoch and returns it.
func (t *Table) Bump(marks []Mark) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.clock.Load() + 1
	t.apply(marks, e)
	return e
}

// Learn applies an invalidation that another gateway made at its epoch e, that
// has just arrived. It counts from e or, if this process is ahead, from now:
// whatever was stored here before it arrived is covered.
func (t *Table) Learn(marks []Mark, e uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.apply(marks, max(e, t.clock.Load()+1))
}

// Confirm raises an invalidation that this process made itself to the epoch
// that all gateways know it by.
func (t *Table) Confirm(marks []Mark, e uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.apply(marks, e)
}

// apply is called with the lock held. The marks are written before the clock
// moves: a response that gets the new epoch has been asked for afterwards.
func (t *Table) apply(marks []Mark, e uint64) {
	all := false
	for _, m := range marks {
		if t.marks[m].Load() < e {
			t.marks[m].Store(e)
		}
		all = all || m == mark(allIndex, false)
	}
	raise(&t.clock, e)
	raise(&t.last, e)
	t.version.Add(1)
	if all {
		for _, f := range t.onAll {
			f()
		}
	}
}

// Advance moves the clock forward without an invalidation.
func (t *Table) Advance(e uint64) { raise(&t.clock, e) }

// Raise makes every response with an epoch below e unusable, here only.
func (t *Table) Raise(e uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	raise(&t.floor, e)
	raise(&t.clock, e)
	raise(&t.last, e)
	t.version.Add(1)
}

// OnAll has f called after a hard invalidation of everything, to free memory.
// f must not wait, and must not change the table.
func (t *Table) OnAll(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onAll = append(t.onAll, f)
}

func raise(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}

// At returns the epoch of a mark.
func (t *Table) At(m Mark) uint64 { return t.marks[m].Load() }

// Each calls f with every mark whose epoch is above since.
func (t *Table) Each(since uint64, f func(Mark, uint64)) {
	for i := range t.marks {
		if e := t.marks[i].Load(); e > since {
			f(Mark(i), e)
		}
	}
}

// Check says whether the response is still usable. While nothing was
// invalidated since it was asked for, or since the last check of the same
// response, that costs two loads.
func (t *Table) Check(o *object.Object) object.Freshness {
	if t.last.Load() <= o.Epoch {
		return object.Valid
	}
	// The version is read first: if the marks change meanwhile, the finding is
	// kept under a version that is over.
	version := t.version.Load() << 2
	if memo := o.CheckMemo(); memo&^3 == version && memo&3 != 0 {
		return object.Freshness(memo&3) - 1
	}
	found := t.check(o)
	o.SetCheckMemo(version | uint64(found+1))
	return found
}

func (t *Table) check(o *object.Object) object.Freshness {
	if o.Epoch < t.floor.Load() {
		return object.Hard
	}
	return CheckMarks(o, func(m Mark) bool { return t.marks[m].Load() > o.Epoch })
}

// CheckMarks says what invalidations do to the response if later reports of their
// marks that they are later than the response.
func CheckMarks(o *object.Object, later func(Mark) bool) object.Freshness {
	c := checker{later: later}
	if c.index(allIndex) {
		return object.Hard
	}
	var array [256]byte
	host := hostname.Normal(o.Host)

	buf := appendPath(append(append(array[:0], kindURL), host...), o.Path)
	if c.name(buf) || o.AnyQuery && c.queries(buf) || c.prefixes(buf) {
		return object.Hard
	}
	if c.name(append(append(buf[:0], kindHost), host...)) {
		return object.Hard
	}
	for _, tag := range o.Tags {
		if c.name(append(append(buf[:0], kindTag), tag...)) {
			return object.Hard
		}
	}
	for _, group := range o.Groups {
		if c.name(appendGroup(buf[:0], host, group)) {
			return object.Hard
		}
	}
	if c.soft {
		return object.Soft
	}
	return object.Valid
}

// checker checks the names of one response. Its methods return true for a hard
// invalidation, and remember a soft one.
type checker struct {
	later func(Mark) bool
	soft  bool
}

func (c *checker) index(i uint32) bool {
	c.soft = c.soft || c.later(mark(i, true))
	return c.later(mark(i, false))
}

func (c *checker) name(name []byte) bool {
	at := place(name)
	c.soft = c.soft || c.marked(at, true)
	return c.marked(at, false)
}

// marked reports whether all places of a name have a later epoch.
func (c *checker) marked(at [places]uint32, soft bool) bool {
	for _, i := range at {
		if !c.later(mark(i, soft)) {
			return false
		}
	}
	return true
}

// queries checks a URL without its query, and whether it was invalidated with
// any query.
func (c *checker) queries(url []byte) bool {
	bare := withoutQuery(url)
	if len(bare) < len(url) && c.name(bare) {
		return true
	}
	bare[0] = kindQuery
	defer func() { bare[0] = kindURL }()
	return c.name(bare)
}

// prefixes checks the beginnings of the URL, but only those of a length that
// was invalidated since.
func (c *checker) prefixes(url []byte) bool {
	kind := url[0]
	url[0] = kindPrefix
	defer func() { url[0] = kind }()
	for n := range min(len(url)-1, MaxPrefix) + 1 {
		soft, hard := c.later(mark(lenIndex+uint32(n), true)), c.later(mark(lenIndex+uint32(n), false))
		if !soft && !hard {
			continue
		}
		at := place(url[: n+1 : n+1])
		c.soft = c.soft || soft && c.marked(at, true)
		if hard && c.marked(at, false) {
			return true
		}
	}
	return false
}
