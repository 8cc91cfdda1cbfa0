// Command bench measures what a request costs in TentaGate, in stock Caddy and in
// other gateways and caches, and prints how they compare.
//
//	go run ./bench          everything, about half an hour
//	go run ./bench -quick   the main figures, about three minutes
//	go run ./bench -soak 20000000   no comparison: that many requests of all kinds to
//	                        one gateway, with a new configuration every few seconds;
//	                        fails if memory or goroutines grow
//
// It is run from the root of the source tree and builds both binaries itself. It
// needs nginx as the backend and wrk as the client; h2load, redis-server and the
// peers (varnishd, haproxy, krakend, traefik) are used where they are on PATH, and
// the output says which of them are not.
//
// What is compared is the time that the processor spends in the server (user and
// system, all its processes) for one request. Unlike throughput it does not depend
// on how much the client takes. The servers of a group run side by side and are
// measured in turn, round after round, each pinned to one processor, with the
// client and the backend on another. Ratios are taken within a round, so that a
// machine that becomes slower does not change them; printed is their median, with
// the least and the greatest.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	quick  bool
	rounds int
	turn   time.Duration
	only   string
	bin    string
	stock  string
	out    string
	soak   int64
	reload time.Duration
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "fewer groups, shorter turns, smaller sizes")
	flag.IntVar(&o.rounds, "rounds", 0, "how often each server has its turn (default 7, with -quick 3)")
	flag.DurationVar(&o.turn, "turn", 0, "how long a turn is (default 5s, with -quick 3s)")
	flag.StringVar(&o.only, "only", "", "regular expression of the groups to measure (default all)")
	flag.StringVar(&o.bin, "bin", "", "a TentaGate binary (default: built)")
	flag.StringVar(&o.stock, "stock", "", "a stock Caddy binary (default: built from the same version of Caddy)")
	flag.StringVar(&o.out, "out", "", "a folder for results.json and the charts (default: none are written)")
	flag.Int64Var(&o.soak, "soak", 0, "instead of a comparison: send so many requests to one gateway, and see that its memory stays as it is")
	flag.DurationVar(&o.reload, "reload", 5*time.Second, "with -soak: the time between two loads of the configuration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// setDefaults fills in what no flag says.
func (o *options) setDefaults() {
	rounds, turn := 7, 5*time.Second
	if o.quick {
		rounds, turn = 3, 3*time.Second
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.turn <= 0 {
		o.turn = turn
	}
}

func run(ctx context.Context, o *options) error {
	o.setDefaults()
	if o.soak > 0 {
		return runSoak(ctx, o)
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	report := newReport(l, o)
	for _, g := range groups(o.quick) {
		if !only.MatchString(g.name) || ctx.Err() != nil {
			continue
		}
		result, err := g.measure(ctx, l, o)
		if err != nil {
			fmt.Print(report.markdown())
			return fmt.Errorf("%s: %w", g.name, err)
		}
		report.add(result)
	}
	if !o.quick && only.MatchString("idle") {
		if report.Idle, err = measureIdle(ctx, l); err != nil { // the others are measured
			fmt.Fprintln(os.Stderr, "bench: idle:", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Print(report.markdown())
	if o.out == "" {
		return nil
	}
	return report.write(o.out)
}

// runSoak builds the gateway and soaks it.
func runSoak(ctx context.Context, o *options) error {
	l, err := newGateway(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	s := &soak{requests: o.soak, numbers: 1e9, reload: o.reload, log: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	return s.run(ctx, l)
}

// progress overwrites one line of the terminal.
func progress(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(os.Stderr, "\r%s%s", text, strings.Repeat(" ", max(0, 78-len(text))))
}
