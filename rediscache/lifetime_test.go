package rediscache

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// open asks for the path and reads the first bytes of the answer.
func (s *site) open(path string, first int, fields ...string) *http.Response {
	s.t.Helper()
	resp, err := httpClient.Do(s.request(http.MethodGet, path, fields...))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, int64(first)); err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// Those who read an answer read it to its end, however long that takes and
// whatever asked for it: a client that has left, or a refresh.
func TestFollowersOutlastTheLeader(t *testing.T) {
	for _, refreshed := range []bool{false, true} {
		var s *site
		entered := make(chan struct{})
		s = startSite(t, "http_cache {\n fill_timeout 2s\n stale_while_revalidate 1h\n hit_for_miss 1ns\n request_directives honour\n}", func(w http.ResponseWriter, r *http.Request, n int64) {
			w.Header().Set("Cache-Control", "max-age=60")
			if refreshed && n == 1 {
				w.Header().Set("Age", "60")
				_, _ = io.WriteString(w, "old")
				return
			}
			_, _ = io.WriteString(w, "beginning, ")
			_ = http.NewResponseController(w).Flush()
			close(entered)
			s.hold()
			select {
			case <-r.Context().Done():
				t.Error("the request to the service ended")
				return
			case <-time.After(2500 * time.Millisecond): // longer than a fill that nobody reads
			}
			_, _ = io.WriteString(w, "end")
		})
		const first = len("beginning, ")
		var follower *http.Response
		if refreshed {
			s.get("/") // stored, and stale
			s.get("/") // has it refreshed, which ends after fill_timeout if nobody follows
			<-entered
			follower = s.open("/", first, "Cache-Control", "no-cache")
		} else {
			leader := s.open("/", first)
			follower = s.open("/", first)
			_ = leader.Body.Close()
		}
		s.release()
		rest, err := io.ReadAll(follower.Body)
		_ = follower.Body.Close()
		if string(rest) != "end" || err != nil {
			t.Errorf("refreshed %v: %q %v", refreshed, rest, err)
		}
		want := int64(1)
		if refreshed {
			want = 2
		}
		s.wantAsked(want)
	}
}

// What may have no end is not taken for long when its client has left; what is
// stored is what came to its end.
func TestEndlessResponseWithoutClient(t *testing.T) {
	var sent atomic.Int64
	ended := make(chan struct{})
	s := startSite(t, "http_cache 60s {\n max_object_size 64MiB\n}", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		defer close(ended)
		chunk := make([]byte, 32<<10)
		for sent.Load() < 256<<20 {
			n, err := w.Write(chunk)
			if err != nil {
				return
			}
			sent.Add(int64(n))
			time.Sleep(100 * time.Microsecond)
		}
	})
	resp := s.open("/", 200<<10)
	_ = resp.Body.Close()
	<-ended
	if n := sent.Load(); n > 48<<20 {
		t.Errorf("the service sent %d bytes without a reader", n)
	}
}
