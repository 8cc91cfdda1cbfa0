// Package fetch keeps the OpenAPI documents of services: it gets them in the
// background, again from time to time, and keeps the last good ones.
package fetch

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/pythopus/tentagate/apidocs/internal/document"
)

// Options say where a document is.
type Options struct {
	// URLs of the document, which are tried in this order; none for a file.
	URLs []string
	// File with the document.
	File string
	// H2C: the services speak HTTP/2 without TLS.
	H2C bool
	// Interval is the time between two fetches.
	Interval time.Duration
	// Delay is the time from Start to the first fetch, unless Refresh asks for it
	// earlier.
	Delay time.Duration
	// Timeout of one fetch.
	Timeout time.Duration
	// Prepare is called with a new document before Status returns it; nil is none.
	Prepare func(d *document.Document)
	// Observe is called after each fetch: with ok, unchanged, none or error.
	Observe func(result string, err error)
	// Transport; nil is one with bounds of its own.
	Transport http.RoundTripper
}

// The results of a fetch, as metrics and logs have them.
const (
	// OK: there is a new document.
	OK = "ok"
	// Unchanged: the document is the one from before.
	Unchanged = "unchanged"
	// None: the service has no document.
	None = "none"
	// Failed: the service did not answer properly, or the document cannot be used.
	Failed = "error"
)

// Status is what is known of a document.
type Status struct {
	// Document is the last good one, or nil.
	Document *document.Document
	// From is where it came from.
	From string
	// Fetched is when it was last known to be current; zero: never.
	Fetched time.Time
	// Result of the last fetch; "" before the first.
	Result string
	// Err is why the last fetch had no document, or nil.
	Err error
}

// retry is the pause after the first fetch that failed. It doubles up to the
// interval of refreshes.
const retry = 2 * time.Second

// Source is the document of one service.
type Source struct {
	Options
	client *http.Client

	mu      sync.Mutex
	status  Status // guarded by mu
	started bool   // guarded by mu
	closed  bool   // guarded by mu

	// Used by the goroutine that fetches.
	failures int
	tag      tag
	sum      [32]byte // of the text that was read last
	readErr  error    // what was wrong with it

	hurry   chan struct{}      // ends the delay
	fetched chan struct{}      // closed after the first fetch
	wake    chan chan struct{} // asks for a fetch
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
}

// New describes a source. It fetches nothing before Start; Destruct ends it.
func New(o Options) *Source {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{Options: o, ctx: ctx, cancel: cancel, done: make(chan struct{}), wake: make(chan chan struct{}), hurry: make(chan struct{}), fetched: make(chan struct{})}
	s.client = newClient(o)
	return s
}

// Adopt takes over what another source knows of the document. It is used until the first
// fetch, and is to be called before Start.
func (s *Source) Adopt(known Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = Status{Document: known.Document, From: known.From, Fetched: known.Fetched}
}

// Start begins to fetch. It may be called more than once.
func (s *Source) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return
	}
	s.started = true
	go s.run()
}

// Status returns what is known.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Refresh fetches now, and returns when that is done.
func (s *Source) Refresh(ctx context.Context) {
	s.Start()
	fetched := make(chan struct{})
	select {
	case s.wake <- fetched:
	case <-s.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-fetched:
	case <-s.done:
	case <-ctx.Done():
	}
}

// First waits until the document was fetched for the first time, and ends the delay.
func (s *Source) First(ctx context.Context) {
	s.Start()
	for hurry := s.hurry; ; hurry = nil {
		select {
		case hurry <- struct{}{}:
			continue
		case <-s.fetched:
		case <-s.done:
		case <-ctx.Done():
		}
		return
	}
}

// wait waits for the first fetch. It returns who asked for it by Refresh, if that ended
// the delay, and false at the end.
func (s *Source) wait() (asked chan struct{}, ok bool) {
	timer := time.NewTimer(s.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.hurry:
	case asked = <-s.wake:
	case <-s.ctx.Done():
		return nil, false
	}
	return asked, true
}

func (s *Source) run() {
	defer close(s.done)
	asked, ok := s.wait()
	if !ok {
		return
	}
	for first := true; ; first = false {
		pause := s.fetch()
		if first {
			close(s.fetched)
		}
		if asked != nil {
			close(asked)
			asked = nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case asked = <-s.wake:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// fetch gets the document once, and returns the time to the next fetch.
func (s *Source) fetch() time.Duration {
	ctx, cancel := context.WithTimeout(s.ctx, s.Timeout)
	defer cancel()
	d, from, result, err := s.get(ctx)
	if s.ctx.Err() != nil {
		return s.interval()
	}
	if result == OK && s.Prepare != nil {
		s.Prepare(d)
	}
	s.mu.Lock()
	s.status.Result, s.status.Err = result, err
	if result == OK {
		s.status.Document, s.status.From = d, from
	}
	if result == OK || result == Unchanged {
		s.status.Fetched = time.Now()
	}
	s.mu.Unlock()
	if s.Observe != nil {
		s.Observe(result, err)
	}
	if result != Failed {
		s.failures = 0
		return s.interval()
	}
	return s.pause()
}

// interval returns the time to the next fetch, up to a tenth earlier, so that many
// gateways do not fetch at once.
func (s *Source) interval() time.Duration { return s.Interval - rand.N(s.Interval/10+1) }

// pause returns the time to the next fetch after one that failed.
func (s *Source) pause() time.Duration {
	pause := s.Interval
	if s.failures < 16 {
		pause = min(retry<<s.failures, pause)
		s.failures++
	}
	return pause + rand.N(pause/10+1)
}

// Destruct ends the fetching.
func (s *Source) Destruct() error {
	s.cancel()
	s.mu.Lock()
	started := s.started
	s.closed = true
	s.mu.Unlock()
	if started {
		<-s.done
	}
	s.client.CloseIdleConnections()
	return nil
}
