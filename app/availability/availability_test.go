package availability

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errDown = errors.New("connection refused")
	errFull = reply("OOM command not allowed when used memory > 'maxmemory'.")
)

// fake is a Redis of which the tests decide how it answers.
type fake struct {
	*Engine
	mu      sync.Mutex
	err     map[string]error // of probes, by node
	probes  map[string]int
	at      []time.Time // of probes
	running atomic.Int32
	overlap atomic.Bool
	changes []State
	from    []State
	last    Change
	reasons []error
	gone    string // a node that has left the Cluster
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{err: map[string]error{}, probes: map[string]int{}}
	f.Engine = New(Options{OnChange: func(c Change) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changes, f.from, f.last = append(f.changes, c.State), append(f.from, c.From), c
	}, OnReason: func(c Change) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reasons = append(f.reasons, c.Reason)
	}})
	f.probe = func(_ context.Context, node string) error {
		if f.running.Add(1) > 1 && node == "" {
			f.overlap.Store(true)
		}
		defer f.running.Add(-1)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.probes[node]++
		f.at = append(f.at, time.Now())
		return f.err[node]
	}
	t.Cleanup(f.Close)
	return f
}

// cluster has the engine find two nodes by the first letter of a key.
func (f *fake) cluster() {
	f.locate = func(key string) (string, bool) { return key[:1], key != "?" }
	f.owns = func(node string) bool { f.mu.Lock(); defer f.mu.Unlock(); return node != f.gone }
}

func (f *fake) answer(node string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err[node] = err
}

func (f *fake) probed(node string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.probes[node]
}

// fail reports failures one after the other.
func fail(p *Partition, n int, err error) {
	for range n {
		p.Report(Call{Began: time.Now(), Write: true}, err)
	}
}

// sleep lets time pass, and everything happen that is to happen in it.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// inBubble runs a test whose clock is its own.
func inBubble(t *testing.T, f func(t *testing.T, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour) // away from the zero of time
		f(t, newFake(t))
	})
}

