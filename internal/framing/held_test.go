package framing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Go's server reads the body behind its 417 without a deadline.
func TestUnknownExpectationsEnd(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnContext = new(installation).connContext
	server.Config.ReadHeaderTimeout, server.Config.IdleTimeout = 60*time.Millisecond, 60*time.Millisecond
	server.Start()
	defer server.Close()
	for name, text := range map[string]string{
		"first":        "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
		"chunked":      "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"of HTTP/1.0":  "POST / HTTP/1.0\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
		"after others": "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, text)
		if answer, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: the connection is still open after %q: %v", name, answer, err)
		}
		_ = conn.Close()
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
	c := new(connection)
	server := httptest.NewUnstartedServer(newFront(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, installed{}, c) }
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
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
