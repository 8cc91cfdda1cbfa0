// Package lookup keeps the addresses of a DNS name up to date in the background,
// so that no request waits for the DNS.
package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Timeout is how long one look-up may take.
const Timeout = 5 * time.Second

// earliest is the time that passes between two look-ups at least, however often
// one is asked for.
const earliest = time.Second

// Resolver looks names up, as net.Resolver does. The network is ip, ip4 or ip6.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options describe a name.
type Options struct {
	Resolver Resolver
	// Network is ip, ip4 or ip6.
	Network string
	Host    string
	Port    string
	// Refresh is the time between two look-ups.
	Refresh time.Duration
	// OnChange is called after each look-up whose outcome differs from the one before:
	// the addresses in use, and why they may be old. It may be nil.
	OnChange func(addresses []string, err error)
}

// Name is a DNS name whose addresses are known as of the last look-up.
type Name struct {
	options   Options
	addresses atomic.Pointer[[]string]
	found     atomic.Int64
	failures  atomic.Int64

	soon  chan struct{} // asks for a look-up before its time
	start sync.Once
	end   context.CancelFunc
	ctx   context.Context //nolint:containedctx // the life of the goroutine
	done  sync.WaitGroup
}

// New returns a name that is not looked up yet: until then its one address is the
// name itself.
func New(o Options) *Name {
	n := &Name{options: o, soon: make(chan struct{}, 1)}
	n.ctx, n.end = context.WithCancel(context.Background())
	n.addresses.Store(&[]string{net.JoinHostPort(o.Host, o.Port)})
	return n
}

// Start begins to look the name up. Later calls do nothing.
func (n *Name) Start() {
	n.start.Do(func() { n.done.Go(n.run) })
}

// Close ends the look-ups.
func (n *Name) Close() {
	n.end()
	n.done.Wait()
}

// Addresses returns what to connect to, host:port, never nothing. The caller does
// not change it.
func (n *Name) Addresses() []string { return *n.addresses.Load() }

// Found returns how many of the addresses are from the DNS: none while it has none, and
// before it has answered for the first time.
func (n *Name) Found() int { return int(n.found.Load()) }

// Failures returns how many look-ups got no answer.
func (n *Name) Failures() int64 { return n.failures.Load() }

// Refresh asks for a look-up as soon as possible, and does not wait for it.
func (n *Name) Refresh() {
	select {
	case n.soon <- struct{}{}:
	default: // asked for already
	}
}

func (n *Name) run() {
	var last error
	for first := true; ; first = false {
		changed, err := n.look()
		if n.ctx.Err() != nil {
			return
		}
		if f := n.options.OnChange; f != nil && (changed || first && err != nil || (err == nil) != (last == nil)) {
			f(n.Addresses(), err)
		}
		last = err
		if !n.sleep(min(earliest, n.options.Refresh)) {
			return
		}
		n.wait(n.options.Refresh - earliest)
	}
}

// sleep waits, and reports whether the name is still in use.
func (n *Name) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// wait waits until the next look-up is due or asked for.
func (n *Name) wait(d time.Duration) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.soon:
	case <-n.ctx.Done():
	}
}

// look looks the name up once, and reports whether its addresses are others now.
func (n *Name) look() (changed bool, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, Timeout)
	defer cancel()
	o := &n.options
	found, err := o.Resolver.LookupNetIP(ctx, o.Network, o.Host)
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: o.Host, IsNotFound: true}
	}
	var addresses []string
	switch {
	case err == nil:
		for _, ip := range found {
			addresses = append(addresses, net.JoinHostPort(ip.Unmap().String(), o.Port))
		}
		// The same order each time, for policies that go by it.
		slices.Sort(addresses)
		addresses = slices.Compact(addresses)
		n.found.Store(int64(len(addresses)))
	case notFound(err):
		// There are none, as the DNS says: connecting to the old ones would only
		// take longer to fail.
		addresses = []string{net.JoinHostPort(o.Host, o.Port)}
		n.found.Store(0)
	default:
		n.failures.Add(1)
		return false, err // the old addresses stay in use
	}
	changed = !slices.Equal(addresses, n.Addresses())
	n.addresses.Store(&addresses)
	return changed, err
}

func notFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}
