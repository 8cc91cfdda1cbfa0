// Command ratelimit measures what a decision of the rate limiter costs: by
// Redis, strictly, against one EVALSHA per request with the same client; from
// leases; from refusals that are remembered; and in memory, with the memory that
// a million keys take.
//
//	go run ./ratelimit/internal/bench
//
// It starts a redis-server of its own, on loopback. What is compared takes turns
// in one run, so that a change of the machine's load meets both; the medians of
// the rounds are printed, and of the ratios within each round. Nanoseconds are of
// processor time, which others on the machine do not take away.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	rounds = flag.Int("rounds", 7, "how often each has its turn")
	turn   = flag.Duration("turn", time.Second, "how long a turn is")
	only   = flag.String("only", "", "what to measure: redis, leased or memory; default all")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimit:", err)
		os.Exit(1)
	}
}

func run() error {
	if *rounds < 1 || *turn <= 0 {
		return errors.New("rounds and turn have to be above zero")
	}
	fmt.Printf("%s, %d processors, %d rounds of %v\n", runtime.Version(), runtime.GOMAXPROCS(0), *rounds, *turn)
	if *only == "" || strings.Contains("redis leased", *only) {
		server, err := startRedis()
		if err != nil {
			return err
		}
		defer server.stop()
		if *only != "leased" {
			if err := compareStrict(server); err != nil {
				return err
			}
		}
		if *only != "redis" {
			if err := measureLeased(server); err != nil {
				return err
			}
		}
	}
	if *only == "" || *only == "memory" {
		return measureMemory()
	}
	return nil
}

// processor returns the processor time this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// median sorts the values.
func median(values []float64) float64 {
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// spread writes the median with the least and the most.
func spread(format string, values []float64) string {
	m := median(values)
	return fmt.Sprintf(format+" ("+format+" to "+format+")", m, values[0], values[len(values)-1])
}
