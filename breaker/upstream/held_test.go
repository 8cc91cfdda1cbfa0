package upstream_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
)

// reader is a client that takes its time with the answer.
type reader struct {
	*httptest.ResponseRecorder
	reads func()
}

func (r *reader) Write(p []byte) (int, error) {
	n, err := r.ResponseRecorder.Write(p)
	r.reads()
	return n, err
}

// A backend that does not wait for ever for a client that does not read its
// answer has not failed; one that breaks off by itself has, after whatever time.
func TestHeldUpAnswer(t *testing.T) {
	read := make(chan struct{}, 100)
	hangs := time.Duration(0)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("half of"))
		_ = http.NewResponseController(w).Flush()
		<-read
		// The gateway asks for the time when it wants more of the answer.
		eventually(t, "an end of the client's part", func() bool { return testClock.asked.Load() > asked.Load() })
		testClock.Add(hangs)
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	gateway := servertest.Handler(t, `
:80 {
	reverse_proxy `+s.Listener.Addr().String()+` {
		transport tentagate {
			breaker held-upstream {
				consecutive 1
			}
		}
	}
}`)
	ask := func(client, backend time.Duration) {
		t.Helper()
		hangs = backend
		w := &reader{httptest.NewRecorder(), func() {
			testClock.Add(client)
			asked.Store(testClock.asked.Load())
			read <- struct{}{}
		}}
		defer func() {
			if recover() == nil {
				t.Error("the answer did not break off")
			}
		}()
		gateway.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	}
	ask(30*time.Second, time.Second)
	ask(2*time.Second, 0)
	expectState(t, "held-upstream", s.Listener.Addr().String(), "closed")
	ask(2*time.Second, 30*time.Second)
	expectState(t, "held-upstream", s.Listener.Addr().String(), "open")
}

// upload is a body of which the second part comes only when the backend has
// closed its connection.
type upload struct {
	parts  int
	second func()
}

func (u *upload) Read(p []byte) (int, error) {
	if u.parts++; u.parts > 1 {
		u.second()
	}
	return copy(p, "part"), nil
}

// A backend that does not wait for ever for a client that does not send its body
// has not failed; one that closes the connection at once has.
func TestHeldUpUpload(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	thought, closed := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1000))
			<-thought
			_ = conn.Close()
			closed <- struct{}{}
		}
	}()
	gateway := servertest.Handler(t, `
:80 {
	reverse_proxy `+l.Addr().String()+` {
		transport tentagate {
			breaker held-upload-upstream {
				consecutive 1
			}
		}
	}
}`)
	ask := func(thinks time.Duration) {
		t.Helper()
		once := sync.OnceFunc(func() {
			testClock.Add(thinks)
			thought <- struct{}{}
			<-closed
		})
		w := httptest.NewRecorder()
		gateway.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", &upload{second: once}))
		if w.Code != http.StatusBadGateway {
			t.Errorf("%d", w.Code)
		}
	}
	ask(30 * time.Second)
	ask(2 * time.Second)
	expectState(t, "held-upload-upstream", l.Addr().String(), "closed")
	ask(10 * time.Millisecond)
	expectState(t, "held-upload-upstream", l.Addr().String(), "open")
}
