package deny

import "github.com/pythopus/tentagate/app/replog"

// replica is the list as the local copy of the log that gateways share. The keys
// are IDs, the values `before`.
type replica struct{ *Store }

// Apply applies what other gateways revoked or restored.
func (r replica) Apply(changes []replog.Change) (news int) {
	for _, c := range changes {
		id, err := ParseID(c.Key)
		if err == nil && r.apply(id, mark{c.Value, c.Expires, c.Position, c.Removed}) {
			news++
		}
	}
	return news
}

// Confirm is called when own revocations are in the log.
func (r replica) Confirm(entries []replog.Entry, position uint64) {
	for _, e := range entries {
		if id, err := ParseID(e.Key); err == nil {
			r.confirm(id, position)
		}
	}
	r.raise(position)
}

// Begin does nothing: what was revoked before the log was begun has expired, or
// is written back by a gateway that knows it.
func (replica) Begin(uint64) {}

// Advance removes what has expired, now and then.
func (r replica) Advance(position uint64) {
	r.raise(position)
	r.sweep(r.Now(), false)
}

// Clock returns the highest position that was seen.
func (r replica) Clock() uint64 { return r.position.Load() }

func (r replica) raise(to uint64) {
	for was := r.position.Load(); was < to && !r.position.CompareAndSwap(was, to); was = r.position.Load() {
	}
}

// Each calls f with all known entries of the log.
func (r replica) Each(since uint64, f func(replog.Change)) {
	r.each(r.Now(), func(id ID, m mark) {
		if m.position != unshared && (m.position > since || m.position == 0) {
			f(replog.Change{
				Entry:    replog.Entry{Key: id.String(), Value: m.before, Expires: m.expires, Removed: m.removed},
				Position: m.position,
			})
		}
	})
}
