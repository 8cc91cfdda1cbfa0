package redis

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

func newTestEngine(t testing.TB, client redis.UniversalClient, cluster bool) *Engine {
	t.Helper()
	e := NewEngine(Options{Client: client, Cluster: cluster, Prefix: "tg"})
	t.Cleanup(e.Close)
	return e
}

// traffic sends requests of one key until it is stopped.
type traffic struct {
	mu        sync.Mutex
	admitted  []admission
	sources   [gcra.Sources]int
	refused   int
	durations []time.Duration
	stop      chan struct{}
	wg        sync.WaitGroup
	last      atomic.Int32
}

func startTraffic(z *Zone, p *gcra.Plan, onError string) *traffic {
	return startTrafficOf(z, "k", p, onError)
}

func startTrafficOf(z *Zone, key string, p *gcra.Plan, onError string) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	begin := time.Now()
	for range 8 {
		tr.wg.Go(func() {
			for {
				select {
				case <-tr.stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				var d gcra.Decision
				c := Call{Zone: z, Key: key, Plan: p, Cost: 1, OnError: onError, Decision: &d}
				sent := time.Since(begin)
				c.Decide()
				received := time.Since(begin)
				tr.last.Store(int32(d.Source))
				tr.mu.Lock()
				tr.durations = append(tr.durations, received-sent)
				tr.sources[d.Source]++
				if d.Admitted() {
					tr.admitted = append(tr.admitted, admission{sent, received})
				} else {
					tr.refused++
				}
				tr.mu.Unlock()
			}
		})
	}
	return tr
}

func (tr *traffic) end() {
	close(tr.stop)
	tr.wg.Wait()
}

// shared reports whether Redis decides, or a refusal of it is remembered.
func (tr *traffic) shared() bool {
	s := gcra.Source(tr.last.Load())
	return s == gcra.Shared || s == gcra.Remembered
}

func (tr *traffic) report(t *testing.T) {
	slices.Sort(tr.durations)
	n := len(tr.durations)
	t.Logf("%d decisions, p50 %v, p99 %v, most %v; sources %v", n, tr.durations[n/2], tr.durations[n*99/100], tr.durations[n-1], tr.sources)
}

// waitLocal waits until the gateway decides by itself and has admitted a good
// number so.
func (tr *traffic) waitLocal(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "local decisions", func() bool { return gcra.Source(tr.last.Load()) == gcra.Local })
	tr.waitMore(t, 100)
}

// waitMore waits for so many more admissions.
func (tr *traffic) waitMore(t *testing.T, n int) {
	t.Helper()
	admitted := func() int { tr.mu.Lock(); defer tr.mu.Unlock(); return len(tr.admitted) }
	from := admitted()
	testkit.Eventually(t, "admissions", func() bool { return admitted() >= from+n })
}
