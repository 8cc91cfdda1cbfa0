package main

import (
	"os"
	"testing"
	"time"
)

// The short form of a soak: memory and goroutines stay as they are over requests of
// all kinds and new configurations.
func TestSoak(t *testing.T) {
	l, err := newGateway(t.Context(), &options{bin: os.Getenv("TENTAGATE_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	s := &soak{requests: 20_000, numbers: 500, reload: 300 * time.Millisecond, log: t.Logf}
	if err := s.run(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// What grows is an error, what only varies is none.
func TestFlat(t *testing.T) {
	series := func(heap, goroutines func(i int) float64) []soakSample {
		list := make([]soakSample, 100)
		for i := range list {
			list[i] = soakSample{heap: heap(i) * (1 << 20), goroutines: goroutines(i), resident: 100 << 20}
		}
		return list
	}
	steady := func(at float64) func(int) float64 { return func(i int) float64 { return at + float64(i%7) } }
	if err := flat(series(steady(50), steady(80))); err != nil {
		t.Errorf("steady: %v", err)
	}
	if err := flat(series(func(i int) float64 { return 50 + 2*float64(i) }, steady(80))); err == nil {
		t.Error("a heap that grows is not noticed")
	}
	if err := flat(series(steady(50), func(i int) float64 { return 80 + 4*float64(i) })); err == nil {
		t.Error("goroutines that grow are not noticed")
	}
}
