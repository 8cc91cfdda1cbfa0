package breaker

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// proxies are sites with a breaker NAME that opens after one failure, as a handler
// and in the transport.
var proxies = map[string]string{
	"handler":   ":80 {\n\tcircuit_breaker NAME {\n\t\tconsecutive 1\n\t}\n\treverse_proxy UPSTREAM\n}",
	"transport": ":80 {\n\treverse_proxy UPSTREAM {\n\t\ttransport tentagate {\n\t\t\tbreaker NAME {\n\t\t\t\tconsecutive 1\n\t\t\t}\n\t\t}\n\t}\n}",
}

// slowReader is a client that takes its time to read the answer.
type slowReader struct {
	*httptest.ResponseRecorder
	reads func()
}

func (r *slowReader) Write(p []byte) (int, error) {
	n, err := r.ResponseRecorder.Write(p)
	r.reads()
	return n, err
}

// A backend that gives up on a client which does not read its answer has not
// failed; one that breaks off by itself has, after whatever time.
func TestSlowReader(t *testing.T) {
	for form, site := range proxies {
		t.Run(form, func(t *testing.T) {
			name := "slow-reader-" + form
			read := make(chan struct{}, 100)
			hangs := time.Duration(0)
			var asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("half of"))
				_ = http.NewResponseController(w).Flush()
				<-read
				// The gateway reads the clock when the client has read its part.
				testkit.Eventually(t, "the end of the client's read", func() bool { return testClock.asked.Load() > asked.Load() })
				testClock.Add(hangs)
				panic(http.ErrAbortHandler)
			}))
			defer s.Close()
			gateway := servertest.Handler(t, strings.NewReplacer("NAME", name, "UPSTREAM", s.Listener.Addr().String()).Replace(site))
			ask := func(client, backend time.Duration) {
				t.Helper()
				hangs = backend
				w := &slowReader{httptest.NewRecorder(), func() {
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
			expectState(t, name, "closed")
			ask(2*time.Second, 30*time.Second)
			expectState(t, name, "open")
		})
	}
}

// stalledUpload is a body whose second part comes only when the backend has closed
// its connection.
type stalledUpload struct {
	parts  int
	second func()
}

func (u *stalledUpload) Read(p []byte) (int, error) {
	if u.parts++; u.parts > 1 {
		u.second()
	}
	return copy(p, "part"), nil
}

// A backend that gives up on a client which does not send its body has not failed;
// one that closes the connection at once has.
func TestStalledUpload(t *testing.T) {
	for form, site := range proxies {
		t.Run(form, func(t *testing.T) {
			name := "stalled-upload-" + form
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
			gateway := servertest.Handler(t, strings.NewReplacer("NAME", name, "UPSTREAM", l.Addr().String()).Replace(site))
			ask := func(thinks time.Duration) {
				t.Helper()
				once := sync.OnceFunc(func() {
					testClock.Add(thinks)
					thought <- struct{}{}
					<-closed
				})
				w := httptest.NewRecorder()
				gateway.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", &stalledUpload{second: once}))
				if w.Code != http.StatusBadGateway {
					t.Errorf("%d", w.Code)
				}
			}
			ask(30 * time.Second)
			ask(2 * time.Second)
			expectState(t, name, "closed")
			ask(10 * time.Millisecond)
			expectState(t, name, "open")
		})
	}
}
