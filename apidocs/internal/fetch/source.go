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
	"github.com/pythopus/tentagate/internal/refresh"
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

	loop *refresh.Loop

	mu     sync.Mutex
	status Status // guarded by mu

	// Used by the one fetch that runs.
	failures int
	tag      tag
	sum      [32]byte // of the text that was read last
	readErr  error    // what was wrong with it
}

// New describes a source. It fetches nothing before Start; Destruct ends it.
func New(o Options) *Source {
	s := &Source{Options: o, client: newClient(o)}
	s.loop = refresh.New(s.fetch)
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
func (s *Source) Start() { s.loop.Start(s.Delay) }

// Status returns what is known.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Refresh fetches now, and returns when that is done.
func (s *Source) Refresh(ctx context.Context) {
	s.Start()
	_ = s.loop.Again(ctx)
}

// First waits until the document was fetched for the first time, and ends the delay.
func (s *Source) First(ctx context.Context) {
	s.Start()
	s.loop.First(ctx)
}

// fetch gets the document once, and returns the time to the next fetch.
func (s *Source) fetch(life context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(life, s.Timeout)
	defer cancel()
	d, from, result, err := s.get(ctx)
	if life.Err() != nil {
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
	s.loop.Close()
	s.client.CloseIdleConnections()
	return nil
}