// What takes a partition out of use, and what does not.
func TestTrip(t *testing.T) {
	for name, tc := range map[string]struct {
		report func(p *Partition)
		want   State
	}{
		"too few":            {func(p *Partition) { fail(p, tripStreak-1, errDown) }, Available},
		"in a row":           {func(p *Partition) { fail(p, tripStreak, errDown) }, Unavailable},
		"timeouts":           {func(p *Partition) { fail(p, tripStreak, context.DeadlineExceeded) }, Unavailable},
		"loading":            {func(p *Partition) { fail(p, tripStreak, reply("LOADING")) }, Unavailable},
		"canceled":           {func(p *Partition) { fail(p, 100, context.Canceled) }, Available},
		"errors of commands": {func(p *Partition) { fail(p, 100, reply("WRONGTYPE")) }, Available},
		"refused writes":     {func(p *Partition) { fail(p, tripStreak, errFull) }, ReadOnly},
		"refused reads": {func(p *Partition) {
			for range 100 {
				p.Report(Call{Began: time.Now()}, errFull)
			}
		}, Available},
		"reads between refused writes": {func(p *Partition) {
			for range tripStreak {
				fail(p, 1, errFull)
				p.Report(Call{Began: time.Now()}, nil)
			}
		}, ReadOnly},
		"writes between refused writes": {func(p *Partition) {
			for range 100 {
				fail(p, tripStreak-1, errFull)
				fail(p, 1, nil)
			}
		}, Available},
		"refused, then down": {func(p *Partition) { fail(p, tripStreak, errFull); fail(p, tripStreak, errDown) }, Unavailable},
		"down, then refused": {func(p *Partition) { fail(p, tripStreak, errDown); fail(p, tripStreak, errFull) }, Unavailable},
		"few among answers": {func(p *Partition) {
			for range 100 {
				fail(p, tripStreak-1, errDown)
				fail(p, tripStreak, nil)
			}
		}, Available},
		"more than half": {func(p *Partition) {
			for range 4 {
				fail(p, 1, errDown)
				fail(p, 1, nil)
				fail(p, 1, errDown)
			}
		}, Unavailable},
		"more than half, but slowly": {func(p *Partition) {
			for range 20 {
				fail(p, 2, errDown)
				fail(p, 1, nil)
				sleep(tripWindow)
			}
		}, Available},
		"all at once": {func(p *Partition) {
			began := time.Now()
			sleep(time.Millisecond)
			for range 1000 {
				p.Report(Call{Began: began}, context.DeadlineExceeded)
			}
		}, Available},
		"bursts": {func(p *Partition) {
			for range tripStreak {
				began := time.Now()
				sleep(time.Millisecond)
				for range 100 {
					p.Report(Call{Began: began}, context.DeadlineExceeded)
				}
			}
		}, Unavailable},
		"out of what others left of the time": {func(p *Partition) {
			for range 100 {
				p.Report(Call{Began: time.Now(), Short: true}, context.DeadlineExceeded)
			}
		}, Available},
		"refused connections in whatever time": {func(p *Partition) {
			for range tripStreak {
				p.Report(Call{Began: time.Now(), Short: true}, errDown)
			}
		}, Unavailable},
		"lost":               {func(p *Partition) { p.Lost(errDown) }, Unavailable},
		"lost, full":         {func(p *Partition) { p.Lost(errFull) }, ReadOnly},
		"lost, canceled":     {func(p *Partition) { p.Lost(context.Canceled) }, Available},
		"lost, not allowed":  {func(p *Partition) { p.Lost(reply("NOPERM no")) }, Available},
		"lost, unknown type": {func(p *Partition) { p.Lost(reply("WRONGTYPE no")) }, Available},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fake) {
				f.answer("", errDown)
				p := f.Partition("key")
				if tc.report(p); p.State() != tc.want {
					t.Errorf("%v, want %v", p.State(), tc.want)
				}
				if p.Readable() != (tc.want != Unavailable) || p.Writable() != (tc.want == Available) {
					t.Errorf("readable %v, writable %v", p.Readable(), p.Writable())
				}
			})
		})
	}
}

// One prober finds out when the server is back, however many see that it is
// down; each change is reported once.
func TestOneProber(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.answer("", errDown)
		p := f.Partition("key")
		for range 1000 {
			go fail(p, 10, errDown)
		}
		synctest.Wait()
		const outage = time.Minute
		sleep(outage)
		if n := f.probed(""); n < int(outage/(2*probeLast)) || n > int(outage/(probeLast/2)) {
			t.Errorf("%d probes in %v", n, outage)
		}
		if f.Up() || f.Usable() || p.State() != Unavailable {
			t.Error("available without an answer")
		}
		f.answer("", nil)
		back := time.Now()
		for p.State() != Available {
			sleep(time.Millisecond)
		}
		synctest.Wait()
		if took := time.Since(back); took > 2*probeLast+probesToReturn*2*probeFirst {
			t.Errorf("noticed after %v", took)
		}
		n := f.probed("")
		sleep(outage)
		if f.probed("") != n {
			t.Error("an available server is probed")
		}
		if !slices.Equal(f.changes, []State{Unavailable, Available}) {
			t.Errorf("reported %v", f.changes)
		}
		if f.overlap.Load() {
			t.Error("two probes at one time")
		}
		if !f.Up() || !f.Usable() || len(f.Status()) != 1 || !f.Status()[0].Contacted {
			t.Errorf("%+v", f.Status())
		}
	})
}

// A server that answers a probe now and then is not used, and one that fails
// again soon is probed less often.
func TestFlapping(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		p := f.Partition("key")
		var n atomic.Int32
		var well atomic.Bool
		f.probe = func(context.Context, string) error {
			if n.Add(1)%probesToReturn == 0 && !well.Load() {
				return errDown
			}
			return nil
		}
		fail(p, tripStreak, errDown)
		sleep(time.Minute)
		if p.State() != Unavailable {
			t.Error("used between failures")
		}
		well.Store(true)
		sleep(10 * time.Second)
		if p.State() != Available {
			t.Fatal("not used again")
		}
		n.Store(0)
		fail(p, tripStreak, errDown)
		sleep(probeLast / 2)
		if n.Load() != 0 {
			t.Error("probed as early as at the first outage")
		}
		sleep(relapse)
		if p.State() != Available {
			t.Error("not used again")
		}
	})
}

