package rediscache

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// blocked is the response writer of a client that reads nothing until it is released.
type blocked struct {
	*httptest.ResponseRecorder
	released chan struct{}
}

func newBlocked() *blocked { return &blocked{httptest.NewRecorder(), make(chan struct{})} }

func (b *blocked) Write(p []byte) (int, error) {
	<-b.released
	return b.ResponseRecorder.Write(p)
}

func (b *blocked) Flush() { <-b.released }

// counting counts what is written.
type counting struct {
	*httptest.ResponseRecorder
	n atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseRecorder.Write(p)
}

// begin sends a request whose response goes to w, and returns a channel that is closed
// at its end.
func (g *gateway) begin(ctx context.Context, w http.ResponseWriter, path string, fields ...string) <-chan struct{} {
	done := make(chan struct{})
	r := httptest.NewRequest(http.MethodGet, "http://"+g.host+path, nil).WithContext(ctx)
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // of a response that breaks off
		_ = g.h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			g.asked.Add(1)
			g.service(w, r)
			return nil
		}))
	}()
	return done
}

func ended(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	testkit.Eventually(t, "the end of "+what, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

// Whatever a service sends, the client that asked first does not hold up those who
// share its response, nor that it is stored, by reading nothing. Over HTTP/2 that takes
// no more than a window of 0.
func TestBlockedLeader(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	for name, tc := range map[string]struct {
		fields  []string // of the leader
		service http.HandlerFunc
	}{
		"at once": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body)
		}},
		"in pieces": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			for piece := range len(body) / 10 {
				_, _ = w.Write(body[10*piece : 10*piece+10])
			}
		}},
		"of unknown length": {nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }},
		"flushed": {nil, func(w http.ResponseWriter, _ *http.Request) {
			flush(w)
			_, _ = w.Write(body[:10])
			flush(w)
			_, _ = w.Write(body[10:])
			flush(w)
		}},
		"not modified": {[]string{"If-None-Match", `"1"`}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"1"`)
			flush(w)
			_, _ = w.Write(body)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			proceed := make(chan struct{})
			g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request) {
				<-proceed
				tc.service(w, r)
			})
			leader := newBlocked()
			led := g.begin(t.Context(), leader, "/", tc.fields...)
			testkit.Eventually(t, "a leader", func() bool { return g.asked.Load() == 1 })
			follower := httptest.NewRecorder()
			followed := g.begin(t.Context(), follower, "/")
			testkit.Eventually(t, "a follower", func() bool { return waiting() == 1 })
			close(proceed)
			ended(t, "the follower", followed)
			if !bytes.Equal(follower.Body.Bytes(), body) {
				t.Errorf("the follower got %d bytes", follower.Body.Len())
			}
			testkit.Eventually(t, "a stored response", func() bool { return g.send("GET", "/").Header().Get("Age") != "" })
			testkit.Eventually(t, "the end of the wait", func() bool { n, _ := calls.Stats(); return n == 0 })
			close(leader.released)
			ended(t, "the leader", led)
			if tc.fields == nil && !bytes.Equal(leader.Body.Bytes(), body) {
				t.Errorf("the leader got %d bytes", leader.Body.Len())
			}
			if got := g.asked.Load(); got != 1 {
				t.Errorf("the service was asked %d times", got)
			}
		})
	}
}

// A response that breaks off while the client that asked first reads nothing is nobody
// else's.
func TestBlockedLeaderOfABrokenResponse(t *testing.T) {
	var g *gateway
	g = newGateway(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("a beginning"))
		if g.asked.Load() == 1 {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	leader := newBlocked()
	led := g.begin(t.Context(), leader, "/")
	testkit.Eventually(t, "the end of the response", func() bool { n, _ := calls.Stats(); return n == 0 && g.asked.Load() == 1 })
	if got := g.send("GET", "/").Body.String(); got != "a beginning" {
		t.Errorf("the next client got %q", got)
	}
	close(leader.released)
	ended(t, "the leader", led)
}

// A client that is too slow for those who share a response with it is cut off, and then
// gets the response by a request of its own.
func TestReaderThatIsCutOff(t *testing.T) {
	defer stream.MaxDelay.Store(stream.MaxDelay.Swap(int64(time.Second)))
	proceed := make(chan struct{})
	var key target
	piece := make([]byte, 100<<10)
	others := &counting{ResponseRecorder: httptest.NewRecorder()}
	var g *gateway
	g = newGateway(t, "http_cache 60s {\n max_object_size 1KiB\n}", func(w http.ResponseWriter, r *http.Request) {
		key = g.h.keys.target(r, nil)
		<-proceed
		_, _ = w.Write(piece[:100])
		_ = http.NewResponseController(w).Flush()
		testkit.Eventually(t, "a follower that reads", func() bool { return others.n.Load() > 0 })
		for range 10 {
			_, _ = w.Write(piece)
		}
	})
	slow := newBlocked()
	led := g.begin(t.Context(), slow, "/")
	testkit.Eventually(t, "a leader", func() bool { return g.asked.Load() == 1 })
	followed := g.begin(t.Context(), others, "/")
	testkit.Eventually(t, "a follower", func() bool { return waiting() == 1 })
	close(proceed)
	ended(t, "the follower", followed)
	if got := others.n.Load(); got != int64(10*len(piece)+100) {
		t.Errorf("the follower got %d bytes", got)
	}
	close(slow.released)
	ended(t, "the leader", led)
	if got := slow.Body.Len(); got >= 10*len(piece) {
		t.Errorf("the slow client got %d bytes", got)
	}
	if !hitForMiss.Has(key.callHash(false), time.Now()) {
		t.Error("the next requests share a response again")
	}
	// That it is asked for once more, alone, says nothing new.
	g.send("GET", "/")
	if !hitForMiss.Has(key.callHash(false), time.Now()) {
		t.Error("the requests after that share a response again")
	}
}

// When a response becomes outdated while somebody still reads it, those to come wait for
// another one together.
func TestOutdatedWhileItArrives(t *testing.T) {
	finish := make(chan struct{})
	g := newGateway(t, "http_cache 60s", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("a beginning"))
			_ = http.NewResponseController(w).Flush()
			<-finish
		}
	})
	var all []<-chan struct{}
	begin := func() {
		w := &counting{ResponseRecorder: httptest.NewRecorder()}
		all = append(all, g.begin(t.Context(), w, "/"))
		testkit.Eventually(t, "a beginning", func() bool { return w.n.Load() > 0 })
	}
	begin()
	g.send("POST", "/") // invalidates it
	for range 3 {
		begin()
	}
	if got := g.asked.Load(); got != 3 {
		t.Errorf("the service was asked %d times, want 3 with the write", got)
	}
	close(finish)
	for _, done := range all {
		ended(t, "a request", done)
	}
}
