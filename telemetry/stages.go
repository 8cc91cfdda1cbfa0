package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/stage"
)

// stageBounds are the upper bounds of the buckets.
var stageBounds = [...]time.Duration{
	50 * time.Microsecond, 250 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, 2500 * time.Millisecond, 10 * time.Second,
}

// stageHistogram is a histogram that costs two atomic additions: a request has up to
// seven of them.
type stageHistogram struct {
	buckets [len(stageBounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

func (h *stageHistogram) observe(d time.Duration) {
	i := 0
	for i < len(stageBounds) && d > stageBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// collect sends the histogram, unless nothing was observed.
func (h *stageHistogram) collect(ch chan<- prometheus.Metric, labels ...string) {
	cumulative := make(map[float64]uint64, len(stageBounds))
	count := uint64(0)
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(stageBounds) {
			cumulative[stageBounds[i].Seconds()] = count
		}
	}
	if count > 0 {
		ch <- prometheus.MustNewConstHistogram(stageDesc, count, time.Duration(h.sum.Load()).Seconds(), cumulative, labels...)
	}
}

// collectStages collects the stages of all services.
func collectStages(ch chan<- prometheus.Metric) {
	for _, s := range services.Values() {
		for i := range s.stages {
			s.stages[i].collect(ch, s.label, stage.Stage(i).String())
		}
	}
}
