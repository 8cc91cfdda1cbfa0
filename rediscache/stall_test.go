package rediscache

import (
	"io"
	"net/http"
	"runtime"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// A service that stalls in the middle of an answer: those who wait have what
// came so far, and no one takes it for the whole, nor is it stored.
func TestStallInTheMiddle(t *testing.T) {
	var s *site
	s = startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, n int64) {
		if n > 1 {
			_, _ = io.WriteString(w, "all of it")
			return
		}
		_, _ = io.WriteString(w, "all")
		_ = http.NewResponseController(w).Flush()
		s.hold()
		panic(http.ErrAbortHandler)
	})
	began := runtime.NumGoroutine()
	open := func() *http.Response {
		resp, err := httpClient.Do(s.request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		half := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, half); err != nil || string(half) != "all" {
			t.Fatalf("%q %v", half, err)
		}
		return resp
	}
	leader, gone, follower := open(), open(), open()
	if got := s.asked.Load(); got != 1 {
		t.Errorf("the service was asked %d times", got)
	}
	_ = gone.Body.Close() // the client leaves
	s.release()
	for name, resp := range map[string]*http.Response{"leader": leader, "follower": follower} {
		if rest, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %q looks whole", name, rest)
		}
		_ = resp.Body.Close()
	}
	if _, body := s.get("/"); body != "all of it" {
		t.Errorf("afterwards: %q", body)
	}
	s.wantAsked(2)
	httpClient.CloseIdleConnections()
	testkit.Eventually(t, "the end of what served them", func() bool { return waiting() == 0 && runtime.NumGoroutine() <= began+10 })
}

// Variants beyond the number that is kept take the place of the oldest.
func TestVariantsAreBounded(t *testing.T) {
	s := startSite(t, "http_cache {\n\tmax_variants 2\n}", func(w http.ResponseWriter, r *http.Request, _ int64) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", "X-Kind")
		_, _ = io.WriteString(w, r.Header.Get("X-Kind"))
	})
	for i, kind := range []string{"a", "b", "c", "c", "b", "a"} {
		if _, body := s.get("/", "X-Kind", kind); body != kind {
			t.Errorf("%d: %s got %q", i, kind, body)
		}
	}
	s.wantAsked(4) // c and b were kept, a was not
}
