package framing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// dial connects to a server.
func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// answers sends text to a server with the handler behind a watch and returns
// the statuses of all answers, and whether the connection ended behind them.
func answers(t *testing.T, handler http.HandlerFunc, text string) (statuses []int, ended bool) {
	t.Helper()
	server := httptest.NewServer(newFront(handler))
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if len(statuses) >= strings.Count(text, "POST /") {
			// All is answered: an open connection says nothing.
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, !errors.Is(err, os.ErrDeadlineExceeded)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
}

// longLine returns a chunked request with a line that is longer than the buffer of
// the connection, which ends at what looks like the request line.
func longLine(before, after string) string {
	line := "POST / HTTP/1.1\r\n"
	name := before[strings.LastIndex(before, "\n")+1:]
	return line + before + strings.Repeat(",", 4<<10-len(name)) + line + "Host: a\r\n" + after + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
}

func TestWhoReadsTheBody(t *testing.T) {
	post := func(body, header string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body), body)
	}
	again := post("x", "")
	small, large := post("hello", ""), post(strings.Repeat("x", maxRest+100_000), "")
	chunked := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	nobody := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }
	all := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(401)
	}
	some := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1))
		w.WriteHeader(401)
	}
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		text    string
		kept    bool
	}{
		"nobody":                  {nobody, small, true},
		"nobody, chunked":         {nobody, chunked + "0\r\n\r\n", true},
		"nobody, large":           {nobody, large, false},
		"nobody, broken":          {nobody, chunked + "ZZZ\r\n", false},
		"nobody, no trailer":      {nobody, chunked + "0\r\nX\r\n\r\n", false},
		"all":                     {all, small, true},
		"all, large":              {all, large, true},
		"all, chunked":            {all, chunked + "0\r\n\r\n", true},
		"all, a trailer":          {all, chunked + "0\r\nX-A: 1\r\n\r\n", true},
		"all, broken":             {all, chunked + "ZZZ\r\n", false},
		"all, no trailer":         {all, chunked + "0\r\nX A: 1\r\n\r\n", false},
		"some":                    {some, large, false},
		"some, chunked":           {some, chunked + "0\r\n\r\n", false},
		"no answer":               {func(http.ResponseWriter, *http.Request) {}, small, true},
		"the client wants an end": {all, post("hello", "Connection: close\r\n"), false},
		"expected, not asked for": {nobody, post("hello", "Expect: 100-continue\r\n"), false},
		"expected in a list":      {nobody, post("hello", "Expect: other, 100-Continue\r\n"), false},
		"closed by the reader":    {func(w http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)); _ = r.Body.Close() }, small, true},
		"closed, large":           {func(w http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)); _ = r.Body.Close() }, large, false},
		"closed, broken":          {func(w http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)); _ = r.Body.Close() }, chunked + "ZZZ\r\n", false},
		"informational first":     {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103); all(w, r) }, large, true},
		"full duplex": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(200)
			all(w, r)
		}, chunked + "ZZZ\r\n", false},
		"full duplex, read before": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			all(w, r)
		}, small, true},
		"length in front of a line that fills the buffer": {all, longLine("Content-Length: 5\r\nX-Pad: ", "X-Pad: 1\r\n"), false},
		"length in front of a trailer that fills it":      {all, longLine("Content-Length: 5\r\nTrailer: ", ""), false},
		"announced trailer":                               {all, strings.Replace(chunked, "Host", "Trailer: X-A\r\nHost", 1) + "0\r\nX-A: 1\r\n\r\n", true},
		"many fields":                                     {all, post("hello", strings.Repeat("X-A: 1\r\nX-B: 1\r\n", 30)), true},
		"many fields, chunked":                            {all, strings.Replace(chunked, "Host", strings.Repeat("x-a: 1\r\nX-B: 1\r\n 2\r\n", 30)+"Host", 1) + "0\r\n\r\n", true},
		"a pragma":                                        {all, strings.Replace(chunked, "Host", "Pragma: no-cache\r\nHost", 1) + "0\r\n\r\n", true},
		"a pragma beside its control":                     {all, strings.Replace(chunked, "Host", "Pragma: no-cache\r\nCache-Control: no-cache\r\nHost", 1) + "0\r\n\r\n", true},
		"a pragma, length in front of a long line":        {all, longLine("Content-Length: 5\r\nX-Pad: ", "Pragma: no-cache\r\n"), false},
		"a pragma, control in front of a long line":       {all, longLine("Content-Length: 5\r\nCache-Control: no-cache\r\nX-Pad: ", "Pragma: no-cache\r\n"), false},
		"a pragma, control and a long trailer":            {all, longLine("Content-Length: 5\r\nCache-Control: no-cache\r\nTrailer: ", "Pragma: no-cache\r\n"), false},
		"length beside":                                   {all, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		"HTTP/1.0":                                        {all, "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", false},
		"HTTP/1.0 without a body":                         {all, "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			statuses, ended := answers(t, tc.handler, tc.text+again)
			statuses = slices.DeleteFunc(statuses, func(status int) bool { return status < 200 })
			if want := map[bool]int{true: 2, false: 1}[tc.kept]; len(statuses) != want || ended == tc.kept {
				t.Errorf("%v, ended %v", statuses, ended)
			}
		})
	}
}

