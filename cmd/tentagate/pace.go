package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The garbage collector runs when the heap has grown by a percentage of what
// lives in it. A gateway has little that lives and makes much garbage, so that
// Go's default of 100 has it run many times a second; more costs memory, which
// is only taken where there is some.
const (
	leastPercent = 100 // Go's default
	mostPercent  = 400
	// share is the part of the memory limit that the heap may grow to.
	share = 2
)

// gcPercent returns the percentage for a memory limit and a live heap, in bytes:
// as much as lets the heap grow to half of the limit. Without a limit it is Go's
// default.
func gcPercent(limit, live int64) int {
	if limit <= 0 || limit == math.MaxInt64 {
		return leastPercent
	}
	live = max(live, 1)
	return int(min(max((limit/share-live)/(live/100+1), leastPercent), mostPercent))
}

// paceGC adapts the percentage after each collection, unless the operator chose
// one. The limit is GOMEMLIMIT or what Caddy sets: nine tenths of the memory of
// the container or the machine.
func paceGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	afterGC(setPercent(leastPercent))
}

// setPercent returns a function that sets the percentage for the live heap of
// the last collection. Small changes are left: each stops the program for a
// moment.
func setPercent(now int) func() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	return func() {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return
		}
		percent := gcPercent(debug.SetMemoryLimit(-1), int64(min(sample[0].Value.Uint64(), math.MaxInt64)))
		if diff := percent - now; diff > now/10 || -diff > now/10 {
			debug.SetGCPercent(percent)
			now = percent
		}
	}
}

// afterGC calls f after each collection.
func afterGC(f func()) {
	type sentinel struct{ _ *byte } // a pointer keeps it out of the tiny allocator
	runtime.SetFinalizer(new(sentinel), func(*sentinel) {
		f()
		afterGC(f)
	})
}
