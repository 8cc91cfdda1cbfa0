package direct

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The transport beside net/http's, over loopback, with a server of net/http.
//
//	go test -run '^$' -bench RoundTrip -cpu 1
func BenchmarkRoundTrip(b *testing.B) {
	body := strings.Repeat("x", 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	ours := New(Options{Dial: new(net.Dialer).DialContext, MaxIdlePerHost: 32})
	theirs := &http.Transport{MaxIdleConnsPerHost: 32}
	defer theirs.CloseIdleConnections()
	defer ours.CloseIdleConnections()
	for name, tr := range map[string]http.RoundTripper{"direct": ours, "net-http": theirs} {
		for method, upload := range map[string]string{http.MethodGet: "", http.MethodPost: body} {
			b.Run(method+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var content io.Reader = http.NoBody
					if upload != "" {
						content = io.MultiReader(strings.NewReader(upload))
					}
					r, err := http.NewRequestWithContext(b.Context(), method, server.URL, content)
					if err != nil {
						b.Fatal(err)
					}
					r.ContentLength = int64(len(upload))
					resp, err := tr.RoundTrip(r)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		}
	}
}
