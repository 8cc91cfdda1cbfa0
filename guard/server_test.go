package guard_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/websocket"

	_ "github.com/pythopus/tentagate/guard"
	"github.com/pythopus/tentagate/internal/requestid"
	"github.com/pythopus/tentagate/internal/servertest"
)

// extendedConnect makes net/http's server announce the extended CONNECT of
// HTTP/2. It reads the variable when the process starts.
const extendedConnect = "http2xconnect=1"

func TestMain(m *testing.M) {
	if debug := os.Getenv("GODEBUG"); !strings.Contains(debug, extendedConnect) {
		_ = os.Setenv("GODEBUG", strings.Trim(debug+","+extendedConnect, ","))
		if executable, err := os.Executable(); err == nil {
			// On success it does not return.
			_ = syscall.Exec(executable, os.Args, os.Environ())
		}
	}
	os.Exit(m.Run())
}

// backend echoes WebSocket messages, and otherwise describes the request.
func backend(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			websocket.Server{Handler: func(conn *websocket.Conn) {
				var message string
				for websocket.Message.Receive(conn, &message) == nil {
					_ = websocket.Message.Send(conn, "echo "+message)
				}
			}}.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Request-Id", "the-services-own")
		fmt.Fprintf(w, "%s uri=%s user=%q upgrade=%q id=%s", r.Method, r.RequestURI, r.Header["X-User"], r.Header["Upgrade"], r.Header.Get("X-Request-Id"))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// raw sends text as one request over a connection of its own.
func raw(t *testing.T, server *httptest.Server, text string) (int, http.Header, string) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body)
}

func TestIdentitySurvivesConnection(t *testing.T) {
	site := func(first string) string {
		return ":80 {\n\troute {\n\t\t" + first + "\n\t\trequest_header X-User alice\n\t\treverse_proxy " + backend(t) + "\n\t}\n}"
	}
	request := "GET / HTTP/1.1\r\nHost: gateway.test\r\nX-User: mallory\r\nConnection: close, X-User\r\n\r\n"
	_, _, body := raw(t, servertest.New(t, site("guard")), request)
	if !strings.Contains(body, `user=["alice"]`) {
		t.Errorf("the service saw %s", body)
	}
	// The attack works without guard, or this test would prove nothing.
	if _, _, body = raw(t, servertest.New(t, site("")), request); !strings.Contains(body, "user=[]") {
		t.Errorf("without guard the service saw %s", body)
	}
}

// What a route matched is what its service gets.
func TestPathsThatSlipPast(t *testing.T) {
	server := servertest.New(t, `:80 {
	guard
	handle /public/* {
		reverse_proxy `+backend(t)+`
	}
	handle {
		respond 403
	}
}`)
	for target, want := range map[string]int{
		"/public/a":                           200,
		"/public/%41":                         200,
		"/public/a;v=1":                       400,
		"/;/public/a":                         400,
		"/admin%3b/public":                    400,
		"/%2561dmin":                          400,
		"/admin":                              403,
		"/admin/../public/a":                  400,
		"/admin/%2e%2e/public/a":              400,
		"/admin/..%2fpublic/a":                400,
		"/public/..;/admin":                   400,
		"/public/%252e%252e/admin":            400,
		"/public/..%5cadmin":                  400,
		`/public/..\admin`:                    400,
		"/public/%00":                         400,
		"http://gateway.test":                 403,
		"http://gateway.test/public/a":        200,
		"http://gateway.test/x/../public/a":   400,
		"gateway.test:/public/a":              400, // a URL of the scheme gateway.test
		"x:public":                            400,
		"//public/a":                          200, // the matcher merges slashes, as lenient services do
		"/public/a?next=/public/../../etc%2f": 200,
		"/public/a?next=a;b%2541":             200,
		"/public/a?b#c":                       400,
	} {
		status, header, body := raw(t, server, "GET "+target+" HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
		if status != want {
			t.Errorf("%s: got %d, want %d: %s", target, status, want, body)
		}
		if status == 200 && !strings.Contains(body, "uri="+strings.TrimPrefix(target, "http://gateway.test")+" ") {
			t.Errorf("%s: the service saw %s", target, body)
		}
		if len(header["X-Request-Id"]) != 1 || header.Get("X-Request-Id") == "the-services-own" {
			t.Errorf("%s: X-Request-Id %q", target, header["X-Request-Id"])
		}
	}
}

func TestForeignUpgradeGoesOnWithoutIt(t *testing.T) {
	server := servertest.New(t, ":80 {\n\tguard\n\treverse_proxy "+backend(t)+"\n}")
	status, _, body := raw(t, server, "GET / HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n")
	if status != 200 || !strings.Contains(body, "upgrade=[]") {
		t.Errorf("got %d, the service saw %s", status, body)
	}
}

func TestWebSocket(t *testing.T) {
	server := servertest.New(t, ":80 {\n\tguard\n\treverse_proxy "+backend(t)+"\n}")
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Request-Id: ws-1\r\n\r\n"+maskedHi)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-Request-Id") != "ws-1" {
		t.Errorf("%s has %q", resp.Status, resp.Header["X-Request-Id"])
	}
	expectEcho(t, in)
}

