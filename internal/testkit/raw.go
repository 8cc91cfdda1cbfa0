package testkit

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Serve starts a server that calls serve with each connection, in a goroutine of its own,
// and closes the connection after that. It ends with the test. Serve returns host:port.
func Serve(tb testing.TB, serve func(c net.Conn)) string {
	tb.Helper()
	return serveOn(tb, nil, serve)
}

// serveOn is Serve with TLS, unless config is nil.
func serveOn(tb testing.TB, config *tls.Config, serve func(c net.Conn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	if config != nil {
		l = tls.NewListener(l, config)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// RawBackend starts an upstream that sends the same bytes to every request, in
// pieces where they have a |, as a network may deliver them; with TLS unless config
// is nil. It ends with the test. RawBackend returns host:port.
func RawBackend(tb testing.TB, answer string, config *tls.Config) string {
	tb.Helper()
	return serveOn(tb, config, func(c net.Conn) { serveRaw(c, answer) })
}

func serveRaw(c net.Conn, answer string) {
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		for piece := range strings.SplitSeq(answer, "|") {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
}

// Exchange sends a request as it is written, with addr for each HOST in it, on a
// connection of its own, and returns the response with its body.
func Exchange(tb testing.TB, addr, request string) (*http.Response, string) {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err = io.WriteString(conn, strings.ReplaceAll(request, "HOST", addr)); err != nil {
		tb.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}
