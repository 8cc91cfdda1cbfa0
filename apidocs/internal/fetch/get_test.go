package fetch

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A document that stays wrong gives the same error each time, so that it is logged once.
func TestGetErrorStays(t *testing.T) {
	for name, etag := range map[string]string{"same text": "", "not modified": `"a"`} {
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if etag != "" {
				w.Header().Set("Etag", etag)
			}
			if etag != "" && r.Header.Get("If-None-Match") == etag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = io.WriteString(w, `{"a":1}`)
		}))
		defer service.Close()
		s := New(Options{URLs: []string{service.URL}})
		first := ""
		for i := range 3 {
			_, _, result, err := s.get(t.Context())
			if err == nil || result != Failed {
				t.Fatalf("%s: %s %v", name, result, err)
			}
			if i == 0 {
				first = err.Error()
			}
			if err.Error() != first {
				t.Errorf("%s: %q after %q", name, err, first)
			}
		}
	}
}
