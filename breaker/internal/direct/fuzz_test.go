package direct

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorded is a connection on which a server sends fixed bytes once the request
// began, and then closes.
type recorded struct {
	net.Conn // nil: what is not here is not called
	in       io.Reader
	asked    chan struct{}
	once     sync.Once
	closed   chan struct{}
	closing  sync.Once
}

func record(text []byte) *recorded {
	return &recorded{in: bytes.NewReader(text), asked: make(chan struct{}), closed: make(chan struct{})}
}

func (c *recorded) Read(p []byte) (int, error) {
	select {
	case <-c.asked:
		return c.in.Read(p)
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *recorded) Write(p []byte) (int, error) {
	c.once.Do(func() { close(c.asked) })
	return len(p), nil
}

func (c *recorded) Close() error                     { c.closing.Do(func() { close(c.closed) }); return nil }
func (c *recorded) SetReadDeadline(time.Time) error  { return nil }
func (c *recorded) SetWriteDeadline(time.Time) error { return nil }

// outcome sends a request over a connection on which the bytes come, and returns
// what the caller sees.
func outcome(rt http.RoundTripper, method string) string {
	informational := ""
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		informational += fmt.Sprint(code, h, "\n")
		return nil
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), method, "http://a/", nil)
	if err != nil {
		panic(err)
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return "switch"
	}
	body, err := io.ReadAll(resp.Body)
	return informational + fmt.Sprint(resp.Status, resp.Proto, resp.Header, resp.ContentLength, resp.Close, len(body), string(body), err != nil, resp.Trailer)
}

// Whatever a server sends, the caller sees what it would of net/http's transport,
// or an error where that is too lenient.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		ok, ok + ok, "", "HTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, "HTTP/1.1 100 Continue\r\n\r\n" + ok,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Encoding: gzip\n\n\x1f\x8b\x08", "HTTP/1.1 200 OK\r\nA : b\r\n c\r\n\r\n",
	} {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		method := map[bool]string{false: http.MethodGet, true: http.MethodHead}[head]
		const limit = 4 << 10
		dial := func(context.Context, string, string) (net.Conn, error) { return record(text), nil }
		tr := New(Options{Dial: dial, MaxHeaderBytes: limit})
		got := outcome(tr, method)
		theirs := &http.Transport{DialContext: dial, MaxResponseHeaderBytes: limit}
		want := outcome(theirs, method)
		theirs.CloseIdleConnections()
		if got == want || got == "error" && (want == "switch" || doubled(text) || strings.Contains(want, "101 ")) {
			return
		}
		t.Errorf("got %q\nwant %q", got, want)
	})
}

// doubled reports whether there may be a status line with a second blank.
func doubled(text []byte) bool {
	for at := 0; at+codeAt < len(text); at++ {
		if text[at+codeAt-1] == ' ' && text[at+codeAt] == ' ' && bytes.HasPrefix(text[at:], []byte("HTTP/")) {
			return true
		}
	}
	return false
}
