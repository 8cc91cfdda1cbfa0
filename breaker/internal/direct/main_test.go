package direct

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// backend is a server that does with each connection what a script says.
type backend struct {
	net.Listener
	accepted atomic.Int64
}

func serve(t testing.TB, script func(c net.Conn, in *bufio.Reader)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.accepted.Add(1)
			go func() {
				defer c.Close()
				script(c, bufio.NewReader(c))
			}()
		}
	}()
	return b
}

// answers serves each request of a connection with the same bytes.
func answers(t testing.TB, text string) *backend {
	t.Helper()
	return serve(t, func(c net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if _, err = io.WriteString(c, text); err != nil {
				return
			}
		}
	})
}

func (b *backend) url() string { return "http://" + b.Addr().String() + "/" }

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newTransport returns a transport that dials over TCP and keeps connections.
func newTransport(t testing.TB, o Options) *Transport {
	t.Helper()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.MaxIdlePerHost == 0 {
		o.MaxIdlePerHost = 32
	}
	tr := New(o)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// get sends a GET and returns the body of the answer.
func get(t testing.TB, tr http.RoundTripper, url string) (string, error) {
	t.Helper()
	resp, err := tr.RoundTrip(request(t, http.MethodGet, url, nil))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// noGoroutines fails if goroutines of the transport are left when the test ends.
func noGoroutines(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		eventually(t, "the end of the transport's goroutines", func() bool {
			buffer := make([]byte, 1<<20)
			stacks := string(buffer[:runtime.Stack(buffer, true)])
			return !strings.Contains(stacks, "direct.(*exchange)")
		})
	})
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
