// Package heapprofile has the program sample its allocations less often than Go does,
// from its start on. Importing it is enough.
package heapprofile

import (
	"runtime"
	"syscall"
)

const (
	// rate is how many bytes are allocated between two samples of the heap profile, on
	// average. Each sample walks the stack, which is deep where handlers call each other:
	// with Go's rate that took 2 % of the CPU time of a request. A leak of some MiB is
	// still seen.
	rate = 4 << 20
	// goRate is Go's own.
	goRate = 512 << 10
)

// One rate must hold for all samples, so it is set before most is allocated: packages
// that import next to nothing are initialised before those of Caddy. What the operator
// sets with GODEBUG=memprofilerate wins, also if it is Go's own rate.
func init() {
	if godebug, _ := syscall.Getenv("GODEBUG"); runtime.MemProfileRate == goRate && !IsChosen(godebug) {
		runtime.MemProfileRate = rate
	}
}

// IsChosen reports whether a value of GODEBUG has a rate.
func IsChosen(godebug string) bool {
	const name = "memprofilerate="
	for i := range godebug {
		if (i == 0 || godebug[i-1] == ',') && len(godebug)-i >= len(name) && godebug[i:i+len(name)] == name {
			return true
		}
	}
	return false
}
