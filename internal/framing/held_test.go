package framing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// heldServer is a server that looks at connections each third of a second. TLS servers
// have HTTP/2.
func heldServer(t *testing.T, withTLS bool, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnContext = new(installation).connContext
	server.Config.ReadHeaderTimeout, server.Config.IdleTimeout = 500*time.Millisecond, 100*time.Millisecond
	if server.EnableHTTP2 = withTLS; withTLS {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// unknownExpectation has a server answer 417 to a request, and waits until the connection
// has ended. A request that arrives too late on a stalled machine is sent again.
func unknownExpectation(t *testing.T, address, text string) {
	t.Helper()
	for range 5 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(conn, text)
		answer, err := io.ReadAll(conn)
		_ = conn.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the connection is still open after %q", answer)
		}
		if strings.Contains(string(answer), " 417 Expectation Failed\r\n") {
			return
		}
	}
	t.Fatal("no 417")
}

// Go's server reads the body behind its 417 without a deadline.
func TestUnknownExpectationsEnd(t *testing.T) {
	t.Parallel()
	server := heldServer(t, false, func(http.ResponseWriter, *http.Request) {})
	for name, text := range map[string]string{
		"first":        "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
		"chunked":      "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"of HTTP/1.0":  "POST / HTTP/1.0\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
		"after others": "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unknownExpectation(t, server.Listener.Addr().String(), text)
		})
	}
}

// Connections that were taken over, as WebSockets are, and those of HTTP/2 outlive one
// that is ended since nothing runs on it.
func TestLongConnectionsStay(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, "still there")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			line, _ := rw.ReadString('\n')
			_, _ = io.WriteString(conn, line)
		}()
	}
	plain, framed := heldServer(t, false, handler), heldServer(t, true, handler)
	conn := dial(t, plain)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if line, err := in.ReadString('\n'); !strings.Contains(line, " 101 ") {
		t.Fatal(line, err)
	}
	resp, err := framed.Client().Get(framed.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	unknownExpectation(t, plain.Listener.Addr().String(), "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n")

	close(release)
	if body, err := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || string(body) != "still there" {
		t.Errorf("%s: %q, %v", resp.Proto, body, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	rest, err := io.ReadAll(in)
	if !strings.HasSuffix(string(rest), "hello\n") {
		t.Errorf("%q, %v", rest, err)
	}
}

// ended is a connection that notes whether its reads are ended.
type ended struct {
	net.Conn

	is atomic.Bool
}

func (e *ended) SetReadDeadline(time.Time) error {
	e.is.Store(true)
	return nil
}

func TestHeldConnections(t *testing.T) {
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 100 * time.Second}
	first, second := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRequest(http.MethodGet, "/", nil)
	second.ProtoMajor = 2
	for name, test := range map[string]struct {
		use  func(h *held, c *connection)
		want bool
	}{
		"nothing comes":      {func(*held, *connection) { time.Sleep(time.Hour) }, true},
		"nothing comes, yet": {func(*held, *connection) { time.Sleep(119 * time.Second) }, false},
		"a handler has run":  {func(_ *held, c *connection) { c.turn(first); c.turn(first); time.Sleep(time.Hour) }, true},
		"a handler runs":     {func(_ *held, c *connection) { c.turn(first); time.Sleep(time.Hour) }, false},
		"a request now and then": {func(_ *held, c *connection) {
			for range 100 {
				c.turn(first)
				c.turn(first)
				time.Sleep(119 * time.Second)
			}
		}, false},
		"HTTP/2":         {func(_ *held, c *connection) { c.turn(second); c.turn(second); time.Sleep(time.Hour) }, false},
		"it is closed":   {func(h *held, c *connection) { h.connState(c.conn, http.StateClosed); time.Sleep(time.Hour) }, false},
		"it is hijacked": {func(h *held, c *connection) { h.connState(c.conn, http.StateHijacked); time.Sleep(time.Hour) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, conn := newHeld(server), &ended{}
			test.use(h, h.add(conn))
			if conn.is.Load() != test.want {
				t.Errorf("%s: ended is %v", name, !test.want)
			}
			h.connState(conn, http.StateClosed)
			if len(h.conns) != 0 {
				t.Errorf("%s: %d connections are known", name, len(h.conns))
			}
		})
	}
}

// The connection of a handler that panics is watched like others, and what Go's server
// reads then of the body ends.
func TestPanickingHandlers(t *testing.T) {
	t.Parallel()
	c := new(connection)
	server := httptest.NewUnstartedServer(newFront(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, installed{}, c) }
	server.Start()
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
	if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open after %q", answer)
	}
	if turns := c.turns.Load(); turns != 2 {
		t.Errorf("%d turns", turns)
	}
}

// Where the operator wants no bounds, connections have none.
func TestServersWithoutBounds(t *testing.T) {
	for _, server := range []*http.Server{{}, {IdleTimeout: -1, ReadHeaderTimeout: 1}, {IdleTimeout: 1, ReadHeaderTimeout: -1}, {ReadTimeout: -1}} {
		if h := newHeld(server); h != nil || h.add(&ended{}) == nil {
			t.Error(fmt.Sprint(server.IdleTimeout, server.ReadHeaderTimeout), "is bounded")
		}
	}
	if newHeld(&http.Server{ReadTimeout: time.Second}) == nil {
		t.Error("a bound of reading is none")
	}
}
