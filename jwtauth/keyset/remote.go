package keyset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/jwtauth/token"
)

// maxDocument is the longest answer that is read, in bytes.
const maxDocument = 1 << 20

// Timing is when a key set is fetched.
type Timing struct {
	// Timeout of one fetch, discovery and keys together.
	Timeout time.Duration
	// Cooldown is the shortest time between the begin of two fetches, but for
	// those of the schedule.
	Cooldown time.Duration
	// Wait is the longest that a request waits for a fetch.
	Wait time.Duration
	// Refresh is the time between fetches by schedule where the source names
	// none, and Least and Most bound what it names in Cache-Control.
	Refresh, Least, Most time.Duration
	// Stale is how long the last good set outlives its source.
	Stale time.Duration
}

// DefaultTiming is what gateways use.
var DefaultTiming = Timing{
	Timeout: 5 * time.Second, Cooldown: 30 * time.Second, Wait: 2 * time.Second,
	Refresh: 10 * time.Minute, Least: 5 * time.Minute, Most: time.Hour, Stale: 24 * time.Hour,
}

// Options describe a key set at a URL.
type Options struct {
	// URL of the key set, or of an OpenID issuer.
	URL string
	// Discovery takes the URL for an issuer, whose configuration names the key
	// set (OpenID Connect Discovery 1.0 §4).
	Discovery bool
	// Algorithms that are accepted; none accepts all that the keys can do.
	Algorithms []string
	// AllowHTTP accepts keys over plain http from other machines.
	AllowHTTP bool
	// Observe is told of each fetch: ok, unchanged or error. left are the keys
	// of a new set that were left out.
	Observe func(result string, left []error, err error)
	// Timing; zero is DefaultTiming.
	Timing Timing
	// Transport; nil is one with bounds of its own.
	Transport http.RoundTripper
}

// Remote is a key set from a URL, fetched in the background. A request waits
// for it only if its key is unknown, and then a bounded time.
type Remote struct {
	Options
	url    string
	client *http.Client
	now    func() time.Time

	set     atomic.Pointer[Set]
	fetched atomic.Int64 // Unix nanoseconds of the last good fetch

	mu       sync.Mutex
	tried    time.Time     // guarded by mu: begin of the last fetch
	running  chan struct{} // guarded by mu: closed when the fetch that runs ends
	lifetime time.Duration // guarded by mu: until the next scheduled fetch
	started  bool          // guarded by mu
	closed   bool          // guarded by mu
	begun    atomic.Bool   // started, for the way of every request

	etag    string // used by the one fetch that runs
	keysURL string // likewise

	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}
}

// CheckURL refuses addresses whose keys anybody on the way could replace.
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
		o.Timing = DefaultTiming
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Remote{Options: o, url: o.URL, now: time.Now, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	if o.Discovery {
		r.url = strings.TrimSuffix(o.URL, "/") + "/.well-known/openid-configuration"
	}
	transport := o.Transport
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.MaxResponseHeaderBytes = 64 << 10
		own.MaxIdleConnsPerHost = 1
		transport = own
	}
	r.client = &http.Client{
		Transport: transport,
		Timeout:   o.Timing.Timeout,
		// A redirect to another host would let it choose the keys.
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				return errors.New("redirect to another host")
			}
			return nil
		},
	}
	return r
}

// Start begins to fetch. It may be called more than once; the first use of the
// keys does it too.
func (r *Remote) Start() {
	if r.begun.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.closed {
		return
	}
	r.started = true
	r.begun.Store(true)
	r.start()
	go r.run()
}

// Keys returns the last good set, unless its source has been away for too long.
func (r *Remote) Keys() *Set {
	r.Start()
	set := r.set.Load()
	if set != nil && r.Age() > r.Timing.Stale {
		return nil
	}
	return set
}

// Age returns the time since the last good fetch.
func (r *Remote) Age() time.Duration {
	at := r.fetched.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(r.now().UnixNano() - at)
}

