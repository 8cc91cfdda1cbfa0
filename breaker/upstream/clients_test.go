package upstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// script is what a backend does with one connection.
type script func(c *net.TCPConn, in *bufio.Reader)

// scripted starts a backend that follows a script with each connection.
func scripted(t *testing.T, do script) string {
	t.Helper()
	return testkit.Serve(t, func(c net.Conn) { do(c.(*net.TCPConn), bufio.NewReader(c)) })
}

// answerWith answers each request with the same text, once it has read its body. Pieces
// between | are sent one by one.
func answerWith(text string) script {
	return func(c *net.TCPConn, in *bufio.Reader) {
		for readRequest(in) {
			for piece := range strings.SplitSeq(text, "|") {
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// once does the same with the first request of a connection only, and then
// something else.
func once(text string, then func(c *net.TCPConn)) script {
	return func(c *net.TCPConn, in *bufio.Reader) {
		if readRequest(in) {
			_, _ = io.WriteString(c, text)
			then(c)
		}
	}
}

func readRequest(in *bufio.Reader) bool {
	r, err := http.ReadRequest(in)
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	return err == nil
}

func closes(*net.TCPConn) {}

func resets(c *net.TCPConn) { _ = c.SetLinger(0) }

func halfCloses(c *net.TCPConn) {
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

func hangs(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// Where an answer without a length has no Content-Type either, it depends on the
// moment of Caddy's first flush whether Go's server adds one.
const (
	plain   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	chunked = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// behaviours are backends as they come, with what the client is to see if the
// direct client is stricter than Caddy's.
var behaviours = []struct {
	name    string
	do      script
	options string
	slow    bool   // one request will do
	strict  string // why the answers differ, and how the direct one begins
	begins  string
}{
	{name: "ordinary", do: answerWith(plain)},
	{name: "in pieces", do: answerWith("HT|TP/1.1 200 |OK\r\nCon|tent-Length: 4\r\n\r|\nok|ok")},
	{name: "chunked", do: answerWith(chunked + "2\r\nok\r\n0\r\n\r\n")},
	{name: "chunked in pieces", do: answerWith(chunked + "2|\r\no|k\r\n|3\r\nabc\r\n0|\r\n\r|\n")},
	{name: "chunk extensions", do: answerWith(chunked + "2;a=b;c=\"d\"\r\nok\r\n0;x\r\n\r\n")},
	{name: "trailers", do: answerWith("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\n\r\n")},
	{name: "trailers, not announced", do: answerWith(chunked + "2\r\nok\r\n0\r\nA: 1\r\nB: 2\r\n\r\n")},
	{name: "until the end", do: once("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nok", closes)},
	{name: "until the end, half closed", do: once("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nok", halfCloses)},
	{name: "HTTP/1.0", do: once("HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nok", closes)},
	{name: "HTTP/1.0 with a length", do: once("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", closes)},
	{name: "HTTP/1.0 kept alive", do: answerWith("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")},
	{name: "HTTP/1.0 chunked", do: once("HTTP/1.0 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", closes)},
	{name: "closes", do: once("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", closes)},
	{name: "says that it closes", do: answerWith("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")},
	{name: "closes unannounced", do: once(plain, closes)},
	{name: "half closes", do: once(plain, halfCloses)},
	{name: "no content", do: answerWith("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")},
	{name: "not modified", do: answerWith("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n")},
	{name: "error", do: answerWith("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno")},
	{name: "redirect", do: answerWith("HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")},
	{name: "an odd code", do: answerWith("HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\nok")},
	{name: "a code that is none", do: answerWith("HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok")},
	{name: "no reason phrase", do: answerWith("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")},
	{name: "line feeds alone", do: answerWith("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")},
	{name: "folded field", do: answerWith("HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok")},
	{name: "many fields", do: answerWith("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 500) + "Content-Length: 2\r\n\r\nok")},
	{name: "large header", do: answerWith("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 100<<10) + "\r\nContent-Length: 2\r\n\r\nok")},
	{name: "too large header", options: "max_response_header 4KiB", do: answerWith("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 5<<10) + "\r\nContent-Length: 2\r\n\r\nok")},
	{name: "endless header", options: "max_response_header 64KiB", do: func(c *net.TCPConn, in *bufio.Reader) {
		readRequest(in)
		for line := "HTTP/1.1 200 OK\r\n"; ; line = "X-A: b\r\n" {
			if _, err := io.WriteString(c, line); err != nil {
				return
			}
		}
	}},
	{name: "hop by hop fields", do: answerWith("HTTP/1.1 200 OK\r\nConnection: X-A\r\nX-A: b\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok")},
	{name: "gzip unasked", do: answerWith("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok")},
	{name: "gzip broken", do: answerWith("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok")},

	{name: "hints", do: answerWith("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n|" + plain)},
	{name: "informational flood", do: answerWith(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50) + plain)},
	{name: "endless informational", do: func(c *net.TCPConn, in *bufio.Reader) {
		readRequest(in)
		for range 2000 {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, plain)
	}, strict: "1000 informational responses are enough", begins: "502"},
	{name: "continue, not asked for", do: answerWith("HTTP/1.1 100 Continue\r\n\r\n" + plain)},
	{name: "switch, not asked for", do: answerWith("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")},
	{name: "switch to nothing", do: answerWith("HTTP/1.1 101 Switching Protocols\r\n\r\n")},

	{name: "resets", do: func(c *net.TCPConn, in *bufio.Reader) { resets(c) }},
	{name: "resets after the request", do: once("", resets)},
	{name: "closes after the request", do: once("", closes)},
	{name: "closes within the line", do: once("HTTP/1.1 2", closes)},
	{name: "closes within the header", do: once("HTTP/1.1 200 OK\r\nContent-", closes)},
	{name: "closes behind the header", do: once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", closes)},
	{name: "closes within the body", do: once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", closes)},
	{name: "closes within a chunk", do: once(chunked+"5\r\nok", closes)},
	{name: "closes between chunks", do: once(chunked+"2\r\nok\r\n", closes)},
	{name: "closes within the trailers", do: once(chunked+"2\r\nok\r\n0\r\nA: b\r\n", closes)},
	{name: "hangs", options: "response_header_timeout 50ms", do: once("", hangs)},
	{name: "hangs within the header", options: "response_header_timeout 50ms", do: once("HTTP/1.1 200 OK\r\nA: b", hangs)},
	{name: "hangs, bound by reads", options: "read_timeout 50ms", do: once("", hangs)},
	{name: "hangs within the body", options: "read_timeout 3s", slow: true, do: once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", hangs)},
	{name: "slow", options: "response_header_timeout 10s\n\t\t\tread_timeout 10s\n\t\t\twrite_timeout 10s", do: answerWith("H|T|T|P|/|1|.|1| |200 OK\r\nContent-Length: 4|\r\n\r\n|o|k|o|k")},

	{name: "garbage", do: once("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", closes)},
	{name: "not HTTP", do: answerWith("SSH-2.0-OpenSSH_9.6\r\n")},
	{name: "HTTP/2", do: once("\x00\x00\x12\x04\x00\x00\x00\x00\x00", closes)},
	{name: "HTTP/3.0 in text", do: answerWith("HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok")},
	{name: "two blanks", do: answerWith("HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok")},
	{name: "a tab", do: answerWith("HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok")},
	{name: "four digits", do: answerWith("HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok")},
	{name: "two lengths", do: answerWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")},
	{name: "the same length twice", do: answerWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")},
	{name: "lengths in a list", do: answerWith("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok")},
	{name: "negative length", do: answerWith("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok")},
	{name: "a length with a sign", do: answerWith("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok")},
	{name: "a length with a blank", do: once("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length : 2\r\n\r\nok", closes)},
	{name: "length and chunks", do: answerWith("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")},
	{name: "two codings", do: answerWith("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\nok\r\n0\r\n\r\n")},
	{name: "unknown coding", do: answerWith("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")},
	{name: "bad chunk size", do: answerWith(chunked + "-2\r\nok\r\n0\r\n\r\n")},
	{name: "huge chunk size", do: answerWith(chunked + "fffffffffffffffff\r\nok\r\n0\r\n\r\n")},
	{name: "chunk without an end", do: answerWith(chunked + "2\r\nokX\r\n0\r\n\r\n")},
	{name: "large trailers", do: answerWith(chunked + "2\r\nok\r\n0\r\nA: " + strings.Repeat("a", 10<<10) + "\r\n\r\n")},
	{name: "forbidden trailers", do: answerWith("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 1\r\n\r\n")},
	{name: "surplus", do: answerWith(plain + "surplus")},
	{name: "a second answer", do: answerWith(plain + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")},
	{name: "surplus behind chunks", do: answerWith(chunked + "2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")},
	{name: "a body where none is", do: answerWith("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nsecret")},

	{name: "early, closes", do: func(c *net.TCPConn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		halfCloses(c)
	}},
	{name: "early, reads on", do: func(c *net.TCPConn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}},
}

// requests are what a client sends in turn over one connection to the gateway.
var requests = []string{
	"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /gzip HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
	"HEAD /b HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"OPTIONS /e HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
}

// seen is what a client gets in answer to a request: the informational answers,
// the answer with its fields, the body and how it ended, the trailers.
func seen(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	in, text := bufio.NewReader(c), ""
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return text + fmt.Sprint("no answer: ", errors.Is(err, io.ErrUnexpectedEOF))
		}
		resp.Header.Del("Date")
		body, err := io.ReadAll(resp.Body)
		text += fmt.Sprintf("%d %s\n%s\n%q %v\n%s", resp.StatusCode, resp.Status, fields(resp.Header), body, err, fields(resp.Trailer))
		if resp.StatusCode >= 200 {
			return text + fmt.Sprint("length ", resp.ContentLength, resp.TransferEncoding, resp.Close)
		}
	}
}

func fields(h http.Header) string {
	var lines []string
	for name, values := range h {
		lines = append(lines, name+": "+strings.Join(values, " | "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// Whatever a backend does, the client sees the same through the direct client as
// through Caddy's, unless the direct one is stricter.
func TestSameAsCaddysClient(t *testing.T) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			backend := scripted(t, b.do)
			gateway := func(how string) string {
				return servertest.New(t, fmt.Sprintf(":80 {\n\treverse_proxy %s {\n\t\ttransport tentagate {\n\t\t\tdirect %s\n\t\t\t%s\n\t\t}\n\t}\n}",
					backend, how, b.options)).Listener.Addr().String()
			}
			direct, caddys := gateway("on"), gateway("off")
			t.Parallel() // configurations are not loaded at the same time
			for i, request := range requests {
				if b.slow && i > 0 {
					break
				}
				got, want := seen(t, direct, request), seen(t, caddys, request)
				if b.strict != "" {
					if !strings.Contains(got, b.begins) {
						t.Errorf("%q: %s: got\n%s", request, b.strict, got)
					}
					continue
				}
				// A backend that closes while the body is sent is a race, in which either
				// client sees one or the other.
				for try := 0; got != want && try < 20; try++ {
					got, want = seen(t, direct, request), seen(t, caddys, request)
				}
				if got != want {
					t.Errorf("%q: got\n%s\nwant\n%s", request, got, want)
				}
			}
		})
	}
}
