package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/quic-go/quic-go/http3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pythopus/tentagate/internal/testkit"
)

// secret signs the tokens of these tests.
const secret = "a-secret-of-the-integration-tests-0123456789"

// token mints a token of a subject.
func token(t testing.TB, subject string) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": subject, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fullChain is a configuration in which every feature stands in the way of a
// request, with the access log on.
const fullChain = `{
	admin $ADMIN
	servers {
		protocols h1 h2 h2c
	}
}
http://$ADDR {
	log
	tentagate {
		ratelimit 1000000/1m
	}
}
`

// services starts the server with the full chain before the given services.
func services(t testing.TB, caddyfile string, urls map[string]string, env ...string) *gateway {
	t.Helper()
	var parts []string
	for name, url := range urls {
		parts = append(parts, fmt.Sprintf("%q:%q", name, url))
	}
	env = append(env, "JWT_SECRET_KEY="+secret, "BACKEND_SERVICES={"+strings.Join(parts, ",")+"}")
	return start(t, caddyfile, env...)
}

func TestWebSocket(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, msg, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), msg...)); err != nil {
				return
			}
		}
	}))
	defer backend.Close()
	g := services(t, fullChain, map[string]string{"chat": backend.URL})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, resp, err := websocket.Dial(ctx, "ws://"+g.addr+"/api/chat/ws", nil); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %v, %v", resp, err)
	}
	c, _, err := websocket.Dial(ctx, "ws://"+g.addr+"/api/chat/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token(t, "ann")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for i := range 3 {
		msg := fmt.Sprintf("message %d", i)
		if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != "echo "+msg {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// Each event must arrive before the next one is sent.
func TestServerSentEvents(t *testing.T) {
	next := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 5 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer backend.Close()
	g := services(t, fullChain, map[string]string{"events": backend.URL})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/api/events/"), nil)
	req.Header.Set("Authorization", "Bearer "+token(t, "ann"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 5 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: got %q, %v", i, line, err)
		}
		_, _ = lines.ReadString('\n')
		next <- struct{}{}
	}
	if _, err := lines.ReadString('\n'); err != io.EOF {
		t.Errorf("after the last event: %v", err)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	g := services(t, fullChain, map[string]string{"rpc": "h2c://" + l.Addr().String()})

	conn, err := grpc.NewClient("passthrough:///"+g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token(t, "ann"))

	var reply healthpb.HealthCheckResponse
	if err := conn.Invoke(ctx, "/api/rpc/grpc.health.v1.Health/Check", &healthpb.HealthCheckRequest{}, &reply); err != nil {
		t.Fatal(err)
	}
	if reply.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("unary: %v", reply.Status)
	}
	// A server stream: the first message arrives while the call goes on.
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/api/rpc/grpc.health.v1.Health/Watch")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(&healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&reply); err != nil || reply.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("stream: %v, %v", reply.Status, err)
	}
}

// The status of a call counts, wherever it is sent: with the header or in the
// trailer. While the circuit is open, clients get Unavailable.
func TestGRPCBreaker(t *testing.T) {
	var code atomic.Uint32 // the status of the service
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		// It takes all of the request before it answers: Caddy's proxy races with
		// itself when the answer comes while it sends.
		err := s.RecvMsg(new(healthpb.HealthCheckRequest))
		for err == nil {
			err = s.RecvMsg(new(healthpb.HealthCheckRequest))
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		switch code := codes.Code(code.Load()); code {
		case codes.OK:
			return s.SendMsg(new(healthpb.HealthCheckResponse))
		case codes.Internal:
			// With a header of its own, so that the status is in a trailer.
			_ = s.SendHeader(nil)
			fallthrough
		default:
			return status.Error(code, "as set")
		}
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	g := start(t, `{
	admin $ADMIN
	servers {
		protocols h1 h2 h2c
	}
}
http://$ADDR {
	circuit_breaker grpc {
		consecutive 2
		open_for 1h
	}
	reverse_proxy h2c://`+l.Addr().String()+`
}
`)
	conn, err := grpc.NewClient("passthrough:///"+g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	call := func(want codes.Code) codes.Code {
		code.Store(uint32(want))
		_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
		return status.Code(err)
	}
	for _, want := range []codes.Code{codes.OK, codes.NotFound, codes.NotFound, codes.InvalidArgument, codes.Unauthenticated, codes.Unavailable, codes.OK, codes.Unavailable, codes.Internal} {
		g.expectState("grpc", "", "closed")
		if got := call(want); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	g.expectState("grpc", "", "open")
	if got := call(codes.OK); got != codes.Unavailable {
		t.Errorf("when open: %v", got)
	}
}

// A chunked upload passes through without being kept.
func TestLargeUpload(t *testing.T) {
	const size = 100 << 20
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%d %v", n, err)
	}))
	defer backend.Close()
	g := services(t, fullChain, map[string]string{"files": backend.URL})
	bearer := "Bearer " + token(t, "ann")
	g.send(http.MethodPost, "/api/files/warm", "x", "Authorization", bearer)

	before := g.memory()
	// A reader of unknown length is sent in chunks.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url("/api/files/big"), io.LimitReader(zeros{}, size))
	req.Header.Set("Authorization", bearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != fmt.Sprintf("%d <nil>", size) {
		t.Errorf("the backend got %s", body)
	}
	if grown := g.memory() - before; grown > 48<<20 {
		t.Errorf("memory grew by %d MiB for an upload of %d MiB", grown>>20, size>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The same request by every version of HTTP.
func TestProtocols(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello from "+r.URL.Path)
	}))
	defer backend.Close()
	g := services(t, `{
	admin $ADMIN
	skip_install_trust
	auto_https disable_redirects
}
https://localhost:$PORT {
	tls internal
	log
	tentagate
}
`, map[string]string{"hello": backend.URL})
	_, port, _ := net.SplitHostPort(g.addr)
	insecureTLS := func(protocols ...string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, ServerName: "localhost"}
	}
	testkit.Eventually(t, "the server's certificate", func() bool {
		conn, err := tls.Dial("tcp", g.addr, insecureTLS("http/1.1"))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	h3 := &http3.Transport{TLSClientConfig: insecureTLS("h3")}
	defer h3.Close()
	for _, tc := range []struct {
		proto     string
		transport http.RoundTripper
	}{
		{"HTTP/1.1", &http.Transport{TLSClientConfig: insecureTLS("http/1.1"), DisableKeepAlives: true}},
		{"HTTP/2.0", &http.Transport{TLSClientConfig: insecureTLS("h2"), ForceAttemptHTTP2: true}},
		{"HTTP/3.0", h3},
	} {
		t.Run(tc.proto, func(t *testing.T) {
			client := &http.Client{Transport: tc.transport, Timeout: 30 * time.Second}
			defer client.CloseIdleConnections()
			for path, want := range map[string]int{"/api/hello/world": 200, "/health": 200, "/nothing": 404} {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:"+port+path, nil)
				req.Header.Set("Authorization", "Bearer "+token(t, "ann"))
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.Proto != tc.proto || resp.StatusCode != want {
					t.Errorf("%s: %s %d, want %s %d: %s", path, resp.Proto, resp.StatusCode, tc.proto, want, body)
				}
				if want == 200 && path != "/health" && string(body) != "hello from /world" {
					t.Errorf("%s: got %q", path, body)
				}
			}
		})
	}
}