// maskedHi is a text frame "hi" with a mask of zeros.
const maskedHi = "\x81\x82\x00\x00\x00\x00hi"

// expectEcho reads the backend's frame in return.
func expectEcho(t *testing.T, in io.Reader) {
	t.Helper()
	frame := make([]byte, 2+len("echo hi"))
	if _, err := io.ReadFull(in, frame); err != nil || string(frame[2:]) != "echo hi" {
		t.Errorf("got %q, %v", frame, err)
	}
}

// A WebSocket over HTTP/2 (RFC 8441): its frames are the body of a CONNECT.
func TestWebSocketOverHTTP2(t *testing.T) {
	server := servertest.NewTLS(t, ":80 {\n\tguard\n\treverse_proxy "+backend(t)+"\n}")
	transport := &http2.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	connect := func(protocol string) (*http.Response, *io.PipeWriter) {
		in, out := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, server.URL+"/chat", in)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{":protocol": {protocol}, "Sec-Websocket-Version": {"13"}}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		return resp, out
	}

	resp, out := connect("websocket")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
	if _, err := io.WriteString(out, maskedHi); err != nil {
		t.Fatal(err)
	}
	expectEcho(t, resp.Body)
	_ = out.Close()

	resp, out = connect("connect-udp")
	defer resp.Body.Close()
	_ = out.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("connect-udp: got %d", resp.StatusCode)
	}
}

func TestAccessLogHasRequestID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	server := servertest.New(t, ":80 {\n\tlog {\n\t\toutput file "+file+"\n\t}\n\tguard\n\trespond ok\n}")
	raw(t, server, "GET / HTTP/1.1\r\nHost: gateway.test\r\nX-Request-Id: logged-1\r\nConnection: close\r\n\r\n")
	server.Close() // waits for the handler, and so for the line
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		RequestID string `json:"request_id"`
	}
	if err = json.Unmarshal(bytes.TrimSpace(text), &line); err != nil || line.RequestID != "logged-1" {
		t.Errorf("the log has %s, %v", text, err)
	}
}

func TestErrorRoutesRestyleRefusals(t *testing.T) {
	server := servertest.New(t, `:80 {
	guard
	respond ok
	handle_errors 400 405 {
		respond "own page {err.status_code}"
	}
}`)
	for request, want := range map[string]int{"GET /a/../b": 400, "TRACE /": 405} {
		status, header, body := raw(t, server, request+" HTTP/1.1\r\nHost: gateway.test\r\nX-Request-Id: kept\r\nConnection: close\r\n\r\n")
		if status != want || body != fmt.Sprintf("own page %d", want) || header.Get("X-Request-Id") != "kept" {
			t.Errorf("%s: got %d %q %v", request, status, body, header)
		}
		if (want == 405) != (header.Get("Allow") != "") {
			t.Errorf("%s: Allow is %q", request, header.Get("Allow"))
		}
	}
}

