package breaker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"

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
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			kind, message, err := conn.Read(r.Context())
			if err == nil {
				_ = conn.Write(r.Context(), kind, message)
			}
			<-end
			_ = conn.CloseNow()
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
	conn, _, err := websocket.Dial(t.Context(), gateway.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow() //nolint:errcheck // it is closed by the backend
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != "hello" {
		t.Fatalf("%q %v", message, err)
	}
	testClock.Add(minutes)
	close(end)
	_, _ = io.Copy(io.Discard, events)
	_, _, _ = conn.Read(t.Context())
	p.handle(nil)
	if a := fetch(t, http.MethodGet, gateway.URL, nil); a.status != 200 {
		t.Errorf("after the streams: %d", a.status)
	}
	if s := stands(t, "streams"); s.State != "closed" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// The status of a gRPC call is in the trailer.
func TestGRPC(t *testing.T) {
	var answers atomic.Uint32 // the status of the service
	// It takes all of the request before it answers: Caddy's proxy races with
	// itself when the answer comes while it sends.
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			if err := s.RecvMsg(new(healthpb.HealthCheckRequest)); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
		answer := codes.Code(answers.Load())
		if answer == codes.OK {
			return s.SendMsg(new(healthpb.HealthCheckResponse))
		}
		if answer == codes.Internal {
			// With a header of its own, so that the status is in a trailer.
			_ = s.SendHeader(nil)
		}
		return grpcstatus.Error(answer, "as set")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Stop()

	gateway := grpcGateway(t, `
:80 {
	circuit_breaker grpc {
		consecutive 2
		open_for 5s
		half_open 1
	}
	reverse_proxy h2c://`+l.Addr().String()+`
}`)
	conn, err := grpc.NewClient("passthrough:///"+gateway, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	call := func(code codes.Code) codes.Code {
		answers.Store(uint32(code))
		_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
		return grpcstatus.Code(err)
	}
	for _, code := range []codes.Code{codes.OK, codes.NotFound, codes.NotFound, codes.InvalidArgument, codes.Unauthenticated, codes.Unavailable, codes.OK, codes.Unavailable, codes.Internal} {
		if got := call(code); got != code {
			t.Fatalf("got %v, want %v", got, code)
		}
	}
	expectState(t, "grpc", "open")
	if got := call(codes.OK); got != codes.Unavailable {
		t.Errorf("when open: %v", got)
	}
	halfOpens(t, "grpc", 5*time.Second)
	if got := call(codes.DeadlineExceeded); got != codes.DeadlineExceeded {
		t.Errorf("probe: %v", got)
	}
	expectState(t, "grpc", "open")
	halfOpens(t, "grpc", 10*time.Second)
	call(codes.OK)
	expectState(t, "grpc", "closed")
}

// grpcGateway serves the Caddyfile over HTTP/2 without TLS.
func grpcGateway(t *testing.T, caddyfile string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: servertest.Handler(t, caddyfile), ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

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
