package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zone is a resolver whose answer the test changes.
type zone struct {
	mu    sync.Mutex
	ips   []string
	err   error
	asked int
}

func (z *zone) set(err error, ips ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ips, z.err = ips, err
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func (z *zone) LookupNetIP(ctx context.Context, network, host string) (found []netip.Addr, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if network != "ip" || host != "users" {
		return nil, errors.New("asked for something else")
	}
	for _, ip := range z.ips {
		found = append(found, netip.MustParseAddr(ip))
	}
	return found, cmpErr(ctx, z.err)
}

func cmpErr(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return ctx.Err()
}

type change struct {
	addresses []string
	err       error
}

func TestName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{}
		z.set(nil, "10.0.0.2", "::ffff:10.0.0.1", "10.0.0.2")
		var changes []change
		n := New(Options{
			Resolver: z, Network: "ip", Host: "users", Port: "8000", Refresh: 10 * time.Second,
			OnChange: func(addresses []string, err error) { changes = append(changes, change{addresses, err}) },
		})
		want := func(when string, addresses ...string) {
			t.Helper()
			synctest.Wait()
			if got := n.Addresses(); !slices.Equal(got, addresses) {
				t.Errorf("%s: got %v, want %v", when, got, addresses)
			}
			found := len(addresses)
			if addresses[0] == "users:8000" {
				found = 0
			}
			if n.Found() != found {
				t.Errorf("%s: %d are found, want %d", when, n.Found(), found)
			}
		}
		want("before it started", "users:8000")
		n.Start()
		n.Start()
		want("after the first look-up", "10.0.0.1:8000", "10.0.0.2:8000")

		z.set(nil, "10.0.0.2", "fd00::1")
		time.Sleep(9 * time.Second)
		want("before the next", "10.0.0.1:8000", "10.0.0.2:8000")
		time.Sleep(time.Second)
		want("after it", "10.0.0.2:8000", "[fd00::1]:8000")

		z.set(&net.DNSError{Err: "server misbehaving", IsTemporary: true})
		time.Sleep(30 * time.Second)
		want("while the DNS is down", "10.0.0.2:8000", "[fd00::1]:8000")
		if n.Failures() != 3 {
			t.Errorf("%d failures, want 3", n.Failures())
		}
		z.set(&net.DNSError{Err: "no such host", IsNotFound: true})
		time.Sleep(10 * time.Second)
		want("without any address", "users:8000")
		z.set(nil)
		time.Sleep(10 * time.Second)
		want("with an empty answer", "users:8000")

		// A request that found an address dead asks for a look-up now, but many
		// of them do not ask the DNS each.
		z.set(nil, "10.0.0.9")
		time.Sleep(2 * time.Second)
		before := z.count()
		for range 100 {
			n.Refresh()
		}
		want("when asked for", "10.0.0.9:8000")
		for range 100 {
			n.Refresh()
			synctest.Wait()
		}
		if asked := z.count() - before; asked != 1 {
			t.Errorf("%d look-ups at once, want 1", asked)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if asked := z.count() - before; asked != 2 {
			t.Errorf("%d look-ups a second later, want 2", asked)
		}
		n.Close()
		if len(changes) != 5 {
			t.Errorf("told of %d changes, want 5: %v", len(changes), changes)
		}
		if changes[2].err == nil || changes[4].err != nil {
			t.Errorf("got %v", changes)
		}
	})
}

// A name whose first look-up fails is reported, and closing does not wait for the
// DNS.
func TestNameUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		n := New(Options{
			Resolver: hanging{}, Network: "ip", Host: "users", Port: "80", Refresh: time.Minute,
			OnChange: func(_ []string, err error) {
				if told++; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			},
		})
		n.Start()
		time.Sleep(3*time.Minute + 3*Timeout)
		synctest.Wait()
		if got := n.Addresses(); told != 1 || !slices.Equal(got, []string{"users:80"}) {
			t.Errorf("told %d times; %v", told, got)
		}
		n.Close()
	})
}

// hanging is a resolver that does not answer.
type hanging struct{}

func (hanging) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
