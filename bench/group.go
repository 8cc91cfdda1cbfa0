package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// group are workloads that are measured in turn. The first is the one that the
// others are compared with.
type group struct {
	name string
	// what says in a sentence what is measured.
	what      string
	workloads []workload
	// half sends half of the requests that the first workload answers at its most.
	half bool
	// quick groups are measured with -quick too.
	quick bool
}

// workload is one row of the table.
type workload struct {
	name string
	// start returns the server, or nil if it is not installed.
	start func(*lab) (*server, error)
	load  load
	// bar is the ratio to the first workload that TentaGate is to reach; 0 is none.
	bar float64
	// below is the name of a workload that has to cost more than this one.
	below string
}

// sample is what one turn gave.
type sample struct {
	CPU       float64       `json:"cpu_microseconds"` // per request
	Rate      float64       `json:"requests_per_second"`
	P50       time.Duration `json:"p50_nanoseconds"`
	P99       time.Duration `json:"p99_nanoseconds"`
	P999      time.Duration `json:"p999_nanoseconds"`
	Resident  int64         `json:"resident_bytes"`
	Mallocs   float64       `json:"allocations"` // per request; 0 if the server does not tell
	BadStatus int64         `json:"bad_status"`
}

// row are the turns of a workload.
type row struct {
	Name    string   `json:"name"`
	Bar     float64  `json:"bar,omitempty"`
	Below   string   `json:"below,omitempty"`
	Samples []sample `json:"samples"`
}

// groupResult are the rows of a group.
type groupResult struct {
	Name string `json:"name"`
	What string `json:"what"`
	Rows []*row `json:"rows"`
}

// running is a workload with its server.
type running struct {
	workload
	server *server
	row    *row
}

// measure starts the servers of a group, measures them in turn, and ends them.
func (g *group) measure(ctx context.Context, l *lab, o *options) (*groupResult, error) {
	defer l.stopServers()
	result := &groupResult{Name: g.name, What: g.what}
	var all []*running
	for _, w := range g.workloads {
		progress("%s: starting %s", g.name, w.name)
		s, err := w.start(l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		if s == nil {
			continue
		}
		r := &row{Name: w.name, Bar: w.bar, Below: w.below}
		result.Rows = append(result.Rows, r)
		all = append(all, &running{workload: w, server: s, row: r})
	}
	for _, r := range all {
		if err := r.load.fill(ctx, l, r.server); err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
	}
	if g.half && len(all) > 0 {
		most, _, err := all[0].load.run(ctx, l, all[0].server, o.turn)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", all[0].name, err)
		}
		for _, r := range all {
			r.load.rate = most.Rate / 2
		}
	}
	for round := range o.rounds + 1 {
		for i, r := range all {
			progress("%s: round %d of %d, %s (%d of %d)", g.name, round, o.rounds, r.name, i+1, len(all))
			s, err := r.turn(ctx, l, o.turn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			if round > 0 { // the first warms up
				r.row.Samples = append(r.row.Samples, s)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return result, nil
}

// turn measures the server once.
func (r *running) turn(ctx context.Context, l *lab, d time.Duration) (sample, error) {
	before, mallocs := r.server.cpuTime(), r.server.mallocs(ctx)
	s, requests, err := r.load.run(ctx, l, r.server, d)
	if err != nil {
		return s, err
	}
	n := float64(requests)
	s.CPU = float64((r.server.cpuTime() - before).Microseconds()) / n
	if after := r.server.mallocs(ctx); after > 0 {
		s.Mallocs = (after - mallocs) / n
	}
	s.Resident = r.server.resident()
	if s.BadStatus > 0 && !r.load.refused {
		return s, fmt.Errorf("%d of %d responses had a status other than 2xx or 3xx", s.BadStatus, requests)
	}
	return s, nil
}

// median returns the middle of what f gives for the samples.
func (r *row) median(f func(sample) float64) float64 {
	list := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		list[i] = f(s)
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// ratios are those of the processor times to those of base, round by round, in order
// of size.
func (r *row) ratios(base *row) []float64 {
	list := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		list[i] = s.CPU / base.Samples[i].CPU
	}
	slices.Sort(list)
	return list
}

// ratio is the median of the ratios.
func (r *row) ratio(base *row) float64 {
	list := r.ratios(base)
	return list[len(list)/2]
}
