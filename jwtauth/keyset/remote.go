package keyset

import (
	"context"
	"encoding/json"
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
)

const (
	fetchTimeout = 5 * time.Second
	maxDocument  = 1 << 20 // bytes
	cooldown     = 30 * time.Second
	refreshWait  = 2 * time.Second // longest wait of a request for a fetch
	minRefresh   = 10 * time.Minute
	maxStale     = 24 * time.Hour // how long the last good set outlives its source
)

// Remote is a key set from a URL, fetched in the background. A request waits
// for it only if its key is unknown, and then a bounded time.
type Remote struct {
	url       string
	discovery bool
	issuer    string
	accepted  []string
	client    *http.Client
	observe   func(result string, err error)
	now       func() time.Time

	set     atomic.Pointer[Set]
	fetched atomic.Int64 // Unix nanoseconds of the last good fetch
	tried   atomic.Int64 // Unix nanoseconds of the last try

	mu      sync.Mutex
	running chan struct{} // guarded by mu: closed when the fetch that runs ends
	etag    string        // used by the one fetch that runs
	keysURL string        // likewise

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

// NewRemote starts to fetch a key set; Close ends it. With discovery, url is an
// OpenID issuer, whose configuration names the key set. observe is told of each
// fetch: ok, unchanged or error.
func NewRemote(address string, discovery bool, accepted []string, observe func(result string, err error)) *Remote {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Remote{
		url: address, discovery: discovery, accepted: accepted, observe: observe, now: time.Now,
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
	}
	if discovery {
		r.issuer = address
		r.url = strings.TrimSuffix(address, "/") + "/.well-known/openid-configuration"
	}
	r.client = &http.Client{
		Timeout: fetchTimeout,
		// A redirect to another host would let it choose the keys.
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				return errors.New("redirect to another host")
			}
			return nil
		},
	}
	go r.run()
	return r
}

// Keys returns the last good set, unless its source has been away for a day.
func (r *Remote) Keys() *Set {
	set := r.set.Load()
	if set != nil && r.Age() > maxStale {
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
	r.mu.Lock()
	running := r.running
	if running == nil {
		now, last := r.now().UnixNano(), r.tried.Load()
		if last != 0 && time.Duration(now-last) < cooldown {
			r.mu.Unlock()
			return r.Keys()
		}
		running = r.start()
	}
	r.mu.Unlock()
	timer := time.NewTimer(refreshWait)
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
	r.tried.Store(r.now().UnixNano()) // claimed before, whatever comes of it
	running := make(chan struct{})
	r.running = running
	go func() {
		r.fetch()
		r.mu.Lock()
		r.running = nil
		r.mu.Unlock()
		close(running)
	}()
	return running
}

// run refreshes in the background until Close.
func (r *Remote) run() {
	defer close(r.done)
	wait := time.Duration(0)
	for {
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
		r.mu.Lock()
		running := r.running
		if running == nil {
			running = r.start()
		}
		r.mu.Unlock()
		<-running
		wait = r.next()
	}
}

// next returns the time to the next background fetch, shorter while there is
// no good set.
func (r *Remote) next() time.Duration {
	d := cooldown
	if at := r.fetched.Load(); at != 0 && at >= r.tried.Load() {
		d = minRefresh
	}
	return d + rand.N(d/5)
}

// fetch gets the set once and keeps it if it is good.
func (r *Remote) fetch() {
	ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
	defer cancel()
	result, err := r.fetchOnce(ctx)
	if r.ctx.Err() == nil && r.observe != nil {
		r.observe(result, err)
	}
}

func (r *Remote) fetchOnce(ctx context.Context) (result string, err error) {
	address := r.url
	if r.discovery {
		if address, err = r.discover(ctx); err != nil {
			return "error", err
		}
	}
	data, etag, unchanged, err := r.get(ctx, address, r.etag)
	if err != nil {
		return "error", err
	}
	if unchanged {
		r.fetched.Store(r.now().UnixNano())
		return "unchanged", nil
	}
	set, _, err := ParseJWKS(data, r.accepted, false)
	if err != nil {
		return "error", err
	}
	r.etag = etag
	r.set.Store(set)
	r.fetched.Store(r.now().UnixNano())
	return "ok", nil
}

// discover reads the issuer's configuration (OpenID Connect Discovery 1.0 §4).
func (r *Remote) discover(ctx context.Context) (string, error) {
	data, _, _, err := r.get(ctx, r.url, "")
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return "", errors.New("the issuer's configuration is not JSON")
	}
	if document.Issuer != r.issuer {
		return "", errors.New("the configuration is of another issuer")
	}
	own, _ := url.Parse(r.url)
	if err := CheckURL(document.JWKSURI, own.Scheme == "http"); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	if document.JWKSURI != r.keysURL {
		r.keysURL, r.etag = document.JWKSURI, ""
	}
	return document.JWKSURI, nil
}

func (r *Remote) get(ctx context.Context, address, etag string) (data []byte, newTag string, unchanged bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", false, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" && r.set.Load() != nil {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", false, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return nil, etag, true, nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", false, errors.New("status " + strconv.Itoa(resp.StatusCode))
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, "", false, err
	}
	if len(data) > maxDocument {
		return nil, "", false, fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	return data, resp.Header.Get("ETag"), false, nil
}

// Destruct ends the fetching.
func (r *Remote) Destruct() error {
	r.cancel()
	<-r.done
	r.client.CloseIdleConnections()
	return nil
}

// Interface guard
var _ Source = (*Remote)(nil)
