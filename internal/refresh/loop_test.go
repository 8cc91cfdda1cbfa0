package refresh

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// record returns a loop whose runs take a while, with a pause of a minute, and when they began.
func record(took time.Duration) (l *Loop, begins func() []time.Duration) {
	began := time.Now()
	var list []time.Duration
	l = New(func(ctx context.Context) time.Duration {
		list = append(list, time.Since(began))
		select {
		case <-time.After(took):
		case <-ctx.Done():
		}
		return time.Minute
	})
	return l, func() []time.Duration {
		synctest.Wait()
		return list
	}
}

func TestLoop(t *testing.T) {
	const s = time.Second
	always := func(time.Time) bool { return true }
	for name, tc := range map[string]struct {
		ask  func(ctx context.Context, l *Loop)
		want []time.Duration
	}{
		"by schedule":                 {func(_ context.Context, l *Loop) { l.Start(0) }, []time.Duration{0, 62 * s, 124 * s}},
		"after a delay":               {func(_ context.Context, l *Loop) { l.Start(10 * s) }, []time.Duration{10 * s, 72 * s}},
		"the first ends the delay":    {func(ctx context.Context, l *Loop) { l.Start(10 * s); l.First(ctx) }, []time.Duration{0, 62 * s, 124 * s}},
		"there is one first":          {func(ctx context.Context, l *Loop) { l.Start(0); time.Sleep(5 * s); l.First(ctx) }, []time.Duration{0, 62 * s, 124 * s}},
		"asked for during a run":      {func(_ context.Context, l *Loop) { l.Start(0); time.Sleep(s); l.Run(always) }, []time.Duration{0, 62 * s, 124 * s}},
		"asked for between runs":      {func(_ context.Context, l *Loop) { l.Start(0); time.Sleep(5 * s); l.Run(always) }, []time.Duration{0, 5 * s, 67 * s, 129 * s}},
		"again, after the run so far": {func(ctx context.Context, l *Loop) { l.Start(0); time.Sleep(s); _ = l.Again(ctx) }, []time.Duration{0, 2 * s, 64 * s, 126 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := time.Now().Add(130 * s)
				l, begins := record(2 * s)
				tc.ask(t.Context(), l)
				time.Sleep(time.Until(end))
				if got := begins(); !slices.Equal(got, tc.want) {
					t.Errorf("runs began at %v, want %v", got, tc.want)
				}
				l.Close()
			})
		})
	}
}

func TestLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begins := record(time.Hour)
		l.Start(0)
		synctest.Wait()
		if next := l.Next(); next != 0 {
			t.Errorf("the next run is in %s, during one", next)
		}
		l.Close()
		l.Start(0)
		if err := l.Again(t.Context()); !errors.Is(err, context.Canceled) || len(begins()) != 1 {
			t.Errorf("after the end: %v, runs at %v", err, begins())
		}
		never, _ := record(0)
		never.Close()
	})
}