// Refresh fetches for an unknown key, all requests together once, and no more
// often than the cooldown whatever keys are asked for.
func (r *Remote) Refresh(ctx context.Context) *Set {
	r.Start()
	r.mu.Lock()
	running := r.running
	if running == nil {
		if r.closed || r.now().Sub(r.tried) < r.Timing.Cooldown {
			r.mu.Unlock()
			return r.Keys()
		}
		running = r.start()
	}
	r.mu.Unlock()
	timer := time.NewTimer(r.Timing.Wait)
	defer timer.Stop()
	select {
	case <-running:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.Keys()
}

// start begins a fetch; r.mu is held and none runs.
func (r *Remote) start() chan struct{} {
	r.tried = r.now() // claimed before, whatever comes of it
	running := make(chan struct{})
	r.running = running
	go func() {
		defer close(running)
		lifetime := r.fetch()
		r.mu.Lock()
		r.running, r.lifetime = nil, lifetime
		r.mu.Unlock()
	}()
	return running
}

// run refreshes in the background until Destruct.
func (r *Remote) run() {
	defer close(r.done)
	for {
		r.mu.Lock()
		running := r.running
		wait := r.lifetime - r.now().Sub(r.tried)
		if running == nil && wait <= 0 {
			running = r.start()
		}
		r.mu.Unlock()
		if running != nil {
			// A fetch for an unknown key counts as one of the schedule.
			<-running
			if r.ctx.Err() != nil {
				return
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			timer.Stop()
			r.mu.Lock()
			running := r.running
			r.mu.Unlock()
			if running != nil {
				<-running
			}
			return
		}
	}
}

// jitter spreads the fetches of many gateways: up to a tenth earlier.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// schedule returns the time to the next fetch after an answer: what its
// Cache-Control says (RFC 9111 §5.2.2), within bounds.
func (r *Remote) schedule(h http.Header) time.Duration {
	d := r.Timing.Refresh
	for _, value := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(value, ",") {
			name, arg, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-cache":
				return jitter(r.Timing.Least)
			case "max-age":
				seconds, err := strconv.ParseInt(strings.Trim(arg, `"`), 10, 32)
				if err != nil || seconds < 0 {
					continue
				}
				age, err := strconv.ParseInt(h.Get("Age"), 10, 32)
				if err != nil || age < 0 {
					age = 0
				}
				d = min(max(time.Duration(seconds-age)*time.Second, r.Timing.Least), r.Timing.Most)
			}
		}
	}
	return jitter(d)
}

// fetch gets the set once, keeps it if it is good, and returns the time to the
// next fetch: soon, if this one failed.
func (r *Remote) fetch() time.Duration {
	ctx, cancel := context.WithTimeout(r.ctx, r.Timing.Timeout)
	defer cancel()
	result, left, lifetime, err := r.fetchOnce(ctx)
	if err != nil {
		// Not earlier than the cooldown.
		lifetime = r.Timing.Cooldown + rand.N(r.Timing.Cooldown/5+1)
	}
	if r.ctx.Err() == nil && r.Observe != nil {
		r.Observe(result, left, err)
	}
	return lifetime
}

func (r *Remote) fetchOnce(ctx context.Context) (result string, left []error, lifetime time.Duration, err error) {
	// What an answer may make of parsers that are not ours must not end the gateway.
	defer func() {
		if p := recover(); p != nil {
			result, left, lifetime, err = "error", nil, 0, fmt.Errorf("panic: %v", p)
		}
	}()
	address := r.url
	if r.Discovery {
		if address, err = r.discover(ctx); err != nil {
			return "error", nil, 0, err
		}
	}
	data, header, err := r.get(ctx, address, r.etag)
	if err != nil {
		return "error", nil, 0, err
	}
	if data == nil {
		r.fetched.Store(r.now().UnixNano())
		return "unchanged", nil, r.schedule(header), nil
	}
	set, left, err := ParseJWKS(data, r.Algorithms, false)
	if err != nil {
		return "error", left, 0, err
	}
	r.etag = header.Get("ETag")
	if old := r.set.Load(); old == nil || !old.equal(set) {
		r.set.Store(set)
	} else {
		left = nil // told before
	}
	r.fetched.Store(r.now().UnixNano())
	return "ok", left, r.schedule(header), nil
}

// discover reads the issuer's configuration (OpenID Connect Discovery 1.0 §4).
func (r *Remote) discover(ctx context.Context) (string, error) {
	data, _, err := r.get(ctx, r.url, "")
	if err != nil {
		return "", err
	}
	// Exact names, none of them twice: a struct would take `ISSUER` too.
	document, err := token.DecodeObject(string(data))
	if err != nil {
		return "", errors.New("the issuer's configuration is not JSON")
	}
	if document["issuer"] != r.URL {
		return "", errors.New("the configuration is of another issuer")
	}
	address, _ := document["jwks_uri"].(string)
	if err := CheckURL(address, r.AllowHTTP); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	if address != r.keysURL {
		r.keysURL, r.etag = address, ""
	}
	return address, nil
}

// get returns the body, or nil if what has the tag is still current.
func (r *Remote) get(ctx context.Context, address, etag string) (data []byte, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" && r.set.Load() != nil {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "":
		return nil, resp.Header, nil
	case resp.StatusCode != http.StatusOK:
		return nil, nil, errors.New("status " + strconv.Itoa(resp.StatusCode))
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxDocument {
		return nil, nil, fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	if data == nil {
		data = []byte{}
	}
	return data, resp.Header, nil
}

// Destruct ends the fetching.
func (r *Remote) Destruct() error {
	r.cancel()
	r.mu.Lock()
	started := r.started
	r.closed = true
	r.mu.Unlock()
	if started {
		<-r.done
	}
	r.client.CloseIdleConnections()
	return nil
}

// Interface guard
var _ Source = (*Remote)(nil)
