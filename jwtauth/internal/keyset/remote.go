package keyset

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/internal/refresh"
)

// Timing is when a key set is fetched.
type Timing struct {
	// Timeout of one fetch, discovery and keys together.
	Timeout time.Duration
	// Cooldown is the shortest time between the starts of two unscheduled fetches.
	Cooldown time.Duration
	// Wait is the longest that a request waits for a fetch.
	Wait time.Duration
	// Refresh is the time between fetches by schedule where the source names
	// none, and Least and Most bound what it names in Cache-Control.
	Refresh, Least, Most time.Duration
	// Stale is how long the last good set is used while its source is unreachable.
	Stale time.Duration
	// Retry is the pause after the first fetch that failed while there are no
	// keys. It doubles up to MostRetry.
	Retry, MostRetry time.Duration
}

// DefaultTiming is what gateways use.
func DefaultTiming() Timing {
	return Timing{
		Timeout: 5 * time.Second, Cooldown: 30 * time.Second, Wait: 2 * time.Second,
		Refresh: 10 * time.Minute, Least: 5 * time.Minute, Most: time.Hour, Stale: 24 * time.Hour,
		Retry: 250 * time.Millisecond, MostRetry: 5 * time.Second,
	}
}

// Options describe a key set at a URL.
type Options struct {
	// URL of the key set, or of an OpenID issuer.
	URL string
	// Discovery takes the URL for an issuer, whose configuration names the key
	// set (OpenID Connect Discovery 1.0 §4).
	Discovery bool
	// Issuers that the configuration may name instead of the URL, compared
	// exactly: for an issuer that is reached under another name than its own.
	Issuers []string
	// Algorithms that are accepted; none accepts all that the keys can do.
	Algorithms []string
	// AllowHTTP accepts keys over plain http from other machines.
	AllowHTTP bool
	// CAFile is a PEM file of the authorities that the server's certificate must be
	// issued by, instead of those of the system. It is read for each fetch.
	CAFile string
	// TokenFile is a file of a bearer token that the server asks for. It is read
	// for each fetch.
	TokenFile string
	// Observe is called after each fetch: ok, unchanged or error. skipped are the
	// reasons why keys of a new set are not used.
	Observe func(result string, skipped []error, err error)
	// Timing; zero is DefaultTiming.
	Timing Timing
	// Transport; nil is one with bounds of its own.
	Transport http.RoundTripper
}

// Remote is a key set from a URL, fetched in the background. A request waits
// for it only if no key verifies its token, and then a bounded time.
type Remote struct {
	Options
	url    string
	client *http.Client
	now    func() time.Time

	set     atomic.Pointer[Set]
	fetched atomic.Int64 // Unix nanoseconds of the last good fetch
	failure atomic.Pointer[failure]

	loop *refresh.Loop

	// Used by the one fetch that runs.
	etag     string
	keysURL  string
	ca       []byte // what the transport was made of
	failures int    // since there were no keys
}

// CheckURL refuses URLs whose keys could be replaced on the network path.
func CheckURL(text string, allowHTTP bool) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("it is not a URL such as https://issuer.example/keys")
	}
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (allowHTTP || loopback(u.Hostname())):
		return nil
	}
	return errors.New("keys are only fetched over https, or from this machine; `allow_http` lifts that")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// NewRemote describes a key set. It makes no request before Start; Destruct
// ends it.
func NewRemote(o Options) *Remote {
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming()
	}
	r := &Remote{Options: o, url: o.URL, now: time.Now}
	r.loop = refresh.New(r.fetch)
	if o.Discovery {
		r.url = configurationURL(o.URL)
	}
	transport := o.Transport
	if transport == nil {
		transport = refresh.NewTransport()
	}
	r.client = refresh.NewClient(transport)
	r.client.Timeout = o.Timing.Timeout
	return r
}

// Start begins to fetch. It may be called more than once; the first use of the
// keys does it too.
func (r *Remote) Start() { r.loop.Start(0) }

// Keys returns the last good set, unless its source has been unreachable for too long.
func (r *Remote) Keys() *Set {
	r.Start()
	return r.usable()
}

func (r *Remote) usable() *Set {
	set := r.set.Load()
	if set != nil && r.Age() > r.Timing.Stale {
		return nil
	}
	return set
}

// Current is Keys that does not begin to fetch.
func (r *Remote) Current() *Set { return r.usable() }

// Age returns the time since the last good fetch.
func (r *Remote) Age() time.Duration {
	at := r.fetched.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(r.now().UnixNano() - at)
}

// Next returns the time to the next fetch: zero while one runs.
func (r *Remote) Next() time.Duration { return r.loop.Next() }

// Refresh fetches for a key that is unknown or does not fit, all requests
// together once, and no more often than the cooldown whatever keys are asked
// for. While there are no keys at all, fetches have a schedule of their own.
func (r *Remote) Refresh(ctx context.Context) *Set {
	r.Start()
	running := r.loop.Run(func(last time.Time) bool { return r.now().Sub(last) >= r.Timing.Cooldown })
	if running == nil {
		return r.Keys()
	}
	timer := time.NewTimer(r.Timing.Wait)
	defer timer.Stop()
	select {
	case <-running:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.Keys()
}

// failure is the error of the last fetch, nil if it succeeded.
type failure struct{ err error }

// Failure returns the error of the last fetch.
func (r *Remote) Failure() error {
	if f := r.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// Now fetches whatever the cooldown says, and returns its error.
func (r *Remote) Now(ctx context.Context) error {
	r.Start()
	if err := r.loop.Again(ctx); err != nil {
		return err
	}
	return r.Failure()
}

// Destruct ends the fetching.
func (r *Remote) Destruct() error {
	r.loop.Close()
	r.client.CloseIdleConnections()
	return nil
}
