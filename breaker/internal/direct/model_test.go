package direct

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// plan is what a server does with one request. It is in the path of the request.
type plan struct {
	id      int // distinguishes the bodies of requests
	size    int
	framing int // of the answer: length, chunked, until the end
	end     int // what the server does after the answer
	hints   int
	early   bool // it answers before it has read the body
}

const (
	byLength, byChunks, byEnd         = 0, 1, 2
	goesOn, saysClose, closes, breaks = 0, 1, 2, 3
	surplus, gone                     = 4, 5 // gone: closes without an answer
)

func (p plan) path() string {
	return fmt.Sprintf("/%d/%d/%d/%d/%d/%v", p.id, p.size, p.framing, p.end, p.hints, p.early)
}

func parsePlan(path string) (p plan) {
	_, _ = fmt.Sscanf(strings.ReplaceAll(path, "/", " "), "%d %d %d %d %d %v", &p.id, &p.size, &p.framing, &p.end, &p.hints, &p.early)
	return p
}

func randomPlan(r *rand.Rand, id int) plan {
	p := plan{id: id, size: r.IntN(3) * r.IntN(9000), framing: r.IntN(3), hints: r.IntN(8) / 6, early: r.IntN(8) == 0}
	if r.IntN(4) == 0 {
		p.end = r.IntN(6)
	}
	if p.framing == byEnd && p.end != breaks && p.end != gone {
		p.end = closes
	}
	return p
}

// content is the body with a number: no two have a part in common.
func content(id, size int) []byte {
	return bytes.Repeat([]byte(strconv.Itoa(id)+","), size/4+1)[:size]
}

// follow serves a connection by the plans of its requests.
func follow(c net.Conn, in *bufio.Reader) {
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		p := parsePlan(r.URL.Path)
		got := int64(-1)
		if !p.early {
			if got, err = io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
		if p.end == gone || !p.answer(c, got) || p.end != goesOn {
			return
		}
		if _, err = io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}

// answer writes the answer of a plan, and reports whether it was whole.
func (p plan) answer(c net.Conn, got int64) bool {
	var text bytes.Buffer
	text.WriteString(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", p.hints))
	fmt.Fprintf(&text, "HTTP/1.1 200 OK\r\nX-Got: %d\r\n", got)
	if p.end == saysClose {
		text.WriteString("Connection: close\r\n")
	}
	body := content(p.id, p.size)
	switch p.framing {
	case byLength:
		fmt.Fprintf(&text, "Content-Length: %d\r\n\r\n%s", p.size, body)
	case byChunks:
		text.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for len(body) > 0 {
			n := min(len(body), 1000)
			fmt.Fprintf(&text, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		fmt.Fprintf(&text, "0\r\nX-Id: %d\r\n\r\n", p.id)
	case byEnd:
		fmt.Fprintf(&text, "\r\n%s", body)
	}
	if p.end == breaks {
		text.Truncate(text.Len() / 2)
	}
	if p.end == surplus {
		text.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
	}
	_, err := c.Write(text.Bytes())
	return err == nil
}

// Ten thousand requests of all kinds to servers of all kinds, some of which are
// canceled, or whose answers are not read: each answer is that to its request,
// only servers that break off cause errors, and nothing is left.
func TestModel(t *testing.T) {
	noGoroutines(t)
	const workers, each = 8, 1250
	b := serve(t, follow)
	tr := newTransport(t, Options{MaxPerHost: 6, MaxIdlePerHost: 4})
	var wg sync.WaitGroup
	var failed, canceled atomic.Int64
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 12))
			for i := range each {
				err := trial(t, tr, b, r, randomPlan(r, 1000+w*each+i))
				switch {
				case errors.Is(err, context.Canceled):
					canceled.Add(1)
				case err != nil:
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d failed, %d were canceled", failed.Load(), canceled.Load())
	tr.CloseIdleConnections()
	tr.pool.mu.Lock()
	h := tr.pool.hosts[b.Addr().String()]
	tr.pool.mu.Unlock()
	eventually(t, "the places of all connections are given up", func() bool {
		tr.pool.mu.Lock()
		defer tr.pool.mu.Unlock()
		return h.open == 0 && tr.pool.idle == 0
	})
}

func trial(t *testing.T, tr *Transport, b *backend, r *rand.Rand, p plan) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	method, size := http.MethodGet, 0
	var body io.Reader
	if r.IntN(2) == 0 {
		method, size = http.MethodPost, r.IntN(2)*r.IntN(20000)
		body = io.MultiReader(bytes.NewReader(content(p.id, size)))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+b.Addr().String()+p.path(), body)
	if err != nil {
		t.Error(err)
		return nil
	}
	// A server may close a connection just when the next request comes: what is
	// not to be sent twice fails then.
	req.Header.Set("Idempotency-Key", strconv.Itoa(p.id))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content(p.id, size))), nil }
	if r.IntN(2) == 0 && body != nil {
		req.ContentLength = int64(size)
		if size == 0 {
			req.Body = http.NoBody
		}
	}
	if r.IntN(20) == 0 {
		go cancel()
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if !errors.Is(err, context.Canceled) && p.end != gone && p.end != breaks {
			t.Errorf("%s %s with %d bytes: %v", method, p.path(), size, err)
		}
		return err
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Got"); got != strconv.Itoa(size) && got != "-1" {
		t.Errorf("%s: the server got %s bytes of %d", p.path(), got, size)
	}
	if r.IntN(20) == 0 {
		return nil // it is not read
	}
	text, err := io.ReadAll(resp.Body)
	switch whole := bytes.Equal(text, content(p.id, p.size)); {
	case err == nil && !whole && !(p.framing == byEnd && p.end == breaks):
		t.Errorf("%s: another answer: %.40q", p.path(), text)
	case err == nil && p.framing == byChunks && resp.Trailer.Get("X-Id") != strconv.Itoa(p.id):
		t.Errorf("%s: trailers %v", p.path(), resp.Trailer)
	case err != nil && !errors.Is(err, context.Canceled) && p.end != breaks && !(p.end != goesOn && p.early):
		t.Errorf("%s: %v", p.path(), err)
	}
	return err
}