// While a server is full, reads go on; it is used for writes again when it takes
// them.
func TestReadOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		restored := 0
		f.Subscribe(Subscriber{Restore: func(context.Context, *Partition) error { restored++; return nil }})
		p := f.Partition("key")
		f.answer("", errDown)
		fail(p, tripStreak, errDown)
		sleep(10 * time.Second)
		f.answer("", errFull)
		sleep(10 * time.Second)
		if p.State() != ReadOnly || restored != 0 {
			t.Errorf("%v, restored %d times", p.State(), restored)
		}
		f.answer("", errDown)
		sleep(10 * time.Second)
		if p.State() != Unavailable {
			t.Error(p.State())
		}
		f.answer("", errFull)
		sleep(10 * time.Second)
		f.answer("", reply("NOPERM no")) // no permission to probe
		sleep(10 * time.Second)
		synctest.Wait()
		if p.State() != Available || restored != 1 {
			t.Errorf("%v, restored %d times", p.State(), restored)
		}
		if !slices.Equal(f.changes, []State{Unavailable, ReadOnly, Unavailable, ReadOnly, Available}) ||
			!slices.Equal(f.from, []State{Available, Unavailable, ReadOnly, Unavailable, ReadOnly}) {
			t.Errorf("reported %v, from %v", f.changes, f.from)
		}
	})
}

// The newest error is the reason of an outage, and each kind of error is reported once.
func TestNewestReason(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		denied := reply("WRONGPASS invalid username-password pair or user is disabled.")
		f.answer("", refused)
		fail(f.whole, tripStreak, refused)
		for _, err := range []error{refused, context.DeadlineExceeded, refused, denied, context.DeadlineExceeded, denied} {
			f.answer("", err)
			sleep(10 * time.Second)
			if got := f.whole.Status(); !errors.Is(got.Reason, err) || got.State != Unavailable {
				t.Errorf("after %v: %v because of %v", err, got.State, got.Reason)
			}
		}
		f.mu.Lock()
		if want := []error{context.DeadlineExceeded, denied}; !slices.Equal(f.reasons, want) {
			t.Errorf("reported %v, want %v", f.reasons, want)
		}
		f.mu.Unlock()
		f.answer("", errFull)
		sleep(10 * time.Second)
		if got := f.whole.Status(); got.State != ReadOnly || !errors.Is(got.Reason, errFull) {
			t.Errorf("of a full server: %v because of %v", got.State, got.Reason)
		}
		f.answer("", nil)
		sleep(10 * time.Second)
		if got := f.whole.Status(); got.State != Available || got.Reason != nil {
			t.Errorf("at last: %v because of %v", got.State, got.Reason)
		}
	})
}

// An answer is no reason of an outage, and each kind of error is reported once while the
// server is lost in one way or the other.
func TestReasonsOfAFlappingServer(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.Subscribe(Subscriber{Restore: func(context.Context, *Partition) error { return errDown }}) // it does not return
		f.answer("", errDown)
		fail(f.whole, tripStreak, errDown)
		for range 3 {
			for _, err := range []error{context.DeadlineExceeded, reply("ERR unknown command"), errDown, errFull, reply("READONLY no"), errDown} {
				f.answer("", err)
				sleep(10 * time.Second)
				if got := f.whole.Status(); Classify(got.Reason) == Answered {
					t.Errorf("the reason is an answer: %v", got.Reason)
				}
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if want := []error{context.DeadlineExceeded, reply("READONLY no")}; !slices.Equal(f.reasons, want) {
			t.Errorf("reported %v, want %v", f.reasons, want)
		}
	})
}

