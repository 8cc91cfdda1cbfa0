package memory

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock never ticks: entries expire when they are read.
type fakeClock struct{ now atomic.Int64 }

func newClock() *fakeClock {
	c := &fakeClock{}
	c.now.Store(time.Unix(1_000_000, 0).UnixNano())
	return c
}

func (c *fakeClock) NowNano() int64                      { return c.now.Load() }
func (c *fakeClock) Tick(time.Duration) <-chan time.Time { return nil }
func (c *fakeClock) time() time.Time                     { return time.Unix(0, c.now.Load()) }
func (c *fakeClock) advance(d time.Duration)             { c.now.Add(int64(d)) }
func newTest(t testing.TB, maximum int64) (*Store, *fakeClock) {
	clock := newClock()
	s := newStore(maximum, clock)
	t.Cleanup(s.Close)
	return s, clock
}

func key(i int) object.Key { return object.NewKey("http", "h", fmt.Sprintf("/%d", i)) }

func entry(k object.Key, now time.Time, life time.Duration, size int) *object.Entry {
	o := &object.Object{
		Status: 200, Body: make([]byte, size), ResponseTime: now, Lifetime: life,
		Header: http.Header{"Content-Type": {"text/plain"}, "Cache-Control": {"max-age=60"}},
	}
	return (*object.Entry)(nil).With(k, o, 8)
}

func TestStore(t *testing.T) {
	s, clock := newTest(t, 1<<20)
	k := key(1)
	if got := s.Get(k); got != nil {
		t.Fatalf("an empty tier has %v", got)
	}
	e := entry(k, clock.time(), time.Minute, 100)
	s.Set(k, e)
	if got := s.Get(k); got != e {
		t.Fatalf("got %v, want the entry itself", got)
	}
	other := k
	other.Full = "of the same hash"
	if got := s.Get(other); got != nil {
		t.Error("another key of the same hash is given the entry")
	}
	s.Delete(k)
	if got := s.Get(k); got != nil {
		t.Error("still there after Delete")
	}
	if st := s.Stats(); st.Bytes != 0 || st.Entries != 0 {
		t.Errorf("empty, but %+v", st)
	}
}

func TestEndsAtLastUsefulMoment(t *testing.T) {
	s, clock := newTest(t, 1<<20)
	short, long := key(1), key(2)
	s.Set(short, entry(short, clock.time(), 10*time.Second, 10))
	e := entry(long, clock.time(), 10*time.Second, 10)
	e.Variants[0].StaleIfError = time.Minute
	s.Set(long, e)

	clock.advance(9 * time.Second)
	if s.Get(short) == nil || s.Get(long) == nil {
		t.Fatal("ended too early")
	}
	clock.advance(2 * time.Second)
	if s.Get(short) != nil {
		t.Error("still there after it has expired")
	}
	if s.Get(long) == nil {
		t.Error("gone although it may serve on error")
	}
	clock.advance(time.Minute)
	if s.Get(long) != nil {
		t.Error("still there after the stale window")
	}

	// What has expired is not kept, and replaces what was.
	s.Set(short, entry(short, clock.time(), time.Minute, 10))
	s.Set(short, entry(short, clock.time().Add(-time.Hour), time.Minute, 10))
	if s.Get(short) != nil {
		t.Error("the older entry is served after the newer one was refused")
	}
	// A replacement has a life of its own.
	s.Set(short, entry(short, clock.time(), time.Second, 10))
	s.Set(short, entry(short, clock.time(), time.Hour, 10))
	clock.advance(time.Minute)
	if s.Get(short) == nil {
		t.Error("the replacement ended when the replaced entry would have")
	}
}