// Clients of HTTP/1.0 do not know informational responses.
func TestInformational(t *testing.T) {
	for version, want := range map[string][]int{"1.0": {200}, "1.1": {100, 103, 200}} {
		got, _ := answers(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(100)
			w.WriteHeader(103)
			w.WriteHeader(200)
		}, "GET / HTTP/"+version+"\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !slices.Equal(got, want) {
			t.Errorf("HTTP/%s: %v, want %v", version, got, want)
		}
	}
}

// Handlers, and so all logs, see no password in the target. Whether there is a length
// beside the encoding is known all the same.
func TestUserinfo(t *testing.T) {
	for request, want := range map[string]string{
		"GET http://user:s3cret@a/b HTTP/1.1\r\n":                                                     "http://REDACTED@a/b false",
		"POST http://user:s3cret@a/b HTTP/1.1\r\nContent-Length: 1\r\n":                               "http://REDACTED@a/b false",
		"POST http://user:s3cret@a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n":                      "http://REDACTED@a/b false",
		"POST http://user:s3cret@a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n": "http://REDACTED@a/b true",
		"CONNECT user:s3cret@a:80 HTTP/1.1\r\n":                                                       "REDACTED@a:80 false",
		"GET http://a/b@c HTTP/1.1\r\n":                                                               "http://a/b@c false",
	} {
		var got string
		answers(t, func(_ http.ResponseWriter, r *http.Request) {
			q := From(r.Context())
			got = fmt.Sprint(r.RequestURI, " ", q != nil && q.beside)
		}, request+"Host: a\r\nConnection: close\r\n\r\n0\r\n\r\n")
		if got != want {
			t.Errorf("%q: %q, want %q", request, got, want)
		}
	}
}

// The answer to OPTIONS * waits for no body, and is no site's.
func TestGeneralOptions(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a site was asked") }))
	server.Config.ConnContext = new(installation).connContext
	server.Start()
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	for _, fields := range []string{"", "Content-Length: 1000\r\nExpect: 100-continue\r\n"} {
		_, _ = io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: a\r\n"+fields+"\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength != 0 || resp.Close != (fields != "") {
			t.Errorf("%q: %v, %v", fields, resp, err)
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// Nobody reads on behind the header if the rest was read for the connection.
func TestNobodyReadsTheRestTwice(t *testing.T) {
	late := make(chan error, 1)
	statuses, ended := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 5 {
			return
		}
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		_, err := r.Body.Read(make([]byte, 1))
		late <- err
	}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if err := <-late; !errors.Is(err, io.EOF) || len(statuses) != 2 || ended {
		t.Errorf("%v, %v, ended %v", err, statuses, ended)
	}
}

// A read that is still under way when the handlers have returned, as in a proxy
// whose service answered early, leaves no connection without a bound.
func TestReadUnderWay(t *testing.T) {
	for name, head := range map[string]string{
		"length":            "Content-Length: 1000\r\n\r\n",
		"length, begun":     "Content-Length: 1000\r\n\r\nabc",
		"chunked":           "Transfer-Encoding: chunked\r\n\r\n",
		"chunked, begun":    "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
		"length, to be end": "Connection: close\r\nContent-Length: 1000\r\n\r\n",
	} {
		read := make(chan error, 1)
		handler := func(w http.ResponseWriter, r *http.Request) {
			began := make(chan struct{})
			go func() {
				close(began)
				_, err := io.Copy(io.Discard, r.Body)
				read <- err
			}()
			<-began
			for q := From(r.Context()); ; runtime.Gosched() {
				q.mu.Lock()
				reading := q.reading > 0
				q.mu.Unlock()
				if reading {
					break
				}
			}
			w.WriteHeader(200)
		}
		server := httptest.NewServer(newFront(http.HandlerFunc(handler)))
		defer server.Close()
		conn := dial(t, server)
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+head)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
			t.Errorf("%s: the connection stays open: %q, %v", name, answer, err)
		}
		_ = conn.Close()
		if <-read == nil {
			t.Errorf("%s: the body has an end", name)
		}
	}
}

