package direct

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A connection serves request after request, without a goroutine of its own.
func TestReuse(t *testing.T) {
	for name, answer := range map[string]string{
		"length":     ok,
		"chunked":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
		"no content": "HTTP/1.1 204 No Content\r\n\r\n",
		"empty":      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"unchanged":  "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
		"1.0":        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"hints":      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok,
	} {
		t.Run(name, func(t *testing.T) {
			b := answers(t, answer)
			tr := newTransport(t, Options{HeaderTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
			for range 5 {
				if body, err := get(t, tr, b.url()); err != nil || body != "ok" && body != "" {
					t.Fatalf("%q, %v", body, err)
				}
				if _, err := tr.RoundTrip(request(t, http.MethodPost, b.url(), http.NoBody)); err != nil {
					t.Fatal(err)
				}
				tr.CloseIdleConnections()
			}
			for range 5 {
				if _, err := get(t, tr, b.url()); err != nil {
					t.Fatal(err)
				}
			}
			if n := b.accepted.Load(); n > 11 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Answers behind which a connection cannot be used again.
func TestNoReuse(t *testing.T) {
	for name, answer := range map[string]string{
		"close":           "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"close among":     "HTTP/1.1 200 OK\r\nConnection: a\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
		"1.0":             "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"surplus":         ok + "x",
		"another answer":  ok + ok,
		"surplus chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
		"surplus, none":   "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			b, tr := answers(t, answer), newTransport(t, Options{})
			for range 3 {
				if body, err := get(t, tr, b.url()); err != nil || body != "ok" && body != "" {
					t.Fatalf("%q, %v", body, err)
				}
			}
			if n := b.accepted.Load(); n != 3 {
				t.Errorf("%d connections", n)
			}
		})
	}
	t.Run("body not read", func(t *testing.T) {
		b, tr := answers(t, ok), newTransport(t, Options{})
		for range 3 {
			resp, err := tr.RoundTrip(request(t, http.MethodGet, b.url(), nil))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if _, err = resp.Body.Read(make([]byte, 1)); err == nil {
				t.Error("a closed body can be read")
			}
		}
		if n := b.accepted.Load(); n != 3 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("keepalive off", func(t *testing.T) {
		closing := make(chan bool, 3)
		b := serve(t, func(c net.Conn, in *bufio.Reader) {
			r, err := http.ReadRequest(in)
			closing <- err == nil && r.Close
			_, _ = io.WriteString(c, ok)
			_, _ = in.ReadByte()
		})
		tr := newTransport(t, Options{NoKeepAlive: true})
		for range 3 {
			if _, err := get(t, tr, b.url()); err != nil || !<-closing {
				t.Error("the request has no Connection: close", err)
			}
		}
	})
}

// A connection that the server closed, or on which something came that nobody
// asked for, is not used; not even for a POST.
func TestStale(t *testing.T) {
	for name, end := range map[string]func(c net.Conn){
		"closed":      func(net.Conn) {},
		"half closed": func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"reset":       func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
		"unsolicited": func(c net.Conn) { _, _ = io.WriteString(c, ok); _, _ = c.Read(make([]byte, 1)) },
		"timed out": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 10)
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, ok)
				go func() { ended <- struct{}{} }()
				end(c)
			})
			tr := newTransport(t, Options{})
			for range 3 {
				resp, err := tr.RoundTrip(request(t, http.MethodPost, b.url(), strings.NewReader("x")))
				if err != nil {
					t.Fatal(err)
				}
				if text, err := io.ReadAll(resp.Body); string(text) != "ok" || err != nil {
					t.Fatalf("%q, %v", text, err)
				}
				<-ended
				eventually(t, "the end on the idle connection", func() bool {
					tr.pool.mu.Lock()
					defer tr.pool.mu.Unlock()
					h := tr.pool.hosts[b.Addr().String()]
					return len(h.idle) == 0 || !h.idle[0].usable()
				})
			}
			if n := b.accepted.Load(); n != 3 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A request that meets a connection which the server is about to close goes once
// over a new one, if the server cannot have acted on it.
func TestRetry(t *testing.T) {
	for name, tc := range map[string]struct {
		method, key string
		body        io.Reader
		again       bool
	}{
		"GET":                      {http.MethodGet, "", nil, true},
		"HEAD":                     {http.MethodHead, "", nil, true},
		"POST":                     {http.MethodPost, "", nil, false},
		"DELETE":                   {http.MethodDelete, "", nil, false},
		"POST with a key":          {http.MethodPost, "k", nil, true},
		"POST with a key and body": {http.MethodPost, "k", strings.NewReader("body"), true}, // has GetBody
		"POST with a stream":       {http.MethodPost, "k", io.MultiReader(strings.NewReader("body")), false},
		"PUT with a body":          {http.MethodPut, "", strings.NewReader("body"), false},
	} {
		t.Run(name, func(t *testing.T) {
			first := true
			var got []string
			var mu sync.Mutex
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					text, _ := io.ReadAll(r.Body)
					mu.Lock()
					fails := first && i == 1
					first = first && !fails
					got = append(got, r.Method+" "+string(text))
					mu.Unlock()
					if fails {
						return // without an answer
					}
					_, _ = io.WriteString(c, ok[:len(ok)-2])
					if r.Method != http.MethodHead {
						_, _ = io.WriteString(c, "ok")
					}
				}
			})
			tr := newTransport(t, Options{})
			if _, err := get(t, tr, b.url()); err != nil {
				t.Fatal(err)
			}
			r := request(t, tc.method, b.url(), tc.body)
			if tc.key != "" {
				r.Header.Set("Idempotency-Key", tc.key)
			}
			resp, err := tr.RoundTrip(r)
			if (err == nil) != tc.again {
				t.Fatalf("%v, want to be sent again: %v", err, tc.again)
			}
			if err == nil {
				_ = resp.Body.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if want := map[bool]int{true: 3, false: 2}[tc.again]; len(got) != want || len(got) == 3 && got[2] != got[1] {
				t.Errorf("the server got %q", got)
			}
		})
	}
	t.Run("a new connection", func(t *testing.T) {
		b := serve(t, func(_ net.Conn, in *bufio.Reader) { _, _ = http.ReadRequest(in) })
		if _, err := get(t, newTransport(t, Options{}), b.url()); !errors.Is(err, io.EOF) || b.accepted.Load() != 1 {
			t.Errorf("%v after %d connections", err, b.accepted.Load())
		}
	})
}

// Each timeout ends a request by itself, as a timeout.
func TestTimeouts(t *testing.T) {
	noGoroutines(t)
	stop := make(chan struct{})
	hang := func(text string) *backend {
		return serve(t, func(c net.Conn, in *bufio.Reader) {
			if r, err := http.ReadRequest(in); err == nil {
				_, _ = io.CopyN(io.Discard, r.Body, 1)
			}
			_, _ = io.WriteString(c, text)
			<-stop
		})
	}
	defer close(stop)
	endless := func() io.Reader { return io.LimitReader(zeros{}, 1<<40) }
	const short = 30 * time.Millisecond
	for name, tc := range map[string]struct {
		b    *backend
		o    Options
		body io.Reader
	}{
		"header":              {hang(""), Options{HeaderTimeout: short}, nil},
		"header, begun":       {hang("HTTP/1.1 200 OK\r\nA:"), Options{HeaderTimeout: short}, nil},
		"header behind hints": {hang("HTTP/1.1 103 Early Hints\r\n\r\n"), Options{HeaderTimeout: short}, nil},
		"header with a body":  {hang(""), Options{HeaderTimeout: short}, strings.NewReader("hello")},
		"read":                {hang("HTTP/1.1 200 OK\r\n"), Options{ReadTimeout: short, HeaderTimeout: time.Hour}, nil},
		"read, body":          {hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), Options{ReadTimeout: short, HeaderTimeout: time.Hour}, nil},
		"write":               {hang(""), Options{WriteTimeout: short}, endless()},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t, tc.o)
			resp, err := tr.RoundTrip(request(t, http.MethodGet, tc.b.url(), tc.body))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("got %v", err)
			}
			if n := tc.b.accepted.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
	t.Run("the bound of the header is not one of the body", func(t *testing.T) {
		body, err := "", error(nil)
		// The header of a server on a busy machine may be late itself.
		for bound := 2 * short; body != "ok" && bound < 5*time.Second; bound *= 4 {
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				_, _ = http.ReadRequest(in)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
				time.Sleep(3 * bound / 2)
				_, _ = io.WriteString(c, "k")
			})
			body, err = get(t, newTransport(t, Options{HeaderTimeout: bound}), b.url())
		}
		if body != "ok" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Cancellation ends a request at any stage, and the error is its cause.
func TestCancel(t *testing.T) {
	noGoroutines(t)
	reason := errors.New("the reason")
	stop := make(chan struct{})
	defer close(stop)
	reached := make(chan struct{}, 10)
	hang := func(text string, read bool) *backend {
		return serve(t, func(c net.Conn, in *bufio.Reader) {
			if r, err := http.ReadRequest(in); err == nil && read {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(c, text)
			reached <- struct{}{}
			<-stop
		})
	}
	blocked := func() io.Reader { r, _ := io.Pipe(); return r }
	for name, tc := range map[string]struct {
		b      *backend
		body   io.Reader
		answer bool
	}{
		"before the header": {hang("", true), nil, false},
		"within the header": {hang("HTTP/1.1 200 OK\r\nA", true), nil, false},
		"behind hints":      {hang("HTTP/1.1 103 Early Hints\r\n\r\n", true), nil, false},
		"within the body":   {hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", true), nil, true},
		"sending":           {hang("", false), io.LimitReader(zeros{}, 1<<40), false},
		"answered early":    {hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", false), blocked(), true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			body := tc.body
			if p, ok := body.(*io.PipeReader); ok {
				defer p.Close()
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, tc.b.url(), body)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-reached
				if !tc.answer {
					cancel(reason)
				}
			}()
			tr := newTransport(t, Options{})
			resp, err := tr.RoundTrip(r)
			if tc.answer && err == nil {
				cancel(reason)
				_, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, reason) {
				t.Errorf("got %v", err)
			}
			if idle := tr.pool.idle; idle != 0 {
				t.Errorf("%d connections are kept", idle)
			}
		})
	}
	t.Run("beforehand", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:1/", nil)
		if _, err := newTransport(t, Options{}).RoundTrip(r); !errors.Is(err, reason) {
			t.Error(err)
		}
	})
	t.Run("dialing", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://a/", nil)
		tr := newTransport(t, Options{Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			if address != "a:80" {
				t.Errorf("dials %q", address)
			}
			cancel(reason)
			<-ctx.Done()
			return nil, errors.New("no connection")
		}})
		if _, err := tr.RoundTrip(r); !errors.Is(err, reason) {
			t.Error(err)
		}
		if tr.pool.hosts["a"].open != 0 {
			t.Error("the place of the connection is not given up")
		}
	})
}