// Where no watch is in front of the server, guard is it.
func TestBodyIsNoRequest(t *testing.T) {
	var stolen atomic.Int64
	early := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			stolen.Add(1)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(early.Close)
	server := servertest.New(t, ":80 {\n\tlog\n\tguard\n\treverse_proxy "+early.Listener.Addr().String()+"\n}")
	content := strings.Repeat("AAAAAAAAAAAAAAAA /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n", 12_000)
	for i := range 20 {
		header, body := fmt.Sprintf("Content-Length: %d", len(content)), content
		if i%2 == 1 {
			header, body = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(content), content)
		}
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: gateway.test\r\n"+header+"\r\n\r\n"+body)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		in := bufio.NewReader(conn)
		for answers := 0; ; answers++ {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			if _, _ = io.Copy(io.Discard, resp.Body); answers > 0 {
				t.Errorf("answer %d: %d", answers+1, resp.StatusCode)
			}
		}
		_ = conn.Close()
	}
	if stolen.Load() > 0 {
		t.Errorf("the service got %d smuggled requests", stolen.Load())
	}
	for request, want := range map[string]int{
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":      400,
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n":               400,
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno field\r\n\r\n": 400,
		"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: 1\r\n\r\n":     401,
		"Transfer-Encoding: chunked\r\n\r\n5;ext=\"1\"\r\nhello\r\n0\r\n\r\n":   401,
		"Content-Length: 5\r\n\r\nhello":                                        401,
	} {
		if status, _, body := raw(t, server, "POST /echo HTTP/1.1\r\nHost: gateway.test\r\n"+request); status != want {
			t.Errorf("%q: got %d %s", request, status, body)
		}
	}
}

// A field that cannot be sent to the service is the client's fault where its
// value is from the request, whatever proxies it.
func TestFieldOfTheClientsText(t *testing.T) {
	server := servertest.New(t, ":80 {\n\tguard\n\treverse_proxy "+backend(t)+" {\n\t\theader_up X-Q {query.q}\n\t}\n}")
	for query, want := range map[string]int{"a": 200, "%ff": 200, "a%0Ab": 400, "%00": 400, "%0d%0aX-User:admin": 400, "%7f": 400} {
		resp, err := http.Get(server.URL + "/?q=" + query)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", query, resp.StatusCode, want)
		}
	}
}

// A status that HTTP does not have breaks off no connection.
func TestStatusThatIsNone(t *testing.T) {
	for _, status := range []string{"000", "020", "099", "+20"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s X\r\nContent-Length: 0\r\n\r\n", status)
		}()
		server := servertest.New(t, ":80 {\n\tguard\n\treverse_proxy "+l.Addr().String()+"\n}")
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Errorf("%s: %v", status, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: got %d", status, resp.StatusCode)
		}
	}
}

// An error of a handler in front of guard has an id, as one behind it has.
func TestRequestIDInFront(t *testing.T) {
	server := servertest.New(t, ":80 {\n\troute {\n\t\terror /front 403\n\t\tguard\n\t\terror /behind 403\n\t}\n}")
	for _, path := range []string{"/front", "/behind"} {
		for _, given := range []string{"", "a-b.c", "a b"} {
			r, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if given != "" {
				r.Header.Set(requestid.Header, given)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			var body struct{ Instance string }
			err = json.NewDecoder(resp.Body).Decode(&body)
			_ = resp.Body.Close()
			id := resp.Header.Get(requestid.Header)
			if err != nil || resp.StatusCode != 403 || id == "" || id != body.Instance || (id == given) != (given == "a-b.c") {
				t.Errorf("%s with the id %q: %d with %q, in the body %q, %v", path, given, resp.StatusCode, id, body.Instance, err)
			}
		}
	}
}
