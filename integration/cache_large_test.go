package integration

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	largeSize  = 1 << 30
	largeBlock = 64 << 10
)

// largeBlockOf writes the n-th block of the large answer.
func largeBlockOf(n int, b []byte) {
	for i := range b {
		b[i] = byte(n*31 + i*7 + i>>8)
	}
}

// newLarge is a service whose answer of 1 GiB goes on only when a client has the
// beginning.
func newLarge(t *testing.T, sum *uint32) (url string, proceed func()) {
	t.Helper()
	gate := make(chan struct{})
	var once sync.Once
	var blocks [8][]byte
	for i := range blocks {
		blocks[i] = make([]byte, largeBlock)
		largeBlockOf(i, blocks[i])
	}
	hash := crc32.NewIEEE()
	for i := range largeSize / largeBlock {
		_, _ = hash.Write(blocks[i%len(blocks)])
	}
	*sum = hash.Sum32()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Content-Type", "application/octet-stream")
		if strings.HasPrefix(r.URL.Path, "/known") {
			w.Header().Set("Content-Length", strconv.Itoa(largeSize))
		}
		for i := range largeSize / largeBlock {
			if _, err := w.Write(blocks[i%len(blocks)]); err != nil {
				return
			}
			if i == 0 {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-gate:
				case <-r.Context().Done():
					return
				}
			}
		}
	}))
	t.Cleanup(service.Close)
	return service.URL, func() { once.Do(func() { close(gate) }) }
}

// resident returns the server's resident memory in bytes.
func (g *gateway) resident() int64 {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// An answer of 1 GiB passes a cache with 64 MiB: its beginning is there while
// the service still sends, all of it comes, and memory stays flat, whether the
// length is known, unknown, or allowed by an operator who did not think of the
// budget.
func TestLargeAnswer(t *testing.T) {
	for _, tc := range []struct {
		name, path, options string
		clients             int
		most                int64 // that memory may grow by, in MiB: how far depends on when the collector runs
	}{
		{"length known", "/known", "", 1, 96},
		{"length unknown", "/unknown", "", 1, 192},
		{"two clients at once", "/unknown/shared", "", 2, 192},
		{"larger objects allowed than the budget has room for", "/unknown/allowed", "max_object_size 2GiB", 1, 192},
		{"the same, length known", "/known/allowed", "max_object_size 2GiB", 1, 96},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want uint32
			url, proceed := newLarge(t, &want)
			defer proceed()
			g := start(t, "{\n admin $ADMIN\n}\nhttp://$ADDR {\n http_cache {\n memory 64MiB\n "+tc.options+"\n }\n reverse_proxy "+url+"\n}\n")
			idle := g.resident()

			client := &http.Client{Timeout: 2 * time.Minute}
			defer client.CloseIdleConnections()
			var wg sync.WaitGroup
			for range tc.clients {
				resp, err := client.Get(g.url(tc.path))
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					defer func() { _ = resp.Body.Close() }()
					// The service sends no more than this before it is told to.
					head := make([]byte, largeBlock)
					first := make([]byte, largeBlock)
					largeBlockOf(0, first)
					if _, err := io.ReadFull(resp.Body, head); err != nil || !bytes.Equal(head, first) {
						t.Errorf("the beginning, while the service waits: %v", err)
						return
					}
					proceed()
					hash := crc32.NewIEEE()
					_, _ = hash.Write(head)
					n, err := io.CopyBuffer(hash, resp.Body, make([]byte, 1<<20))
					if err != nil || n+largeBlock != largeSize || hash.Sum32() != want {
						t.Errorf("%d bytes, checksum %08x, want %08x: %v", n+largeBlock, hash.Sum32(), want, err)
					}
				})
			}
			wg.Wait()
			peak := g.memory()
			t.Logf("resident: %d MiB idle, %d MiB at its peak", idle>>20, peak>>20)
			if grown := peak - idle; grown > tc.most<<20 {
				t.Errorf("resident memory has grown by %d MiB", grown>>20)
			}
		})
	}
}