// A server may answer before it has the whole body. The answer is delivered, even
// where the server resets the connection, and the connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	noGoroutines(t)
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
	for name, after := range map[string]func(c net.Conn, in *bufio.Reader){
		"closes":          func(net.Conn, *bufio.Reader) {},
		"reads no more":   func(_ net.Conn, in *bufio.Reader) { time.Sleep(20 * time.Millisecond) },
		"reads some more": func(_ net.Conn, in *bufio.Reader) { _, _ = io.CopyN(io.Discard, in, 100<<10) },
	} {
		for kind, body := range map[string]func() io.ReadCloser{
			"endless": func() io.ReadCloser { return io.NopCloser(io.LimitReader(zeros{}, 1<<40)) },
			"stalled": func() io.ReadCloser { r, _ := io.Pipe(); return r },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				b := serve(t, func(c net.Conn, in *bufio.Reader) {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					_, _ = io.WriteString(c, refusal)
					after(c, in)
				})
				tr := newTransport(t, Options{})
				for range 3 {
					src := body()
					r := request(t, http.MethodPost, b.url(), src)
					resp, err := tr.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					if text, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(text) != "no" || err != nil {
						t.Fatalf("%d %q, %v", resp.StatusCode, text, err)
					}
					_ = src.Close()
				}
				if b.accepted.Load() != 3 {
					t.Errorf("%d connections", b.accepted.Load())
				}
			})
		}
	}
	t.Run("both ways at once", func(t *testing.T) {
		b := serve(t, func(c net.Conn, in *bufio.Reader) {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			p := make([]byte, 1)
			for {
				n, err := r.Body.Read(p)
				if n > 0 {
					_, _ = fmt.Fprintf(c, "1\r\n%s\r\n", bytes.ToUpper(p))
				}
				if err != nil {
					break
				}
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
			_, _ = in.ReadByte()
		})
		for _, length := range []int64{3, -1} {
			body, client := io.Pipe()
			defer client.Close()
			r := request(t, http.MethodPost, b.url(), body)
			r.ContentLength = length
			resp, err := newTransport(t, Options{}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1)
			for _, c := range "abc" {
				_, _ = io.WriteString(client, string(c))
				if _, err := io.ReadFull(resp.Body, p); err != nil || p[0] != byte(c)-32 {
					t.Fatalf("%q, %v", p, err)
				}
			}
			_ = client.Close()
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		}
	})
}

