package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soak sends many requests of every kind to one gateway and loads its configuration
// anew every few seconds. It fails if a response has a status that it should not
// have, or if memory or goroutines grow.
type soak struct {
	requests int64
	// numbers is how many different paths, users and queries there are.
	numbers int
	// reload is the time between two loads of the configuration.
	reload time.Duration
	// log is called with each sample.
	log func(format string, args ...any)

	server  *server
	admin   string
	backend *http.Server
	target  string // address of the backend
	secret  string

	sent    atomic.Int64
	retried atomic.Int64 // sent again, as the connection was closed
	failure atomic.Pointer[string]
	loads   int
}

// soakSample is what the gateway uses after a collection of its garbage.
type soakSample struct {
	sent             int64
	heap, goroutines float64
	resident         int64
}

// soakSite is the gateway under soak; NUMBER differs from load to load.
const soakSite = `{
	admin ADMIN
	auto_https off
	persist_config off
	grace_period 2s
	log {
		level ERROR
	}
	REDIS
}
http://ADDR {
	header X-Load NUMBER
	tentagate soak {
		jwt SECRET
		ratelimit 50000000/1m
		ratelimit /api/limited/* 20/1m
		cors https://app.example.com
		cache {
			memory 8MiB
		}
		service plain http://BACKEND
		service cached http://BACKEND
		service limited http://BACKEND
		service flaky http://BACKEND
	}
}
`

// run sends the requests, and returns what was measured.
func (s *soak) run(ctx context.Context, l *lab) error {
	if err := s.start(l); err != nil {
		return err
	}
	defer func() { _ = s.backend.Close() }()
	idle, err := s.sample(ctx)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	for i := range clients {
		workers.Go(func() { s.client(work, i) })
	}
	var samples []soakSample
	ticks := time.NewTicker(s.reload)
	defer ticks.Stop()
	for (s.sent.Load() < s.requests || len(samples) < leastSamples) && s.failure.Load() == nil && work.Err() == nil {
		select {
		case <-work.Done():
		case <-ticks.C:
			if err := s.load(work); err != nil {
				return err
			}
			sample, err := s.sample(work)
			if err != nil {
				return err
			}
			samples = append(samples, sample)
			s.log("%d requests (%d sent again), %d loads, heap %.1f MiB, resident %d MiB, %.0f goroutines", sample.sent, s.retried.Load(), s.loads, sample.heap/(1<<20), sample.resident>>20, sample.goroutines)
		}
	}
	stop()
	workers.Wait()
	if text := s.failure.Load(); text != nil {
		return errors.New(*text)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(flat(samples), s.ended(ctx, idle.goroutines))
}

// ended waits until the goroutines of requests, connections and former configurations
// are gone.
func (s *soak) ended(ctx context.Context, before float64) error {
	const few = 4 // what is started when it is first needed
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		after, err := s.sample(ctx)
		if err != nil || after.goroutines <= before+few {
			s.log("%.0f goroutines before, %.0f after", before, after.goroutines)
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%.0f goroutines are left, there were %.0f before", after.goroutines, before)
		}
	}
}

// Samples are compared by quarters. Resident memory follows the heap slowly, so that
// a short soak says nothing of it.
const (
	clients         = 32
	leastSamples    = 16
	residentSamples = 40
)

// start starts the backend and the gateway.
func (s *soak) start(l *lab) error {
	var err error
	if s.backend, s.target, err = soakBackend(); err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	if s.admin, err = freeAddr(); err != nil {
		return err
	}
	s.server = &server{name: "tentagate", addr: addr, metrics: "http://" + s.admin + "/metrics"}
	s.secret = l.secret
	file, err := l.file("Caddyfile", s.config())
	if err != nil {
		return err
	}
	_, err = l.start(s.server, serverCPU, l.bin, "run", "--config", file, "--adapter", "caddyfile")
	return err
}

// config is the configuration of the next load.
func (s *soak) config() string {
	redis := ""
	if url := os.Getenv("REDIS_URL"); url != "" {
		redis = "tentagate {\n\t\tredis " + url + "\n\t}"
	}
	s.loads++
	return strings.NewReplacer("ADMIN", s.admin, "ADDR", s.server.addr, "NUMBER", fmt.Sprint(s.loads), "SECRET", s.secret,
		"BACKEND", s.target, "REDIS", redis).Replace(soakSite)
}

// load gives the gateway another configuration.
func (s *soak) load(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.admin+"/load", strings.NewReader(s.config()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("loading the configuration: %s: %s", resp.Status, text)
	}
	return err
}

// sample collects the garbage and reads what is left.
func (s *soak) sample(ctx context.Context) (soakSample, error) {
	if err := s.server.collect(ctx); err != nil {
		return soakSample{}, err
	}
	one := soakSample{
		sent: s.sent.Load(), resident: s.server.resident(),
		heap: s.server.metric(ctx, "go_memstats_heap_alloc_bytes"), goroutines: s.server.metric(ctx, "go_goroutines"),
	}
	if one.heap == 0 || one.goroutines == 0 || one.resident == 0 {
		return one, errors.New("the gateway does not tell what it uses")
	}
	return one, nil
}

// flat returns an error if the last quarter of the samples is more than a tenth above
// the second. In the first the caches fill.
func flat(samples []soakSample) error {
	n := len(samples) / 4
	before, after := samples[n:2*n], samples[len(samples)-n:]
	const resident = "resident memory in MiB"
	var errs []error
	for _, m := range []struct {
		name  string
		slack float64 // what differs at any time
		of    func(soakSample) float64
	}{
		{"heap in MiB", 8, func(s soakSample) float64 { return s.heap / (1 << 20) }},
		{resident, 16, func(s soakSample) float64 { return float64(s.resident) / (1 << 20) }},
		{"goroutines", 4 * clients, func(s soakSample) float64 { return s.goroutines }},
	} {
		if m.name == resident && len(samples) < residentSamples {
			continue
		}
		if was, is := middle(before, m.of), middle(after, m.of); is > was*1.1+m.slack {
			errs = append(errs, fmt.Errorf("%s grew from %.0f to %.0f", m.name, was, is))
		}
	}
	return errors.Join(errs...)
}

// middle is the median of what f gives.
func middle(samples []soakSample, f func(soakSample) float64) float64 {
	list := make([]float64, len(samples))
	for i, s := range samples {
		list[i] = f(s)
	}
	slices.Sort(list)
	return list[len(list)/2]
}