// Subscribers get ready before the partition is used again.
func TestRestoreComesFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		fail  int // times
		err   error
		tries int
	}{
		"ready":            {0, nil, 1},
		"down":             {2, errDown, 3},
		"full":             {2, errFull, 3},
		"an error of data": {2, reply("WRONGTYPE no"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fake) {
				p := f.Partition("key")
				tries, others := 0, 0
				cancel := f.Subscribe(Subscriber{Name: "gone", Restore: func(context.Context, *Partition) error {
					t.Error("called after it left")
					return nil
				}})
				cancel()
				f.Subscribe(Subscriber{Name: "b"})
				f.Subscribe(Subscriber{Name: "other", Restore: func(context.Context, *Partition) error { others++; return nil }})
				f.Subscribe(Subscriber{Name: "one", Restore: func(_ context.Context, of *Partition) error {
					if of != p || p.State() == Available {
						t.Error("called after the partition is used")
					}
					if tries++; tries <= tc.fail {
						return tc.err
					}
					return nil
				}})
				fail(p, tripStreak, errDown)
				sleep(20 * time.Second)
				if p.State() != Available || tries != tc.tries || others != tc.tries {
					t.Errorf("%v after %d and %d tries", p.State(), tries, others)
				}
			})
		})
	}
}

// A subscriber that hangs or panics does not keep Redis from the others.
func TestRestoreIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		p := f.Partition("key")
		var calls atomic.Int32
		end := make(chan struct{})
		f.Subscribe(Subscriber{Name: "deaf", Restore: func(context.Context, *Partition) error { calls.Add(1); <-end; return nil }})
		f.Subscribe(Subscriber{Name: "slow", Restore: func(ctx context.Context, _ *Partition) error { <-ctx.Done(); return ctx.Err() }})
		f.Subscribe(Subscriber{Name: "quick", Restore: func(context.Context, *Partition) error { return nil }})
		for range 3 {
			fail(p, tripStreak, errDown)
			began := time.Now()
			for p.State() != Available {
				sleep(time.Millisecond)
			}
			if took := time.Since(began); took < RestoreTimeout || took > RestoreTimeout+2*time.Second {
				t.Errorf("used again after %v", took)
			}
			synctest.Wait()
			if !slices.Equal(f.last.Late, []string{"deaf", "slow"}) {
				t.Errorf("late: %v", f.last.Late)
			}
		}
		if calls.Load() != 1 {
			t.Errorf("called %d times while it hangs", calls.Load())
		}
		close(end)
		cancel := f.Subscribe(Subscriber{Name: "broken", Restore: func(context.Context, *Partition) error { panic("no") }})
		fail(p, tripStreak, errDown)
		sleep(10 * time.Second)
		if p.State() != Unavailable {
			t.Error("used although a subscriber failed")
		}
		cancel()
		sleep(10 * time.Second)
		if p.State() != Available {
			t.Error("not used again")
		}
	})
}

// If the server is lost while subscribers get ready, it is not used.
func TestLostWhileRestoring(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		p := f.Partition("key")
		f.Subscribe(Subscriber{Name: "slow", Restore: func(ctx context.Context, _ *Partition) error {
			f.answer("", errDown)
			<-ctx.Done()
			return ctx.Err()
		}})
		fail(p, tripStreak, errDown)
		sleep(time.Minute)
		if p.State() != Unavailable {
			t.Error("used although the last probe failed")
		}
	})
}

func TestSubscribeDuringOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.answer("", errDown)
		p := f.Partition("key")
		fail(p, tripStreak, errDown)
		synctest.Wait()
		var reported []State
		cancel := f.Subscribe(Subscriber{Changed: func(_ *Partition, s State) { reported = append(reported, s) }})
		f.answer("", nil)
		sleep(10 * time.Second)
		cancel()
		fail(p, tripStreak, errDown)
		sleep(10 * time.Second)
		if !slices.Equal(reported, []State{Unavailable, Available}) {
			t.Errorf("reported %v", reported)
		}
	})
}