// What is wrong with a request or its body is told as it is, and is not the
// connection's fault.
func TestBadRequests(t *testing.T) {
	noGoroutines(t)
	b, tr := answers(t, ok), newTransport(t, Options{})
	broken := errors.New("the client is gone")
	for name, change := range map[string]func(r *http.Request){
		"field name":    func(r *http.Request) { r.Header["A b"] = []string{"c"} },
		"field value":   func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
		"trailer":       func(r *http.Request) { r.Trailer = http.Header{"A": {"\n"}} },
		"trailer name":  func(r *http.Request) { r.Trailer = http.Header{"Content-Length": nil}; stream(r, "x") },
		"method":        func(r *http.Request) { r.Method = "GET /" },
		"target":        func(r *http.Request) { r.URL.Opaque = "/\x01" },
		"scheme":        func(r *http.Request) { r.URL.Scheme = "https" },
		"host":          func(r *http.Request) { r.URL.Host = "" },
		"no header":     func(r *http.Request) { r.Header = nil },
		"short body":    func(r *http.Request) { stream(r, "abc"); r.ContentLength = 5 },
		"long body":     func(r *http.Request) { stream(r, "abcdefgh"); r.ContentLength = 5 },
		"broken body":   func(r *http.Request) { r.Body = io.NopCloser(&failing{broken}); r.ContentLength = 5 },
		"broken stream": func(r *http.Request) { r.Body = io.NopCloser(&failing{broken}); r.ContentLength = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, http.MethodPost, b.url(), nil)
			change(r)
			closed := &closing{ReadCloser: http.NoBody}
			if r.Body != nil {
				closed.ReadCloser = r.Body
				r.Body = closed
			}
			resp, err := tr.RoundTrip(r)
			if err == nil {
				_ = resp.Body.Close()
				if name == "long body" {
					return // the backend has all that it waits for, and answered before the rest was seen
				}
				t.Fatal("sent", resp.Status)
			}
			if strings.HasPrefix(name, "broken") && !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			if r.Body != nil && !closed.closed {
				t.Error("the body is not closed")
			}
		})
	}
	if body, err := get(t, tr, b.url()); body != "ok" || err != nil {
		t.Errorf("afterwards: %q, %v", body, err)
	}
}

