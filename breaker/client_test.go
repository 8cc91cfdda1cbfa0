package breaker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// Ten thousand requests of clients that send malformed bodies, break off their
// uploads or disconnect: the breaker stays closed, though a single failure would
// open it. That holds where reverse_proxy streams bodies, and where it keeps them
// first.
func TestClientsCannotTrip(t *testing.T) {
	p := newFakeBackend(t)
	p.handle(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
	})
	gateway := servertest.New(t, `
:80 {
	circuit_breaker hostile {
		consecutive 1
		trip 1% of 1
		slow 1% over 1s
	}
	reverse_proxy /kept `+p.addr+` {
		request_buffers 4KiB
	}
	reverse_proxy `+p.addr+`
}`)
	addr := gateway.Listener.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	var turn atomic.Int64
	path := func() string { return []string{"/", "/kept"}[turn.Add(1)%2] }
	malformed := func() error {
		for _, body := range []string{"zz\r\n", "-1\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"} {
			status, err := raw(addr, "POST "+path()+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body, false)
			if err != nil {
				return fmt.Errorf("body %q: %w", body, err)
			}
			if status != http.StatusBadRequest {
				return fmt.Errorf("body %q: status %d, want 400", body, status)
			}
		}
		return nil
	}
	aborted := func() error {
		for _, head := range []string{"Content-Length: 1000\r\n\r\nonly this", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"} {
			if _, err := raw(addr, "POST "+path()+" HTTP/1.1\r\nHost: x\r\n"+head, true); err != nil {
				return err
			}
		}
		return nil
	}
	canceled := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway.URL+"/wait", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
		}
		return nil
	}
	const rounds = 10_000
	var wg sync.WaitGroup
	work := make(chan func() error)
	for range 16 {
		wg.Go(func() {
			for f := range work {
				if err := f(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sent := 0
	for i := 0; sent < rounds; i++ {
		switch i % 3 {
		case 0:
			work <- malformed
			sent += 5
		case 1:
			work <- aborted
			sent += 2
		default:
			work <- canceled
			sent++
		}
	}
	close(work)
	wg.Wait()
	p.handle(nil)
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 200 {
		t.Errorf("afterwards: %d", a.status)
	}
	gateway.Close() // the last request has ended then
	if s := stands(t, "hostile"); s.State != "closed" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// raw sends bytes, and half-closes or drops the connection; it returns the
// status of the answer.
func raw(addr, text string, drop bool) (int, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil || drop {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// A client that takes its time with an upload does not make the backend slow.
func TestSlowUpload(t *testing.T) {
	h := mustLoad(t, "circuit_breaker trickle {\n slow 1% over 1s\n trip 100% of 1\n}")
	reads := func(think time.Duration) backend {
		return func(w http.ResponseWriter, r *http.Request) error {
			_, _ = io.Copy(io.Discard, r.Body)
			testClock.Add(think)
			return status(200)(w, r)
		}
	}
	upload := func() *http.Request { return httptest.NewRequest(http.MethodPost, "/", &trickle{"abcde"}) }
	ask(h, upload(), reads(900*time.Millisecond))
	expectState(t, "trickle", "closed")
	ask(h, upload(), reads(1100*time.Millisecond))
	expectState(t, "trickle", "open")
}

// A client that does not read its answer does not make the backend break off.
func TestClientThatStopsReading(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker stops-reading {
		consecutive 1
		slow 1% over 1s
		trip 100% of 1
	}
	reverse_proxy `+p.addr+`
}`)
	p.handle(func(w http.ResponseWriter, _ *http.Request) {
		for range 4096 {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	for range 20 {
		resp, err := http.Get(gateway.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = resp.Body.Read(make([]byte, 10))
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	p.handle(nil)
	fetch(t, http.MethodGet, gateway.URL, nil)
	if s := stands(t, "stops-reading"); s.State != "closed" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// trickle is a body that takes two seconds for each byte.
type trickle struct{ text string }

func (b *trickle) Read(p []byte) (int, error) {
	if b.text == "" {
		return 0, io.EOF
	}
	testClock.Add(2 * time.Second)
	n := copy(p[:1], b.text)
	b.text = b.text[n:]
	return n, nil
}

// A probe that is a slow upload does not open the breaker again, and others may
// probe in its place.
func TestUploadAsProbe(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	circuit_breaker uploads {
		consecutive 1
		open_for 5s
		half_open 1 max 30s
	}
	reverse_proxy `+p.addr+`
}`)
	p.handle(withStatus(500))
	fetch(t, http.MethodGet, gateway.URL, nil)
	p.handle(nil)
	halfOpens(t, "uploads", 5*time.Second)

	body, writer := io.Pipe()
	done := make(chan answer)
	go func() { done <- fetch(t, http.MethodPost, gateway.URL, body) }()
	_, _ = io.WriteString(writer, "slowly")
	testkit.Eventually(t, "the upload", func() bool { return p.served.Load() == 2 })
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != http.StatusServiceUnavailable {
		t.Fatalf("a second probe: %d", a.status)
	}
	testClock.Add(31 * time.Second)
	fetch(t, http.MethodGet, gateway.URL, nil) // finds that the probe takes too long
	expectState(t, "uploads", "half_open")
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 200 {
		t.Errorf("the next probe: %d", a.status)
	}
	expectState(t, "uploads", "closed")
	_ = writer.Close()
	if a := <-done; a.status != 200 {
		t.Errorf("the upload: %d", a.status)
	}
}