func TestBudget(t *testing.T) {
	const budget = 4 << 20
	for _, size := range []int{100, 10_000, 500_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s, clock := newTest(t, budget)
			most := int64(0)
			for i := range 4 * budget / size {
				k := key(i)
				s.Set(k, entry(k, clock.time(), time.Minute, size))
				most = max(most, s.Stats().Bytes)
			}
			s.cache.CleanUp()
			st := s.Stats()
			if st.Bytes > budget || st.Bytes < budget/2 {
				t.Errorf("keeps %d of %d bytes", st.Bytes, budget)
			}
			if int64(s.cache.WeightedSize()) != st.Bytes || s.cache.EstimatedSize() != int(st.Entries) {
				t.Errorf("counts %d bytes and %d entries, the cache %d and %d",
					st.Bytes, st.Entries, s.cache.WeightedSize(), s.cache.EstimatedSize())
			}
			if most > budget+budget/16+2*int64(size) {
				t.Errorf("kept %d of %d bytes for a while", most, budget)
			}
			if st.Evictions == 0 || st.EvictedBytes < st.Evictions*int64(size) {
				t.Errorf("evictions: %+v", st)
			}
			s.SetMaximum(budget / 4)
			if st := s.Stats(); st.Bytes > budget/4 || st.Maximum != budget/4 {
				t.Errorf("after lowering the budget: %+v", st)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	s, clock := newTest(t, 1<<20)
	k := key(1)
	s.Set(k, entry(k, clock.time(), time.Minute, 10))
	s.Set(k, entry(k, clock.time(), time.Minute, 1<<20))
	if s.Get(k) != nil {
		t.Error("an entry beyond the budget is kept, or the one before it is")
	}
	if s.Stats().Refused != 1 {
		t.Errorf("refused: %+v", s.Stats())
	}
}

// What is read often survives a flood of what is read once.
func TestAdmission(t *testing.T) {
	s, clock := newTest(t, 2<<20)
	const hot = 100
	for i := range hot {
		k := key(i)
		s.Set(k, entry(k, clock.time(), time.Hour, 5000))
	}
	for i := range 20_000 {
		s.Get(key(i % hot))
		k := key(1000 + i)
		if s.Get(k) == nil {
			s.Set(k, entry(k, clock.time(), time.Hour, 5000))
		}
	}
	kept := 0
	for i := range hot {
		if s.Get(key(i)) != nil {
			kept++
		}
	}
	if kept < hot*9/10 {
		t.Errorf("%d of %d survive the flood", kept, hot)
	}
}

// The budget is about real memory: what the heap grows by must not be more
// than what is counted.
func TestCountsWhatItCosts(t *testing.T) {
	for _, tc := range []struct{ objects, size int }{{20_000, 200}, {4_000, 5_000}, {100, 200_000}} {
		t.Run(fmt.Sprint(tc.size), func(t *testing.T) {
			s := New(1 << 30)
			defer s.Close()
			before := heap()
			for i := range tc.objects {
				k := object.NewKey("https", "www.example.com", fmt.Sprintf("/path/of/some/length/%d", i), "a=b&c=d")
				o := &object.Object{
					Status: 200, Body: make([]byte, tc.size), ResponseTime: time.Now(), Lifetime: time.Hour,
					Scheme: "https", Host: string([]byte("www.example.com")), Path: fmt.Sprintf("/path/of/some/length/%d?a=b&c=d", i),
					Vary: []string{"Accept-Encoding"}, Variant: string([]byte("gzip")),
					Header: http.Header{},
				}
				for _, h := range []string{"Content-Type", "Cache-Control", "Etag", "Date", "Last-Modified", "Vary", "Content-Encoding", "Server"} {
					o.Header.Set(h, fmt.Sprintf("some value of usual length %d", i))
				}
				s.Set(k, (*object.Entry)(nil).With(k, o, 8))
			}
			counted := s.Stats().Bytes
			real := heap() - before
			t.Logf("counted %d, real %d bytes for each of %d", counted/int64(tc.objects), real/int64(tc.objects), tc.objects)
			if s.Stats().Entries != int64(tc.objects) {
				t.Fatalf("%+v", s.Stats())
			}
			if real > counted*11/10 || real < counted/2 {
				t.Errorf("counted %d, real %d bytes", counted, real)
			}
			runtime.KeepAlive(s)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestConcurrent(t *testing.T) {
	s := New(1 << 20)
	defer s.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 2000 {
				k := key(r.IntN(500))
				switch r.IntN(10) {
				case 0:
					s.Delete(k)
				case 1, 2, 3:
					s.Set(k, entry(k, time.Now(), time.Minute, r.IntN(20_000)))
				default:
					if e := s.Get(k); e != nil && e.Key.Full != k.Full {
						t.Error("an entry of another key")
					}
				}
			}
		})
	}
	wg.Wait()
	s.cache.CleanUp()
	if st := s.Stats(); st.Bytes > 1<<20 || st.Bytes != int64(s.cache.WeightedSize()) {
		t.Errorf("%+v, the cache says %d bytes", st, s.cache.WeightedSize())
	}
}

// Sweep removes what is dead, in the background, and nothing that was set since.
func TestSweep(t *testing.T) {
	s, clock := newTest(t, 1<<24)
	for i := range 1000 {
		s.Set(key(i), entry(key(i), clock.time(), time.Hour, 10))
	}
	old := s.Get(key(2))
	var replaced atomic.Bool
	dead := func(e *object.Entry) bool {
		if e == old && replaced.CompareAndSwap(false, true) {
			s.Set(key(2), entry(key(2), clock.time(), time.Hour, 20))
		}
		return e == old || e.Key.Full != key(1).Full && len(e.Variants[0].Body) == 10
	}
	s.Sweep(dead)
	s.Sweep(dead)
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Entries > 2 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if s.Get(key(1)) == nil || s.Get(key(2)) == nil || s.Get(key(3)) != nil {
		t.Errorf("%+v", s.Stats())
	}
	s.Sweep(func(*object.Entry) bool { return false })
	s.Close()
	s.Sweep(dead)
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New(8 << 30)
			defer func() {
				b.StopTimer()
				s.Close()
			}()
			keys := make([]object.Key, n)
			o := entry(key(0), time.Now(), time.Hour, 10).Variants[0]
			for i := range keys {
				keys[i] = key(i)
				s.Set(keys[i], &object.Entry{Key: keys[i], Variants: []*object.Object{o}})
			}
			s.cache.CleanUp()
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.New(rand.NewPCG(1, 2))
				z := rand.NewZipf(r, 1.05, 1, uint64(n-1))
				for pb.Next() {
					if s.Get(keys[z.Uint64()]) == nil {
						b.Error("missing")
						return
					}
				}
			})
		})
	}
}

func BenchmarkSet(b *testing.B) {
	s := New(64 << 20)
	defer s.Close()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		k := key(i)
		s.Set(k, entry(k, time.Now(), time.Minute, 1000))
	}
}