func stream(r *http.Request, text string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), -1
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

type closing struct {
	io.ReadCloser
	closed bool
}

func (c *closing) Close() error { c.closed = true; return c.ReadCloser.Close() }

// A server that sends what is not an answer gets an error, and its connection is
// closed.
func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":            "",
		"garbage":            "\x00\x01\x02",
		"half a line":        "HTTP/1.1 2",
		"no code":            "HTTP/1.1 OK\r\n\r\n",
		"two blanks":         "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
		"two blanks, hints":  "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
		"a field of none":    "HTTP/1.1 200 OK\r\nA\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n",
		"negative":           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"unknown coding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"two codings":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"large header":       "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 4<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"unsolicited switch": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"informational ones": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInformational) + ok,
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				_, _ = http.ReadRequest(in)
				_, _ = io.WriteString(c, answer)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, in)
				close(closed)
			})
			r := request(t, http.MethodGet, b.url(), nil)
			trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return nil }}
			r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
			resp, err := newTransport(t, Options{MaxHeaderBytes: 4 << 10}).RoundTrip(r)
			if err == nil {
				t.Fatal(resp.Status)
			}
			<-closed
		})
	}
	for name, answer := range map[string]string{
		"short":          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
		"half a chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
		"no last chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
		"no chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok",
		"no trailer end": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				_, _ = http.ReadRequest(in)
				_, _ = io.WriteString(c, answer)
			})
			tr := newTransport(t, Options{})
			if body, err := get(t, tr, b.url()); err == nil {
				t.Errorf("%q", body)
			}
			if tr.pool.idle > 0 {
				t.Error("the connection is kept")
			}
		})
	}
}

