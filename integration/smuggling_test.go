package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// smuggled is what bodies are made of: read as a request, wherever the reading
// begins, it asks for /smuggled.
const smuggled = "AAAAAAAAAAAAAAAA /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"

// earlyBackend answers before it has read the body, in the way that the path
// names, and counts the requests that nobody sent it.
func earlyBackend(t *testing.T) (url string, stolen, hits *atomic.Int64) {
	t.Helper()
	stolen, hits = new(atomic.Int64), new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		hijack := func(answer string) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, answer)
			if tcp, ok := conn.(*net.TCPConn); ok && answer == "" {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "smuggled"):
			stolen.Add(1)
		case r.URL.Path == "/echo":
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
		case r.URL.Path == "/413":
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case r.URL.Path == "/401":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/200":
			// More than the buffers on the way hold.
			_, _ = w.Write(make([]byte, 16<<10))
		case r.URL.Path == "/line":
			hijack("HTTP/1.1 abc def\r\n\r\n")
		case r.URL.Path == "/reset":
			hijack("")
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, stolen, hits
}

// framed returns a body of about the size, as the two framings have it.
func framed(host string, size int, chunked bool) (header, body string) {
	unit := strings.Replace(smuggled, "HOST", host, 1)
	content := strings.Repeat(unit, size/len(unit)+1)
	if !chunked {
		return fmt.Sprintf("Content-Length: %d\r\n", len(content)), content
	}
	var b strings.Builder
	for rest := content; rest != ""; {
		n := min(len(rest), 4000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	b.WriteString("0\r\n\r\n")
	return "Transfer-Encoding: chunked\r\n", b.String()
}

// attack sends one request in pieces and returns how many answers came.
func attack(addr, host, path string, size int, chunked bool) (answers int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	header, body := framed(host, size, chunked)
	first := min(len(body), rand.IntN(40<<10))
	pause := time.Duration(rand.IntN(3)) * time.Millisecond
	var sent sync.WaitGroup
	sent.Go(func() {
		if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+header+"\r\n"+body[:first]); err != nil {
			return
		}
		time.Sleep(pause) // the answer is on its way while the rest is sent
		_, _ = io.WriteString(conn, body[first:])
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	defer sent.Wait()
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers, nil // closed, or reset while the client still sent
		}
		answers++
		if _, err = io.Copy(io.Discard, resp.Body); err != nil {
			return answers, nil
		}
	}
}

const smugglingSites = `{
	admin $ADMIN
	metrics
}
http://short.test:$PORT {
	LOG
	tentagate {
		service users BACKEND
		public /api/users/*
		ratelimit off
		circuit_breaker off
	}
}
http://long.test:$PORT {
	LOG
	guard
	jwt_auth {
		secret {env.JWT_SECRET_KEY}
		optional
	}
	ratelimit 10000000/1m
	http_cache 10s
	circuit_breaker users {
		trip 100% of 1000000
	}
	reverse_proxy BACKEND
}
http://bare.test:$PORT {
	LOG
	guard
	reverse_proxy BACKEND
}
http://early.test:$PORT {
	LOG
	route {
		respond /early 401
		reverse_proxy /401 BACKEND
		guard
		reverse_proxy BACKEND
	}
}
http://other.test:$PORT {
	LOG
	reverse_proxy BACKEND
}
`

// The rest of a body is never read as a request, whichever handler answers before it
// was read: the service, a handler of the gateway, one in front of guard, or
// one of a site that has none.
func TestNoRequestFromABody(t *testing.T) {
	for _, log := range []string{"", "log"} {
		t.Run("log="+log, func(t *testing.T) {
			t.Parallel()
			url, stolen, hits := earlyBackend(t)
			g := start(t, strings.NewReplacer("LOG", log, "BACKEND", url).Replace(smugglingSites), "JWT_SECRET_KEY="+secret)
			type target struct{ host, path string }
			var targets []target
			for _, how := range []string{"401", "413", "200", "line", "reset"} {
				targets = append(targets, target{"short.test", "/api/users/" + how})
				for _, host := range []string{"long.test", "bare.test", "early.test", "other.test"} {
					targets = append(targets, target{host, "/" + how})
				}
			}
			targets = append(targets, target{"early.test", "/early"}, target{"short.test", "/api/users"}, target{"short.test", "/api/orders/x"},
				target{"short.test", "/nowhere"}, target{"long.test", "/a/../b"}, target{"nobody.test", "/"})
			const tries = 4000
			var next, twice atomic.Int64
			var workers sync.WaitGroup
			for range 6 {
				workers.Go(func() {
					for {
						i := int(next.Add(1))
						if i > tries {
							return
						}
						to := targets[i%len(targets)]
						size := []int{3 << 10, 60 << 10, 300 << 10, 700 << 10}[rand.IntN(4)]
						answers, err := attack(g.addr, to.host, to.path, size, i/len(targets)%2 == 1)
						if err != nil {
							t.Error(err)
							return
						}
						if answers > 1 {
							twice.Add(1)
							t.Errorf("%s%s with %d bytes: %d answers", to.host, to.path, size, answers)
						}
					}
				})
			}
			workers.Wait()
			if n := stolen.Load(); n > 0 {
				t.Errorf("the service was asked %d times what nobody asked", n)
			}
			if hits.Load() < tries/4 {
				t.Errorf("the service was asked %d times only", hits.Load())
			}
		})
	}
}

// It holds for a server that has any feature, guard or not.
func TestNoRequestFromABodyWithoutGuard(t *testing.T) {
	for feature, directive := range map[string]string{
		"ratelimit":       "ratelimit 10000000/1m",
		"http_cache":      "http_cache 10s",
		"cors":            "cors https://app.test",
		"jwt_auth":        "jwt_auth {\n\t\tsecret " + secret + "\n\t\toptional\n\t}",
		"health":          "health",
		"circuit_breaker": "circuit_breaker users {\n\t\ttrip 100% of 1000000\n\t}",
		"transport":       "",
	} {
		t.Run(feature, func(t *testing.T) {
			t.Parallel()
			url, stolen, _ := earlyBackend(t)
			options := ""
			if directive == "" {
				options = " {\n\t\ttransport tentagate {\n\t\t\tbreaker users {\n\t\t\t\ttrip 100% of 1000000\n\t\t\t}\n\t\t}\n\t}"
			}
			g := start(t, "{\n\tadmin $ADMIN\n}\nhttp://$ADDR {\n\t"+directive+"\n\treverse_proxy "+url+options+"\n}\n")
			for i := range 100 {
				path := []string{"/401", "/413", "/line", "/reset"}[i/2%4]
				if answers, err := attack(g.addr, g.addr, path, 700<<10, i%2 == 1); err != nil || answers > 1 {
					t.Errorf("%s: %d answers, %v", path, answers, err)
				}
			}
			if n := stolen.Load(); n > 0 {
				t.Errorf("the service was asked %d times what nobody asked", n)
			}
		})
	}
}

// An ordinary request keeps its connection, whether the service reads its body
// or a handler refuses it.
func TestConnectionsAreKept(t *testing.T) {
	url, _, _ := earlyBackend(t)
	g := start(t, strings.NewReplacer("LOG", "log", "BACKEND", url).Replace(smugglingSites), "JWT_SECRET_KEY="+secret)
	for _, tc := range []struct {
		host, path string
		status     int
	}{
		{"short.test", "/api/users/echo", 200},
		{"short.test", "/api/orders/x", 401},
		{"long.test", "/echo", 200},
		{"long.test", "/a/../b", 400},
		{"bare.test", "/echo", 200},
		{"bare.test", "/401", 401},
		{"early.test", "/early", 401},
		{"other.test", "/echo", 200},
	} {
		for _, chunked := range []bool{false, true} {
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			in := bufio.NewReader(conn)
			for i, size := range []int{0, 10, 2000, 20_000, 100_000} {
				body := strings.Repeat("x", size)
				header := fmt.Sprintf("Content-Length: %d\r\n", size)
				if chunked {
					header = "Transfer-Encoding: chunked\r\n"
					if size > 0 {
						body = fmt.Sprintf("%x\r\n%s\r\n", size, body)
					}
					body += "0\r\n\r\n"
				}
				if _, err = io.WriteString(conn, "POST "+tc.path+" HTTP/1.1\r\nHost: "+tc.host+"\r\n"+header+"\r\n"+body); err != nil {
					t.Fatalf("%s%s, chunked %v, request %d: %v", tc.host, tc.path, chunked, i, err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("%s%s, chunked %v, request %d: %v", tc.host, tc.path, chunked, i, err)
				}
				text, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != tc.status || resp.Close {
					t.Fatalf("%s%s, chunked %v, request %d: %d, closing %v: %s", tc.host, tc.path, chunked, i, resp.StatusCode, resp.Close, text)
				}
			}
			_ = conn.Close()
		}
	}
}

// A client that waits for 100 Continue gets a refusal at once, and its
// connection ends, as what it sends next could be either.
func TestRefusalWhileTheClientWaits(t *testing.T) {
	url, stolen, _ := earlyBackend(t)
	g := start(t, strings.NewReplacer("LOG", "log", "BACKEND", url).Replace(smugglingSites), "JWT_SECRET_KEY="+secret)
	for _, tc := range []struct {
		host, path string
		status     int
	}{
		{"short.test", "/api/orders/x", 401},
		{"long.test", "/a/../b", 400},
		{"bare.test", "/a;b", 400},
		{"early.test", "/early", 401},
		{"bare.test", "/echo", 200},
	} {
		for _, framing := range []string{"Content-Length: 47", "Transfer-Encoding: chunked"} {
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			// Nothing but an answer at once is in time.
			_ = conn.SetDeadline(time.Now().Add(4 * time.Second))
			_, _ = io.WriteString(conn, "POST "+tc.path+" HTTP/1.1\r\nHost: "+tc.host+"\r\nExpect: 100-continue\r\n"+framing+"\r\n\r\n")
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s%s, %s: %v", tc.host, tc.path, framing, err)
			}
			if tc.status == 200 {
				if resp.StatusCode != 100 {
					t.Errorf("%s%s, %s: %d in place of 100", tc.host, tc.path, framing, resp.StatusCode)
				}
				body := "POST /smuggled HTTP/1.1\r\nHost: bare.test\r\n\r\n...."
				if strings.HasPrefix(framing, "T") {
					body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
				} else {
					body = body[:47]
				}
				_, _ = io.WriteString(conn, body)
				for resp.StatusCode == 100 { // the service's own too
					if resp, err = http.ReadResponse(in, nil); err != nil {
						t.Fatalf("%s%s, %s: %v", tc.host, tc.path, framing, err)
					}
				}
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != tc.status || tc.status != 200 && !resp.Close {
				t.Errorf("%s%s, %s: %d, closing %v", tc.host, tc.path, framing, resp.StatusCode, resp.Close)
			}
			if tc.status != 200 {
				_, _ = io.WriteString(conn, "POST /smuggled HTTP/1.1\r\nHost: bare.test\r\n\r\n")
				if _, err = in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s%s, %s: the connection stayed open: %v", tc.host, tc.path, framing, err)
				}
			}
			_ = conn.Close()
		}
	}
	if stolen.Load() > 0 {
		t.Errorf("the service was asked %d times what nobody asked", stolen.Load())
	}
}

// A message whose end is in doubt is refused, and nothing behind it is read.
func TestFraming(t *testing.T) {
	url, stolen, _ := earlyBackend(t)
	g := start(t, strings.NewReplacer("LOG", "log", "BACKEND", url).Replace(smugglingSites), "JWT_SECRET_KEY="+secret)
	const chunks = "5\r\nhello\r\n"
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct {
		head, body string // of a POST
		piece      bool   // the head comes in two
		status     int    // 0 for any
	}{
		"length beside encoding":       {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\n\r\n", false, 400},
		"encoding beside length":       {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", chunks + "0\r\n\r\n", false, 400},
		"in other cases":               {"HTTP/1.1\r\nHost: HOST\r\ntransfer-encoding: Chunked\r\ncONTENT-lENGTH:0\r\n", chunks + "0\r\n\r\n", false, 400},
		"lengths of the body's":        {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: 20\r\nContent-Length: 20\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\n\r\n", false, 400},
		"in a large header":            {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: 20\r\nX-A: " + long + "\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\n\r\n", false, 0},
		"in two pieces":                {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: 20\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\n\r\n", true, 0},
		"two lengths":                  {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "hello", false, 400},
		"no length":                    {"HTTP/1.1\r\nHost: HOST\r\nContent-Length: +5\r\n", "hello", false, 400},
		"two encodings":                {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks + "0\r\n\r\n", false, 501},
		"another encoding":             {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n", chunks + "0\r\n\r\n", false, 501},
		"encoding of HTTP/1.0":         {"HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n", "", false, 0},
		"length of HTTP/1.0":           {"HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\nContent-Length: 5\r\n", "hello", false, 0},
		"invalid trailer field":        {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\nno field\r\n\r\n", false, 400},
		"trailer beyond the limit":     {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\nX-A: " + long + "\r\n\r\n", false, 400},
		"trailer with a blank":         {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\nX-A : 1\r\n\r\n", false, 400},
		"trailer with no name":         {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\n: 1\r\n\r\n", false, 400},
		"trailer with a value of none": {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "0\r\nX-A: 1\x002\r\n\r\n", false, 400},
		"announced trailer":            {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n", chunks + "0\r\nX-A\r\n\r\n", false, 400},
		"size that is none":            {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "ZZZ\r\n", false, 400},
		"size beyond 64 bits":          {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "fffffffffffffffff\r\n", false, 400},
		"negative size":                {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", chunks + "-1\r\n", false, 400},
		"chunk without an end":         {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", "5\r\nhelloXX0\r\n\r\n", false, 400},
		"line feeds alone":             {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", "5\nhello\n0\n\n", false, 400},
		"extension that is not ended":  {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n", false, 400},
		"large extension":              {"HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n", "5;" + long + "\r\nhello\r\n0\r\n\r\n", false, 400},
	} {
		for _, to := range []struct{ host, path string }{
			{"short.test", "/api/users/echo"},
			{"long.test", "/echo"},
			{"bare.test", "/echo"},
			{"early.test", "/early"},
			{"early.test", "/echo"},
			{"other.test", "/echo"},
			{"short.test", "/api/orders/x"},
		} {
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			text := "POST " + to.path + " " + strings.Replace(tc.head, "HOST", to.host, 1) + "\r\n"
			if tc.piece {
				at := strings.Index(text, "Transfer-Encoding")
				_, _ = io.WriteString(conn, text[:at])
				time.Sleep(50 * time.Millisecond) // the server has read the first piece by now, most likely
				text = text[at:]
			}
			_, _ = io.WriteString(conn, text+tc.body+"POST /smuggled HTTP/1.1\r\nHost: other.test\r\nContent-Length: 0\r\n\r\n")
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("%s, %s%s: %v", name, to.host, to.path, err)
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			// A handler in front, or a refusal before the body is read, has the
			// word first.
			ours := to.path == "/echo" && strings.Contains("long.test bare.test", to.host) || to.path == "/api/users/echo"
			if ours && tc.status != 0 && resp.StatusCode != tc.status {
				t.Errorf("%s, %s%s: got %d, want %d", name, to.host, to.path, resp.StatusCode, tc.status)
			}
			if next, err := http.ReadResponse(in, nil); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, %s%s: the connection stayed open: %v, %v", name, to.host, to.path, next, err)
			}
			_ = conn.Close()
		}
	}
	if n := stolen.Load(); n > 0 {
		t.Errorf("the service was asked %d times what came behind a broken message", n)
	}
}
