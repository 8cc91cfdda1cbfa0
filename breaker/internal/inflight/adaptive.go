package inflight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// adaptive has the limit of failsafe-go's adaptive limiter: it falls when the time
// to the response header grows with the number of requests, and rises otherwise.
//
// A request holds its place until the response header has come. What follows
// depends on the client as much as on the backend, and must not lower the limit.
type adaptive struct {
	settings Settings
	limiter  adaptivelimiter.AdaptiveLimiter[any]
	waiting  atomic.Int64
}

func newAdaptive(s Settings) *adaptive {
	start := min(max(20, s.Min), s.Max)
	return &adaptive{
		settings: s,
		limiter:  adaptivelimiter.NewBuilder[any]().WithLimits(uint(s.Min), uint(s.Max), uint(start)).Build(),
	}
}

// Configure needs another limiter if anything changed: the library's cannot be
// changed, and its measurements belong to the old limits.
func (l *adaptive) Configure(s Settings) bool { return s == l.settings }

func (l *adaptive) Stats() (inFlight, queued, limit int) {
	return l.limiter.Inflight(), int(l.waiting.Load()), l.limiter.Limit()
}

func (l *adaptive) Acquire(ctx context.Context) (Place, error) {
	if permit, ok := l.limiter.TryAcquirePermit(); ok {
		return &adaptivePlace{permit: permit}, nil
	}
	if l.waiting.Add(1) > int64(l.settings.Queue) {
		l.waiting.Add(-1)
		return nil, ErrFull
	}
	defer l.waiting.Add(-1)
	permit, err := l.limiter.AcquirePermitWithMaxWait(ctx, l.settings.QueueWait)
	switch {
	case err == nil:
		return &adaptivePlace{permit: permit}, nil
	case errors.Is(err, adaptivelimiter.ErrExceeded):
		return nil, ErrTimeout
	default:
		return nil, err
	}
}

type adaptivePlace struct {
	permit adaptivelimiter.Permit
	once   sync.Once
}

func (p *adaptivePlace) Header(measured bool) {
	p.once.Do(func() {
		if measured {
			p.permit.Record()
		} else {
			p.permit.Drop()
		}
	})
}

func (p *adaptivePlace) Release() { p.once.Do(p.permit.Drop) }