// 100 Continue: the body is sent when the server wants it, or after a while, and
// not at all where the server has answered without it.
func TestExpectContinue(t *testing.T) {
	noGoroutines(t)
	for name, tc := range map[string]struct {
		first string // what the server sends before the body
		wait  time.Duration
		body  bool // it gets the body
		want  int
	}{
		"asked for":        {"HTTP/1.1 100 Continue\r\n\r\n", time.Hour, true, 200},
		"after a while":    {"", 10 * time.Millisecond, true, 200},
		"no wait":          {"", 0, true, 200},
		"refused":          {"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", time.Hour, false, 401},
		"refused, goes on": {"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", time.Hour, false, 417},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			b := serve(t, func(c net.Conn, in *bufio.Reader) {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, tc.first)
				text, _ := io.ReadAll(r.Body)
				got <- string(text)
				if tc.want == 200 {
					_, _ = io.WriteString(c, ok)
				}
				_, _ = in.ReadByte()
			})
			r := request(t, http.MethodPost, b.url(), io.MultiReader(strings.NewReader("hello")))
			r.ContentLength = 5
			r.Header.Set("Expect", "100-continue")
			resp, err := newTransport(t, Options{ContinueTimeout: tc.wait}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != tc.want {
				t.Errorf("%d, %v", resp.StatusCode, err)
			}
			_ = resp.Body.Close()
			if text := <-got; (text == "hello") != tc.body {
				t.Errorf("the server got %q", text)
			}
		})
	}
}

// The end of the connection is the error, not the body that was not sent.
func TestExpectContinueFails(t *testing.T) {
	noGoroutines(t)
	for answer, want := range map[string]string{"": "reading the response: EOF", "HTTP/1.1 x\r\n\r\n": "malformed HTTP status code"} {
		b := serve(t, func(c net.Conn, in *bufio.Reader) {
			_, _ = http.ReadRequest(in)
			_, _ = io.WriteString(c, answer)
		})
		r := request(t, http.MethodPost, b.url(), strings.NewReader("hello"))
		r.Header.Set("Expect", "100-continue")
		if resp, err := newTransport(t, Options{ContinueTimeout: time.Hour}).RoundTrip(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %s", resp, err, want)
		}
	}
}

// A switch of protocols makes the connection a tunnel with both directions.
func TestSwitch(t *testing.T) {
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		if r, err := http.ReadRequest(in); err != nil || r.Header.Get("Upgrade") != "echo" {
			_, _ = io.WriteString(c, ok)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		_, _ = io.Copy(c, in)
		_, _ = io.WriteString(c, " bye")
	})
	tr := newTransport(t, Options{MaxPerHost: 1, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	r := request(t, http.MethodGet, b.url(), nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	tunnel := resp.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	defer tunnel.Close()
	// The tunnel takes no place of a connection.
	if body, err := get(t, tr, b.url()); body != "ok" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	_, _ = io.WriteString(tunnel, "world")
	_ = tunnel.CloseWrite()
	if text, err := io.ReadAll(tunnel); string(text) != "hello world bye" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// No server is asked for HTTP/2 over an upgraded connection, which would be a
// tunnel for requests that nobody checks.
func TestNoH2CUpgrade(t *testing.T) {
	got := make(chan http.Header, 1)
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		r, err := http.ReadRequest(in)
		if err == nil {
			got <- r.Header
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
	})
	r := request(t, http.MethodGet, b.url(), nil)
	r.Header = http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"H2C"}, "Http2-Settings": {"AAMAAABkAAQAAP__"}}
	if resp, err := newTransport(t, Options{}).RoundTrip(r); err == nil {
		t.Error(resp.Status)
	}
	if h := <-got; h.Get("Upgrade") != "" || h.Get("Connection") != "" || h.Get("Http2-Settings") != "" {
		t.Errorf("the server got %v", h)
	}
	if r.Header.Get("Upgrade") == "" {
		t.Error("the request of the caller was changed")
	}
}

