package breaker

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	adminapi "github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/testkit"
)

// standing is a breaker as the admin API shows it.
type standing struct {
	Name      string  `json:"name"`
	Scope     string  `json:"scope"`
	Key       string  `json:"key"`
	State     string  `json:"state"`
	Requests  int     `json:"requests"`
	Failures  int     `json:"failures"`
	Forced    float64 `json:"forced_seconds"`
	Open      float64 `json:"open_seconds"`
	Rule      string  `json:"last_rule"`
	LastError string  `json:"last_error"`
	InFlight  int     `json:"in_flight"`
	Limit     int     `json:"limit"`
}

// admin asks the admin API.
func admin(t testing.TB, method, path, body string) (int, []standing) {
	t.Helper()
	w := httptest.NewRecorder()
	adminapi.Handler().ServeHTTP(w, httptest.NewRequest(method, "/tentagate/breakers"+path, strings.NewReader(body)))
	var list []standing
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
	}
	return w.Code, list
}

// stands returns the first circuit of a name.
func stands(t testing.TB, name string) standing {
	t.Helper()
	_, list := admin(t, http.MethodGet, "/"+name, "")
	if len(list) == 0 {
		return standing{}
	}
	return list[0]
}

func expectState(t testing.TB, name, want string) {
	t.Helper()
	if s := stands(t, name); s.State != want {
		t.Fatalf("%s: %+v, want it %s", name, s, want)
	}
}

// halfOpens advances the clock until the breaker is half-open.
func halfOpens(t testing.TB, name string, d time.Duration) {
	t.Helper()
	testClock.Add(d)
	testkit.Eventually(t, "half-open state of "+name, func() bool { return stands(t, name).State == "half_open" })
}

// answer is what a client received.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func fetch(t testing.TB, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text), err}
}

// fakeBackend is a backend at a fixed address that can fail in several ways.
type fakeBackend struct {
	addr   string
	served atomic.Int64

	mu       sync.Mutex
	listener net.Listener
	handler  http.HandlerFunc // nil: answers 200
}

func newFakeBackend(t testing.TB) *fakeBackend {
	t.Helper()
	p := new(fakeBackend)
	p.listen(t, "127.0.0.1:0")
	t.Cleanup(p.stop)
	return p
}

func (p *fakeBackend) listen(t testing.TB, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.listener, p.addr = l, l.Addr().String()
	p.mu.Unlock()
	s := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	s.SetKeepAlivesEnabled(false)
	go func() { _ = s.Serve(l) }()
}

// stop makes connections be refused, until restart.
func (p *fakeBackend) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.listener.Close()
}

func (p *fakeBackend) restart(t testing.TB) {
	t.Helper()
	p.listen(t, p.addr)
}

// handle sets how it answers; nil for 200.
func (p *fakeBackend) handle(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = h
}

func (p *fakeBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.served.Add(1)
	p.mu.Lock()
	h := p.handler
	p.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "ok")
}

// withStatus answers with a status.
func withStatus(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// nameserver answers for every name with loopback, or with NXDOMAIN.
type nameserver struct {
	net.PacketConn
	knows atomic.Bool
}

func newNameserver(t testing.TB) *nameserver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameserver{PacketConn: conn}
	t.Cleanup(func() { _ = conn.Close() })
	go n.serve()
	return n
}

func (n *nameserver) serve() {
	packet := make([]byte, 1500)
	for {
		size, from, err := n.ReadFrom(packet)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(packet[:size]) != nil || len(query.Questions) != 1 {
			continue
		}
		q := query.Questions[0]
		reply := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RCode: dnsmessage.RCodeNameError},
			Questions: query.Questions,
		}
		if n.knows.Load() {
			reply.RCode = dnsmessage.RCodeSuccess
			if q.Type == dnsmessage.TypeA {
				reply.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
		}
		if text, err := reply.Pack(); err == nil {
			_, _ = n.WriteTo(text, from)
		}
	}
}
