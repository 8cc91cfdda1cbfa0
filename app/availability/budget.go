package availability

import (
	"context"
	"sync/atomic"
	"time"
)

// DefaultBudget is how long a request waits for Redis at most, all features
// together.
const DefaultBudget = 25 * time.Millisecond

// Budget is the time that one request has waited for Redis. All features of the
// request share it, so that several of them cost no more than one while Redis
// hangs. Its methods may be called by several goroutines, and on nil, which is
// for work that no request waits for.
type Budget struct{ waited atomic.Int64 }

// Left returns how much of the limit the request may still wait.
func (b *Budget) Left(limit time.Duration) time.Duration {
	if b == nil {
		return limit
	}
	return max(0, limit-time.Duration(b.waited.Load()))
}

// Spend adds a wait.
func (b *Budget) Spend(d time.Duration) {
	if b != nil {
		b.waited.Add(int64(d))
	}
}

// Waited returns how long the request has waited so far.
func (b *Budget) Waited() time.Duration {
	if b == nil {
		return 0
	}
	return time.Duration(b.waited.Load())
}

type budgetKey struct{}

// WithBudget returns a context that carries the budget to an engine.
func WithBudget(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// BudgetFrom returns the budget that the context carries, or nil.
func BudgetFrom(ctx context.Context) *Budget {
	b, _ := ctx.Value(budgetKey{}).(*Budget)
	return b
}

// Limit returns ctx with what the request has left of the limit, by the budget that
// the context carries. end must be called when the wait is over: it charges it to
// that budget. Without a budget the limit is for this wait alone.
func Limit(ctx context.Context, limit time.Duration) (limited context.Context, end func()) {
	budget := BudgetFrom(ctx)
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, budget.Left(limit))
	return limited, func() {
		cancel()
		budget.Spend(time.Since(began))
	}
}