// A lost node of a Cluster takes its own keys along and no others.
func TestClusterPartitions(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.cluster()
		a, b := f.Partition("a1"), f.Partition("b1")
		if a == b || a != f.Partition("a2") || a.Name() != "a" || f.Partition("?") == a {
			t.Fatal("partitions are mixed up")
		}
		fail(b, 1, nil)
		f.answer("a", errDown)
		fail(a, tripStreak, errDown)
		sleep(time.Minute)
		if a.State() != Unavailable || b.State() != Available || f.probed("b") != 0 || f.Up() || !f.Usable() {
			t.Errorf("a %v, b %v, %d probes of b, up %v, usable %v", a.State(), b.State(), f.probed("b"), f.Up(), f.Usable())
		}
		// c may have taken keys over from a: subscribers come first.
		restored := 0
		f.Subscribe(Subscriber{Restore: func(_ context.Context, p *Partition) error {
			if p.Name() == "c" {
				restored++
			}
			return nil
		}})
		c := f.Partition("c1")
		if c.State() == Available {
			t.Error("a node that joins during an outage is used at once")
		}
		sleep(10 * time.Second)
		if c.State() != Available || restored != 1 {
			t.Errorf("c %v, restored %d times", c.State(), restored)
		}
		// a has no keys any more.
		f.mu.Lock()
		f.gone = "a"
		f.mu.Unlock()
		n := f.probed("a")
		sleep(time.Minute)
		if len(f.Status()) != 2 || f.probed("a") > n+1 || !f.last.Removed || !f.Up() {
			t.Errorf("%+v, %d probes more", f.Status(), f.probed("a")-n)
		}
	})
}

func TestCloseEndsProbers(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.cluster()
		f.answer("a", errDown)
		f.answer("b", errDown)
		hangs := make(chan struct{})
		f.Subscribe(Subscriber{Restore: func(ctx context.Context, _ *Partition) error { <-ctx.Done(); close(hangs); return nil }})
		fail(f.Partition("a"), tripStreak, errDown)
		fail(f.Partition("b"), tripStreak, errDown)
		fail(f.Partition("c"), tripStreak, errDown)
		sleep(time.Second)
		f.Close()
		<-hangs
		fail(f.Partition("d"), tripStreak, errDown)
		if f.Partition("d").State() != Available {
			t.Error("tripped after Close")
		}
	})
}

// However several features wait, together they wait no longer than the longest
// of their limits.
func TestBudget(t *testing.T) {
	b := new(Budget)
	ctx := WithBudget(t.Context(), b)
	if BudgetFrom(ctx) != b || BudgetFrom(t.Context()) != nil {
		t.Fatal("the context does not carry the budget")
	}
	for _, tc := range []struct{ limit, spend, left time.Duration }{
		{25, 10, 25},
		{25, 10, 15},
		{20, 0, 0}, // a smaller limit is used up
		{25, 7, 5}, // it took longer than it should
		{25, 0, 0},
		{100, 0, 73}, // a feature that may wait longer
	} {
		if got := b.Left(tc.limit * time.Millisecond); got != tc.left*time.Millisecond {
			t.Errorf("limit %dms, waited %v: %v left", tc.limit, b.Waited(), got)
		}
		b.Spend(tc.spend * time.Millisecond)
	}
	var none *Budget
	none.Spend(time.Hour)
	if none.Left(time.Second) != time.Second || none.Waited() != 0 {
		t.Error("without a budget, each call has its own limit")
	}
	if n := testing.AllocsPerRun(100, func() { b.Spend(1); b.Left(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What features ask and report for each request allocates nothing.
func TestHotPathAllocatesNothing(t *testing.T) {
	e := New(Options{})
	defer e.Close()
	if n := testing.AllocsPerRun(100, func() {
		p := e.Partition("key")
		if p.Writable() {
			p.Report(Call{Began: time.Now(), Write: true}, nil)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReport(b *testing.B) {
	e := New(Options{})
	defer e.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if p := e.Partition("key"); p.Writable() {
				p.Report(Call{Write: true}, nil)
			}
		}
	})
}
