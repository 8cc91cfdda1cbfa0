package redis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// logLife is how long invalidations are kept: longer than any response.
const logLife = maxLife + 24*time.Hour

// EpochsOptions are what the exchange of invalidations needs.
type EpochsOptions struct {
	// Client is for commands and the subscription; no request waits for it
	// longer than Budget.
	Client redis.UniversalClient
	// Availability tells when Redis can be used. Default: nothing does.
	Availability *availability.Engine
	// Prefix begins every key. Default: "tentagate".
	Prefix string
	// Budget is how long Invalidate waits for Redis. Default: 25ms.
	Budget time.Duration
	// Period is the time between two reads of the log. Default: 400ms.
	Period time.Duration
}

// Epochs shares invalidations with all gateways that use the same Redis and
// prefix. What is invalidated here counts here at once; elsewhere as soon as
// Redis can be reached.
//
// The marks of the table are the keys of a replicated log, and their positions
// in it the epochs.
type Epochs struct {
	table *epoch.Table
	log   *replog.Log
	o     EpochsOptions
}

// NewEpochs returns an exchange of invalidations for the table. It does
// nothing until Start, and Ready is false until the log was read for the first
// time. Close ends it; the client stays open.
func NewEpochs(table *epoch.Table, o EpochsOptions) *Epochs {
	if o.Prefix == "" {
		o.Prefix = "tentagate"
	}
	if o.Budget <= 0 {
		o.Budget = availability.DefaultBudget
	}
	key := o.Prefix + ":cache:{epochs}"
	return &Epochs{table: table, o: o, log: replog.New(marks{table}, replog.Options{
		Client: o.Client, Availability: o.Availability, Name: "invalidations", Period: o.Period, Life: logLife,
		Keys: replog.Keys{Log: key + ":log", State: key + ":generation", Channel: key},
	})}
}

// Start begins the exchange, unless it has begun or ended. It does not wait.
func (e *Epochs) Start() { e.log.Start() }

// Close ends the exchange.
func (e *Epochs) Close() { e.log.Close() }

// Now returns the epoch for a response whose request is sent after the call.
func (e *Epochs) Now() uint64 { return e.table.Now() }

// Check says whether the response is still usable.
func (e *Epochs) Check(key object.Key, o *object.Object) object.Freshness {
	return e.table.Check(key, o)
}

// Ready reports whether all invalidations are known here that were made until
// a moment ago. While it is false, what others stored cannot be judged.
func (e *Epochs) Ready() bool { return e.log.Ready() }

// Tried reports whether reading the log was attempted since the start.
func (e *Epochs) Tried() bool { return e.log.Tried() }

// Await is Ready that waits for the first attempt to read the log, so that a
// gateway that starts does not pass by what is stored already, and does not give
// what it stores an epoch from before all others.
func (e *Epochs) Await(ctx context.Context) bool { return e.log.Await(ctx) }

// Admit reports whether a response that another gateway stored may come in. Its
// epoch is of that gateway, which may be ahead of this one. So it is not
// comparable with invalidations made here that have no epoch in the log yet:
// what they concern stays out until they have. And this gateway catches up, so
// that the next invalidation is later than all it has seen.
func (e *Epochs) Admit(o *object.Object) (admitted bool) {
	e.log.Unshared(func(has func(key string) bool) {
		if has != nil && epoch.Look(o, func(m epoch.Mark) bool { return has(m.String()) }) != object.Valid {
			return
		}
		e.table.Advance(o.Epoch)
		admitted = true
	})
	return admitted
}

// Invalidate makes the scopes unusable here at once and at all other gateways.
// It waits for Redis no longer than the budget, and not at all while Redis is
// away; what was not shared then is shared later. A scope that makes no sense
// names nothing.
func (e *Epochs) Invalidate(scopes ...object.Scope) {
	ctx, cancel := context.WithTimeout(context.Background(), e.o.Budget)
	defer cancel()
	var all []epoch.Mark
	for _, s := range scopes {
		marks, _ := epoch.Marks(s)
		all = append(all, marks...)
	}
	e.purge(ctx, all)
}

// Purge is Invalidate with the context's deadline for the wait. It reports
// whether the invalidation is in the log already. If it is not, it will be: that
// is no error. An error is a scope that makes no sense; then nothing is
// invalidated.
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
	return e.log.Append(ctx, func() { e.table.Bump(marks) }, entries...)
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
	s := e.log.Stats()
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
// invalidated until then nobody can tell.
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