func TestTrailers(t *testing.T) {
	got := make(chan http.Header, 1)
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Trailer
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\nB: 2\r\n\r\n")
	})
	r := request(t, http.MethodPost, b.url(), io.MultiReader(strings.NewReader("x")))
	r.Trailer = http.Header{"C": {"3"}}
	resp, err := newTransport(t, Options{}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, announced := resp.Trailer["A"]; !announced || len(resp.Trailer) != 1 {
		t.Errorf("announced: %v", resp.Trailer)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.Trailer.Get("A") != "1" || resp.Trailer.Get("B") != "2" {
		t.Errorf("trailers: %v", resp.Trailer)
	}
	if h := <-got; h.Get("C") != "3" {
		t.Errorf("the server got %v", h)
	}
}

// Where the request has no Accept-Encoding the transport asks for gzip and
// decodes it, as net/http's does.
func TestCompression(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, "hello")
	_ = w.Close()
	b := serve(t, func(c net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.Header.Get("Accept-Encoding") == "" {
				_, _ = io.WriteString(c, ok)
				continue
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", packed.Len(), packed.Bytes())
		}
	})
	for name, tc := range map[string]struct {
		o            Options
		method       string
		field, value string
		want         string
		decoded      bool
	}{
		"decoded":             {Options{}, http.MethodGet, "", "", "hello", true},
		"own Accept-Encoding": {Options{}, http.MethodGet, "Accept-Encoding", "gzip", packed.String(), false},
		"range":               {Options{}, http.MethodGet, "Range", "bytes=0-1", "ok", false},
		"off":                 {Options{NoCompression: true}, http.MethodGet, "", "", "ok", false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t, tc.o)
			for range 2 {
				r := request(t, tc.method, b.url(), nil)
				if tc.field != "" {
					r.Header.Set(tc.field, tc.value)
				}
				fields := len(r.Header)
				resp, err := tr.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(resp.Body)
				if string(text) != tc.want || err != nil || resp.Uncompressed != tc.decoded || tc.decoded && resp.ContentLength != -1 {
					t.Errorf("%q, %v, length %d", text, err, resp.ContentLength)
				}
				_ = resp.Body.Close()
				if len(r.Header) != fields {
					t.Error("the request of the caller was changed")
				}
			}
			if tr.pool.idle != 1 {
				t.Error("the connection is not kept")
			}
		})
	}
}

// The hooks of httptrace.
func TestTrace(t *testing.T) {
	b, tr := answers(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok), newTransport(t, Options{})
	for i := range 2 {
		var mu sync.Mutex
		var events []string
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, fmt.Sprintf(format, args...))
		}
		trace := &httptrace.ClientTrace{
			GetConn:              func(string) { note("get") },
			GotConn:              func(i httptrace.GotConnInfo) { note("got %v %v", i.Reused, i.WasIdle) },
			ConnectStart:         func(string, string) { note("connect") },
			WroteHeaders:         func() { note("headers") },
			WroteRequest:         func(httptrace.WroteRequestInfo) { note("request") },
			GotFirstResponseByte: func() { note("byte") },
			Got1xxResponse:       func(code int, h textproto.MIMEHeader) error { note("%d %s", code, h.Get("Link")); return nil },
		}
		r := request(t, http.MethodGet, b.url(), nil)
		resp, err := tr.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		want := []string{"get,connect,got false false,headers,request,byte,103 </a>", "get,got true true,headers,request,byte,103 </a>"}[i]
		if got := strings.Join(events, ","); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	}()
	dials := 0
	tr := newTransport(t, Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}})
	for range 3 {
		if body, err := get(t, tr, "http://socket/"); body != "socket" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections", dials)
	}
	_ = os.Remove(path)
}
