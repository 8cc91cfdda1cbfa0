package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

// measureMemory measures decisions in memory, over keys in random order, and
// the memory that the keys take beside their text. Each key is made just before,
// as that of a request is, which is part of the time.
func measureMemory() error {
	for _, n := range []int{1, 1000, 1_000_000} {
		plan := makePlan("100/1h")
		heap, resident, err := memoryInUse()
		if err != nil {
			return err
		}
		s := memory.New(memory.Options{MaxKeys: 2_000_000})
		var d gcra.Decision
		var buf [24]byte
		decide := func(i int) {
			key := strconv.AppendInt(append(buf[:0], "10.0."...), int64(i), 10)
			// Not copied to a string, which would be an allocation of this program's.
			s.Decide(unsafe.String(unsafe.SliceData(key), len(key)), plan, 1, &d)
		}
		for i := range n {
			decide(i)
		}
		heapAfter, residentAfter, err := memoryInUse()
		if err != nil {
			return err
		}
		var cost, allocs []float64
		random := rand.New(rand.NewPCG(1, 2))
		for range *rounds {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			asked := 0
			began, used := time.Now(), processor()
			for took := time.Duration(0); took < *turn; took = time.Since(began) {
				for range 1024 {
					decide(random.IntN(n))
				}
				asked += 1024
			}
			cost = append(cost, float64(processor()-used)/float64(asked))
			runtime.ReadMemStats(&after)
			allocs = append(allocs, float64(after.Mallocs-before.Mallocs)/float64(asked))
		}
		fmt.Printf("memory, %7d keys: %s ns, %.4f allocations", n, spread("%.0f", cost), median(allocs))
		if n == 1_000_000 {
			fmt.Printf("; per key %.1f bytes of heap, %.1f resident",
				float64(heapAfter-heap)/float64(n), float64(residentAfter-resident)/float64(n))
		}
		fmt.Println()
		runtime.KeepAlive(s)
	}
	return nil
}

// memoryInUse returns the heap and the resident memory of this process, with
// what is garbage given back.
func memoryInUse() (heap, resident int64, err error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, fmt.Errorf("resident memory: %w", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("resident memory: %w", err)
	}
	return int64(m.HeapAlloc), pages * int64(os.Getpagesize()), nil
}
