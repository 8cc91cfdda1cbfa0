package redis

import (
	"context"
	"time"

	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// logLife is how long invalidations are kept: longer than any response.
const logLife = maxLife + 24*time.Hour

// Epochs shares invalidations with all gateways that use the same Redis and
// prefix. What is invalidated here takes effect here at once; elsewhere as soon as
// Redis can be reached.
//
// The marks of the table are the keys of a replicated log, and their positions
// in it the epochs.
type Epochs struct {
	*replog.Log
	table *epoch.Table
}

// NewEpochs returns an exchange of invalidations for the table, whose keys in Redis
// begin with the prefix. Of the options Client, Availability and Period count. It
// does nothing until the log is started or awaited, or something is invalidated; it
// is not Ready until the log was read for the first time.
func NewEpochs(table *epoch.Table, o replog.Options, prefix string) *Epochs {
	key := prefix + ":cache:{epochs}"
	o.Name, o.Life = "invalidations", logLife
	o.Keys = replog.Keys{Log: key + ":log", State: key + ":generation", Channel: key}
	return &Epochs{Log: replog.New(marks{table}, o), table: table}
}

// Admit reports whether a response that another gateway stored may come in. Its
// epoch is of that gateway, which may be ahead of this one. So it is not
// comparable with invalidations made here that have no epoch in the log yet:
// what they concern stays out until they have. And this gateway catches up, so
// that the next invalidation is later than all it has seen.
func (e *Epochs) Admit(o *object.Object) (admitted bool) {
	e.Unshared(func(has func(key string) bool) {
		if has != nil && epoch.CheckMarks(o, func(m epoch.Mark) bool { return has(m.String()) }) != object.Valid {
			return
		}
		e.table.Advance(o.Epoch)
		admitted = true
	})
	return admitted
}

// Invalidate makes the scopes unusable here at once and at all other gateways. It
// waits for Redis until ctx is done, and not at all while Redis is unavailable;
// what was not shared then is shared later. An invalid scope covers nothing.
func (e *Epochs) Invalidate(ctx context.Context, scopes ...object.Scope) {
	e.purge(ctx, epoch.ValidMarks(scopes...))
}

// Purge is Invalidate that reports whether the invalidation is in the log already;
// if it is not, it will be, which is not an error. With an invalid scope it returns an
// error, and invalidates nothing.
func (e *Epochs) Purge(ctx context.Context, scopes ...object.Scope) (shared bool, err error) {
	marks, err := epoch.Marks(scopes...)
	if err != nil {
		return false, err
	}
	return e.purge(ctx, marks), nil
}

func (e *Epochs) purge(ctx context.Context, marks []epoch.Mark) (shared bool) {
	if len(marks) == 0 {
		return true
	}
	entries := make([]replog.Entry, len(marks))
	for i, m := range marks {
		entries[i].Key = m.String()
	}
	return e.Append(ctx, func() { e.table.Bump(marks) }, entries...)
}

// EpochsStats are numbers of the exchange since the start.
type EpochsStats struct {
	// Shared counts what was written to the log, Learned what came from others.
	Shared  int64 `json:"shared"`
	Learned int64 `json:"learned"`
	// Pending waits to be written.
	Pending int64 `json:"pending"`
	// Lost counts how often the log had lost something and was given it back.
	Lost int64 `json:"log_restored"`
	// Failures counts failed exchanges with Redis.
	Failures int64 `json:"failures"`
	// Ready is false while invalidations may have been missed.
	Ready bool `json:"in_step"`
}

// Stats returns the present numbers.
func (e *Epochs) Stats() EpochsStats {
	s := e.Log.Stats()
	return EpochsStats{
		Shared: s.Appended, Learned: s.Learned, Pending: s.Pending, Lost: s.Lost, Failures: s.Failures, Ready: s.Ready,
	}
}

// marks is the table as a replica of the log.
type marks struct{ *epoch.Table }

// Apply applies those changes that are not known to be as late already.
func (t marks) Apply(changes []replog.Change) (news int) {
	for len(changes) > 0 {
		at := changes[0].Position
		var later []epoch.Mark
		for len(changes) > 0 && changes[0].Position == at {
			if m, ok := epoch.ParseMark(changes[0].Key); ok && t.At(m) < at {
				later = append(later, m)
			}
			changes = changes[1:]
		}
		if len(later) > 0 {
			t.Learn(later, at)
			news += len(later)
		}
	}
	return news
}

// Confirm gives own invalidations the epoch that all gateways know them by.
func (t marks) Confirm(entries []replog.Entry, position uint64) {
	all := make([]epoch.Mark, 0, len(entries))
	for _, e := range entries {
		if m, ok := epoch.ParseMark(e.Key); ok {
			all = append(all, m)
		}
	}
	t.Table.Confirm(all, position)
}

// Begin makes what was stored before the log was begun unusable: what was
// invalidated until then is unknown.
func (t marks) Begin(position uint64) { t.Raise(position) }

// Clock returns the highest epoch known here.
func (t marks) Clock() uint64 { return t.Now() }

// Each calls f with every mark later than since.
func (t marks) Each(since uint64, f func(replog.Change)) {
	t.Table.Each(since, func(m epoch.Mark, at uint64) {
		f(replog.Change{Entry: replog.Entry{Key: m.String()}, Position: at})
	})
}

// Interface guard
var _ replog.Replica = marks{}
