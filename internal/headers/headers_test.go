package headers_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/pythopus/tentagate/internal/headers"
)

// connection is a writer that can be hijacked.
type connection struct{ *httptest.ResponseRecorder }

func (connection) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

// The function is called once, with the status that is final.
func TestStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		respond func(w *headers.Writer)
		want    []int
	}{
		"header":              {func(w *headers.Writer) { w.WriteHeader(404); w.WriteHeader(200) }, []int{404}},
		"body":                {func(w *headers.Writer) { _, _ = w.Write(nil) }, []int{200}},
		"flush":               {func(w *headers.Writer) { _ = w.FlushError() }, []int{200}},
		"informational first": {func(w *headers.Writer) { w.WriteHeader(103); w.WriteHeader(201) }, []int{201}},
		"invalid status":      {func(w *headers.Writer) { w.WriteHeader(1000) }, []int{502}},
		"protocol switched":   {func(w *headers.Writer) { w.WriteHeader(101); _, _, _ = w.Hijack() }, []int{101}},
		"hijacked":            {func(w *headers.Writer) { _, _, _ = w.Hijack(); w.Send(200) }, []int{101}},
		"nothing":             {func(*headers.Writer) {}, nil},
	} {
		var got []int
		w := headers.Before(connection{httptest.NewRecorder()}, func(_ http.Header, status int) { got = append(got, status) })
		tc.respond(w)
		if !slices.Equal(got, tc.want) || w.Sent() != (tc.want != nil) {
			t.Errorf("%s: got %v, sent %v, want %v", name, got, w.Sent(), tc.want)
		}
	}
}
