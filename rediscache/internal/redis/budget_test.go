package redis

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// deadlines remembers until when each command of a client may take.
type deadlines struct {
	mu   sync.Mutex
	seen []time.Time
	none int
}

func (d *deadlines) note(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := ctx.Deadline(); ok {
		d.seen = append(d.seen, at)
	} else {
		d.none++
	}
}

func (d *deadlines) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (d *deadlines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		d.note(ctx)
		return next(ctx, cmd)
	}
}

func (d *deadlines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		d.note(ctx)
		return next(ctx, cmds)
	}
}

// Every command that a request waits for ends with the budget, however many
// there are.
func TestBudgetOfEveryCommand(t *testing.T) {
	server := redistest.Start(t)
	client := redistest.BackgroundClient(t, server.Addr())
	const budget = 10 * time.Second
	s := newStore(t, Options{Client: client, Background: redistest.BackgroundClient(t, server.Addr()), Budget: budget})
	o := fresh(noise(3 * chunkSize))
	o.Vary, o.Variant = []string{"Accept"}, "a"
	key := object.NewKey("k")
	put(t, s, key, o)
	var d deadlines
	client.AddHook(&d)
	for _, spent := range []time.Duration{0, budget / 2} {
		ctx := context.Background()
		if spent > 0 {
			used := new(availability.Budget)
			used.Spend(spent)
			ctx = availability.WithBudget(ctx, used)
		}
		if s.Get(ctx, key) == nil || s.Get(ctx, object.NewKey("other")) != nil {
			t.Fatal("not found")
		}
		latest := time.Now().Add(budget - spent)
		d.mu.Lock()
		if len(d.seen) < 4 || d.none > 0 {
			t.Errorf("%d commands with a deadline and %d without", len(d.seen), d.none)
		}
		for i, at := range d.seen {
			if at.After(latest) {
				t.Errorf("%v spent: command %d may take %v longer than the budget", spent, i, at.Sub(latest))
			}
		}
		d.seen = nil
		d.mu.Unlock()
	}
}

// What one look-up has used of the budget, the next one of the same request does not
// have.
func TestBudgetIsShared(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Budget: availability.DefaultBudget})
	server.Freeze()
	defer server.Thaw()
	ctx := availability.WithBudget(context.Background(), new(availability.Budget))
	for range 5 {
		s.Get(ctx, object.NewKey("k"))
	}
	if _, granted := s.Lease(ctx, object.NewKey("k"), time.Second); !granted {
		t.Error("a lease that cannot be asked for is not granted")
	}
	if st := s.Stats(); st.Late+st.Errors != 1 || st.Skipped != 4 || st.Away {
		t.Errorf("%+v", st)
	}
}
