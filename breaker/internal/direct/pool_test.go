package direct

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// hold starts requests that stay under way until they are released.
func hold(t *testing.T, tr *Transport, url string, n int) (end func()) {
	t.Helper()
	release := make(chan struct{})
	var begun, done sync.WaitGroup
	for range n {
		begun.Add(1)
		done.Go(func() {
			resp, err := tr.RoundTrip(request(t, http.MethodGet, url, nil))
			begun.Done()
			if err != nil {
				t.Error(err)
				return
			}
			<-release
			_, _ = io.Copy(io.Discard, resp.Body)
		})
	}
	begun.Wait()
	return func() { close(release); done.Wait() }
}

// The pool keeps no more connections than it may, of a host and in all, and those
// that were used last.
func TestIdleBounds(t *testing.T) {
	a, b := answers(t, ok), answers(t, ok)
	tr := newTransport(t, Options{MaxIdlePerHost: 3, MaxIdle: 4})
	hold(t, tr, a.url(), 5)()
	if n := tr.pool.idle; n != 3 {
		t.Errorf("%d idle connections of a host", n)
	}
	hold(t, tr, b.url(), 3)()
	tr.pool.mu.Lock()
	defer tr.pool.mu.Unlock()
	ha, hb := tr.pool.hosts[a.Addr().String()], tr.pool.hosts[b.Addr().String()]
	if tr.pool.idle != 4 || len(ha.idle) != 1 || len(hb.idle) != 3 || ha.open != 1 || hb.open != 3 {
		t.Errorf("%d idle: %d and %d, open %d and %d", tr.pool.idle, len(ha.idle), len(hb.idle), ha.open, hb.open)
	}
}

// Idle connections end with their time, and when the server closed them; hosts
// without connections are forgotten.
func TestSweep(t *testing.T) {
	mock := clock.NewMock()
	end := make(chan struct{})
	a := answers(t, ok)
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		_, _ = io.WriteString(c, ok)
		<-end
	})
	o := Options{MaxIdlePerHost: 32, IdleTimeout: 25 * time.Second, Dial: new(net.Dialer).DialContext}
	tr := New(o)
	tr.pool = newPool(tr.options, mock)
	hold(t, tr, a.url(), 2)()
	hold(t, tr, b.url(), 2)()
	count := func() [2]int {
		tr.pool.mu.Lock()
		defer tr.pool.mu.Unlock()
		return [2]int{tr.pool.idle, len(tr.pool.hosts)}
	}
	mock.Add(sweepInterval)
	if got := count(); got != [2]int{4, 2} {
		t.Errorf("%v", got)
	}
	close(end)
	eventually(t, "connections that the server closed are closed", func() bool {
		mock.Add(time.Nanosecond)
		tr.pool.sweep()
		return count() == [2]int{2, 1}
	})
	mock.Add(sweepInterval)
	if got := count(); got != [2]int{2, 1} {
		t.Errorf("%v", got)
	}
	mock.Add(sweepInterval)
	if got := count(); got != [2]int{} {
		t.Errorf("after the timeout: %v", got)
	}
	if tr.pool.sweeper != nil {
		t.Error("nothing is left, and yet swept")
	}
	// One that is too old is not used, whatever the sweeps do.
	if _, err := get(t, tr, a.url()); err != nil {
		t.Fatal(err)
	}
	tr.pool.sweeper.Stop()
	mock.Add(o.IdleTimeout)
	before := a.accepted.Load()
	if _, err := get(t, tr, a.url()); err != nil || a.accepted.Load() != before+1 {
		t.Error("an expired connection was used", err)
	}
	tr.CloseIdleConnections()
}

// Beyond max_conns_per_host requests wait, in turn, for a connection or the place
// of one, and as long as their client does.
func TestMaxPerHost(t *testing.T) {
	var active, most atomic.Int64
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		most.Store(max(most.Load(), active.Add(1)))
		defer active.Add(-1)
		for i := 0; ; i++ {
			if _, err := http.ReadRequest(in); err != nil || i == 7 {
				return // without an answer: it goes over another connection
			}
			_, _ = io.WriteString(c, ok)
		}
	})
	tr := newTransport(t, Options{MaxPerHost: 2})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				if body, err := get(t, tr, b.url()); body != "ok" || err != nil {
					t.Errorf("%q, %v", body, err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d connections at once", most.Load())
	}

	tr.CloseIdleConnections()
	end := hold(t, tr, b.url(), 2)
	reason := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	waits := make(chan error)
	go func() {
		_, err := tr.RoundTrip(request(t, http.MethodGet, b.url(), nil).WithContext(ctx))
		waits <- err
	}()
	h := tr.pool.hosts[b.Addr().String()]
	eventually(t, "a request waits", func() bool {
		tr.pool.mu.Lock()
		defer tr.pool.mu.Unlock()
		return len(h.waiting) == 1
	})
	cancel(reason)
	if err := <-waits; !errors.Is(err, reason) {
		t.Error(err)
	}
	end()
	if tr.pool.mu.Lock(); len(h.waiting) != 0 || h.open > 2 {
		t.Errorf("%d wait, %d open", len(h.waiting), h.open)
	}
	tr.pool.mu.Unlock()
}

// Whatever becomes of requests that wait and are given up, no place is lost.
func TestPlaces(t *testing.T) {
	b := answers(t, ok)
	tr := newTransport(t, Options{MaxPerHost: 3, MaxIdlePerHost: 1})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*j)%7)*100*time.Microsecond)
				resp, err := tr.RoundTrip(request(t, http.MethodGet, b.url(), nil).WithContext(ctx))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				} else if !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
	h := tr.pool.hosts[b.Addr().String()]
	eventually(t, "all places are given up", func() bool {
		tr.pool.mu.Lock()
		defer tr.pool.mu.Unlock()
		return h.open == 0 && len(h.waiting) == 0 && tr.pool.idle == 0
	})
}