func TestTrailers(t *testing.T) {
	got := make(chan http.Header, 1)
	server := httptest.NewServer(newFront(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		From(r.Context()).KeepTrailers(func(name string) bool { return name != "X-User" })
		if _, ok := r.Trailer["X-Sum"]; !ok || len(r.Trailer) != 1 {
			t.Errorf("announced are %v", r.Trailer)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	})))
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-User, Authorization\r\n\r\n"+
		"0\r\nX-Sum: 1\r\nX-User: admin\r\nAuthorization: Basic x\r\nX-Other: 1\r\nHost: b\r\n\r\n")
	if h := <-got; len(h) != 1 || h.Get("X-Sum") != "1" {
		t.Errorf("the handler saw %v", h)
	}
}

// What is looked at in net/http is where it is looked for, or chunked requests
// lose their connections.
func TestLengthBeside(t *testing.T) {
	const line = "POST /x HTTP/1.1"
	for buffer, want := range map[string]string{
		line + "\r\nHost: a\r\n\r\n":                                    "\r\nHost: a",
		line + "\nHost: a\n\n":                                          "\nHost: a",
		line + "\r\nA: 1\r\n\r\nbody" + line + "\r\nB: 2\r\n\r\n":       "\r\nA: 1", // not at the beginning of a line
		line + "\r\nA: 1\r\n\r\n" + line + "\r\nB: 2\r\n\r\n":           "\r\nB: 2",
		line + "\r\nA: 1\r\n " + line + "\r\nContent-Length: 1\r\n\r\n": "\r\nA: 1\r\n " + line + "\r\nContent-Length: 1",
		line + "\r\nA: 1\r\nX-Line: " + line + "\r\nB: 1\r\n\r\n":       "\r\nA: 1\r\nX-Line: " + line + "\r\nB: 1",
		line + "\r\nA: 1\r\n":                                           "-", "": "-", "\r\nContent-Length: 1\r\n\r\n": "-", line: "-", line + "x\r\n\r\n": "-",
	} {
		got, ok := head([]byte(buffer), line)
		if !ok {
			got = []byte("-")
		}
		if strings.TrimSuffix(string(got), "\r") != want {
			t.Errorf("%q: got %q, want %q", buffer, got, want)
		}
	}
	for _, body := range []io.ReadCloser{nil, http.NoBody, io.NopCloser(strings.NewReader("x"))} {
		if consumed(body) != nil {
			t.Errorf("%T has a buffer", body)
		}
	}
}

func BenchmarkFront(b *testing.B) {
	front := newFront(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(204)
	}))
	for name, body := range map[string]string{"no body": "", "body": "hello"} {
		b.Run(name, func(b *testing.B) {
			r, w := httptest.NewRequest(http.MethodPost, "/", nil), httptest.NewRecorder()
			r.ContentLength = int64(len(body))
			b.ReportAllocs()
			for b.Loop() {
				r.Body = io.NopCloser(strings.NewReader(body))
				front.ServeHTTP(w, r)
			}
		})
	}
}
