package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// kind is a kind of request of the soak.
type kind struct {
	method, path string
	// subject is whose token it has; empty: none. With %d it is another for each request.
	subject string
	fields  string // more lines of the header
	body    string
	// statuses are those that it may have.
	statuses []int
	// leave closes the connection before the response.
	leave bool
}

// kinds are sent at random. Paths with %d are others each time.
var kinds = []kind{
	{method: "GET", path: "/api/plain/x", subject: "ann", statuses: []int{200}},
	{method: "GET", path: "/api/plain/%d", subject: "user-%d", statuses: []int{200}},
	{method: "GET", path: "/api/cached/store", subject: "ann", statuses: []int{200}},
	{method: "GET", path: "/api/cached/store", subject: "ann", fields: "If-None-Match: \"soak\"\r\n", statuses: []int{200, 304}},
	{method: "GET", path: "/api/cached/store?n=%d", subject: "ann", statuses: []int{200}},
	{method: "HEAD", path: "/api/cached/store", subject: "bob", statuses: []int{200}},
	{method: "POST", path: "/api/plain/x", subject: "ann", body: strings.Repeat("b", 2000), statuses: []int{200}},
	{method: "POST", path: "/api/cached/store", subject: "ann", body: "b", statuses: []int{200}},
	{method: "GET", path: "/api/plain/stream", subject: "ann", statuses: []int{200}},
	{method: "GET", path: "/api/plain/stream", subject: "ann", statuses: []int{200}, leave: true},
	{method: "GET", path: "/api/limited/x", subject: "bob", statuses: []int{200, 429}},
	{method: "GET", path: "/api/flaky/fail", subject: "ann", statuses: []int{500, 503}},
	{method: "GET", path: "/api/plain/x", statuses: []int{401}},
	{method: "GET", path: "/api/plain/x", fields: "Authorization: Bearer a.b.c\r\n", statuses: []int{401}},
	{method: "GET", path: "/api/none/%d", subject: "ann", statuses: []int{404}},
	{method: "GET", path: "/%d", statuses: []int{404}},
	{method: "GET", path: "/api/plain/../x", subject: "ann", statuses: []int{400}},
	{method: "OPTIONS", path: "/api/plain/x", fields: "Origin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\n", statuses: []int{200, 204}},
	{method: "GET", path: "/health", statuses: []int{200}},
}

// soakClient has one connection after another.
type soakClient struct {
	*soak
	number byte
	random *rand.Rand
	conn   net.Conn // nil: the next request connects
	in     *bufio.Reader
}

// client sends requests until the soak ends.
func (s *soak) client(ctx context.Context, number int) {
	c := &soakClient{soak: s, number: byte(number), random: rand.New(rand.NewPCG(uint64(number), 1))} //nolint:gosec // a load, no secret
	defer c.hangUp()
	for ctx.Err() == nil {
		k := &kinds[c.random.IntN(len(kinds))]
		status, err := c.send(ctx, k)
		if ctx.Err() != nil {
			return
		}
		s.sent.Add(1)
		switch {
		case err != nil:
			s.fail("%s %s: %v", k.method, k.path, err)
		case !k.leave && !slices.Contains(k.statuses, status):
			s.fail("%s %s: status %d, not %v", k.method, k.path, status, k.statuses)
		default:
			continue
		}
		return
	}
}

// send sends a request. A load of the configuration closes connections that are idle:
// a request may come at that moment, and is sent again.
func (c *soakClient) send(ctx context.Context, k *kind) (int, error) {
	const tries = 20
	text := c.text(k, c.random)
	for try := 1; ; try++ {
		status, err := c.try(ctx, k, text)
		if err == nil {
			return status, nil
		}
		c.hangUp()
		if try == tries || ctx.Err() != nil {
			return 0, err
		}
		c.retried.Add(1)
	}
}

// try sends a request once.
func (c *soakClient) try(ctx context.Context, k *kind, text string) (int, error) {
	if c.conn == nil {
		// From another address each time, for what is counted by address.
		from := &net.TCPAddr{IP: net.IPv4(127, 0, c.number, byte(1+c.random.IntN(250)))}
		conn, err := (&net.Dialer{LocalAddr: from, Timeout: 30 * time.Second}).DialContext(ctx, "tcp", c.server.addr)
		if err != nil {
			return 0, err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if k.leave {
		_, err := io.WriteString(c.conn, text)
		c.hangUp()
		return 0, err
	}
	status, last, err := ask(c.conn, c.in, text)
	if last {
		c.hangUp()
	}
	return status, err
}

func (c *soakClient) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (s *soak) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.failure.CompareAndSwap(nil, &text)
}

// text is a request as it is sent.
func (s *soak) text(k *kind, random *rand.Rand) string {
	number := strconv.Itoa(random.IntN(s.numbers))
	fields := k.fields
	if k.subject != "" {
		claims := jwt.MapClaims{"sub": strings.ReplaceAll(k.subject, "%d", number), "exp": time.Now().Add(time.Hour).Unix() / 600 * 600}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(s.secret))
		if err != nil {
			s.fail("token: %v", err)
		}
		fields += "Authorization: Bearer " + token + "\r\n"
	}
	if k.body != "" {
		fields += "Content-Length: " + strconv.Itoa(len(k.body)) + "\r\n"
	}
	return k.method + " " + strings.ReplaceAll(k.path, "%d", number) + " HTTP/1.1\r\nHost: " + s.server.addr + "\r\n" + fields + "\r\n" + k.body
}

// soakBackend is the service behind the gateway.
func soakBackend() (*http.Server, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	body := []byte(strings.Repeat("x", 1024))
	backend := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/store"):
			w.Header().Set("Cache-Control", "max-age=60, public")
			w.Header().Set("Etag", `"soak"`)
		case strings.HasSuffix(r.URL.Path, "/fail"):
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasSuffix(r.URL.Path, "/stream"):
			w.Header().Set("Cache-Control", "no-store")
			for range 8 {
				_, _ = w.Write(body)
				_ = http.NewResponseController(w).Flush()
			}
		default:
			w.Header().Set("Cache-Control", "no-store")
		}
		_, _ = w.Write(body)
	})}
	go func() { _ = backend.Serve(listener) }()
	return backend, listener.Addr().String(), nil
}
