package breaker

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/pythopus/tentagate/internal/servertest"
)

const minutes = 10 * time.Minute

// Streams of ten minutes are neither slow nor unfinished: their outcome is known
// when they begin.
func TestStreamsOfTenMinutes(t *testing.T) {
	end := make(chan struct{})
	p := newFakeBackend(t)
	p.handle(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			websocket.Server{Handler: func(conn *websocket.Conn) {
				var message string
				if websocket.Message.Receive(conn, &message) == nil {
					_ = websocket.Message.Send(conn, message)
				}
				<-end
			}}.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-end
		panic(http.ErrAbortHandler) // a stream that breaks off began well all the same
	})
	gateway := servertest.New(t, `
:80 {
	circuit_breaker streams {
		consecutive 1
		slow 1% over 1s
		trip 1% of 1
	}
	reverse_proxy `+p.addr+`
}`)
	resp, err := http.Get(gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	if line, err := events.ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Fatalf("first event: %q %v", line, err)
	}
	conn, err := websocket.Dial("ws"+strings.TrimPrefix(gateway.URL, "http"), "", gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := websocket.Message.Send(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	var message string
	if err := websocket.Message.Receive(conn, &message); err != nil || message != "hello" {
		t.Fatalf("%q %v", message, err)
	}
	testClock.Add(minutes)
	close(end)
	_, _ = io.Copy(io.Discard, events)
	_ = websocket.Message.Receive(conn, &message)
	p.handle(nil)
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 200 {
		t.Errorf("after the streams: %d", a.status)
	}
	if s := stands(t, "streams"); s.State != "closed" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// The status of a gRPC call is in the trailer, or in the header of a response
// without a body. The integration tests have the same with a real client.
func TestGRPC(t *testing.T) {
	var status atomic.Value
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// It takes all of the request before it answers: Caddy's proxy races with
		// itself when the answer comes while it sends.
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		switch status := status.Load().(string); status {
		case grpcOK:
			_, _ = w.Write(make([]byte, 5)) // an empty message
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", grpcOK)
		case grpcInternal: // after a header of its own
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", grpcInternal)
		default:
			w.Header().Set("Grpc-Status", status)
		}
	}))
	backend.Config.Protocols = protocols
	backend.Start()
	defer backend.Close()
	gateway := httptest.NewUnstartedServer(servertest.Handler(t, `
:80 {
	circuit_breaker grpc {
		consecutive 2
		open_for 5s
		half_open 1
	}
	reverse_proxy h2c://`+backend.Listener.Addr().String()+`
}`))
	gateway.Config.Protocols = protocols
	gateway.Start()
	defer gateway.Close()
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	call := func(code string) (int, string) {
		t.Helper()
		status.Store(code)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.URL+"/Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
	}
	for _, code := range []string{grpcOK, grpcNotFound, grpcNotFound, grpcInvalidArgument, grpcUnauthenticated, grpcUnavailable, grpcOK, grpcUnavailable, grpcInternal} {
		if _, got := call(code); got != code {
			t.Fatalf("got %v, want %v", got, code)
		}
	}
	expectState(t, "grpc", "open")
	if got, _ := call(grpcOK); got != http.StatusServiceUnavailable {
		t.Errorf("when open: %v", got)
	}
	halfOpens(t, "grpc", 5*time.Second)
	if _, got := call(grpcDeadlineExceeded); got != grpcDeadlineExceeded {
		t.Errorf("probe: %v", got)
	}
	expectState(t, "grpc", "open")
	halfOpens(t, "grpc", 10*time.Second)
	call(grpcOK)
	expectState(t, "grpc", "closed")
}

// Status codes of gRPC.
const (
	grpcOK               = "0"
	grpcInvalidArgument  = "3"
	grpcDeadlineExceeded = "4"
	grpcNotFound         = "5"
	grpcInternal         = "13"
	grpcUnavailable      = "14"
	grpcUnauthenticated  = "16"
)

// A body that is larger than request_body allows is the client's doing, wherever
// the bound stands.
func TestBodyTooLarge(t *testing.T) {
	p := newFakeBackend(t)
	gateway := servertest.New(t, `
:80 {
	request_body {
		max_size 10
	}
	circuit_breaker large {
		consecutive 1
	}
	reverse_proxy `+p.addr+`
}`)
	for range 3 {
		if a := fetch(t, http.MethodPost, gateway.URL, io.MultiReader(strings.NewReader(strings.Repeat("x", 100)))); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%d %v", a.status, a.err)
		}
	}
	expectState(t, "large", "closed")
}
