package rediscache

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

func TestSeveralRanges(t *testing.T) {
	s := startSite(t, "http_cache 60s", func(w http.ResponseWriter, _ *http.Request, _ int64) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "0123456789")
	})
	s.get("/")
	resp, body := s.get("/", "Range", "bytes=0-1, -2, 99-")
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != 206 || kind != "multipart/byteranges" || err != nil || resp.Header.Get("Content-Range") != "" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for _, want := range []string{"bytes 0-1/10 01", "bytes 8-9/10 89"} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(part)
		if got := part.Header.Get("Content-Range") + " " + string(text); got != want || part.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	s.wantAsked(1)
}
