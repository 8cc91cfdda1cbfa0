package main

import (
	"flag"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/heapprofile"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		name        string
		limit, live int64
		want        int
	}{
		{"no limit", math.MaxInt64, 20 * mib, 100},
		{"much room", 16 << 30, 50 * mib, 400},
		{"nothing lives yet", 512 * mib, 0, 400},
		{"some room", 200 * mib, 30 * mib, 233},
		{"a third of the limit", 300 * mib, 100 * mib, 100},
		{"near the limit", 200 * mib, 190 * mib, 100},
		{"above the limit", 200 * mib, 300 * mib, 100},
		{"a tiny limit", 1, 20 * mib, 100},
	} {
		if got := gcPercent(tc.limit, tc.live); got < tc.want-2 || got > tc.want+2 {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func current() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

func collectUntil(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); current() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d, want %d", current(), want)
		}
		runtime.GC()
	}
}

func TestPaceGC(t *testing.T) {
	before := debug.SetGCPercent(leastPercent)
	limit := debug.SetMemoryLimit(8 << 30)
	t.Cleanup(func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(before) })

	t.Setenv("GOGC", "50")
	paceGC()
	runtime.GC()
	runtime.GC()
	if got := current(); got != leastPercent {
		t.Fatalf("%d although the operator chose", got)
	}

	t.Setenv("GOGC", "")
	paceGC()
	collectUntil(t, mostPercent)
	debug.SetMemoryLimit(1 << 20)
	collectUntil(t, leastPercent)
}

// The profile of the heap samples less often than Go's default.
func TestHeapProfile(t *testing.T) {
	if rate := flag.Lookup("test.memprofilerate"); rate.Value.String() != rate.DefValue || heapprofile.IsChosen(os.Getenv("GODEBUG")) {
		t.Skip("another rate was chosen")
	}
	if runtime.MemProfileRate <= 512<<10 {
		t.Errorf("a sample each %d bytes", runtime.MemProfileRate)
	}
}
