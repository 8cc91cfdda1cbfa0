package direct

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A response has its field Connection where that names fields, which a proxy must not
// pass on, also beside close.
func TestConnectionOfTheResponse(t *testing.T) {
	for fields, want := range map[string][]string{
		"Connection: close, X-Hop\r\n":                         {"close, X-Hop"},
		"connection:\tX-Hop , CLOSE\r\n":                       {"X-Hop , CLOSE"},
		"Connection: close\r\nX-A: 1\r\nConnection: X-Hop\r\n": {"X-Hop"},
		"Connection: X-Hop\r\n":                                {"X-Hop"},
		"Connection: close,\r\n X-Hop\r\n":                     {"close, X-Hop"},
		"Connection:\r\n close\r\n \t\r\nX-A: 1\r\n X-Hop\r\n": nil,
		"Connection: close\r\n":                                nil,
		"X-Connection: X-Hop\r\nConnection: Close\r\n":         nil,
	} {
		for _, hints := range []string{"", "HTTP/1.1 103 Early Hints\r\nConnection: close, X-Other\r\n\r\n"} {
			for _, whole := range []bool{true, false} {
				b := serve(t, func(c net.Conn, in *bufio.Reader) {
					_, _ = http.ReadRequest(in)
					answer := hints + "HTTP/1.1 200 OK\r\n" + fields + "X-Hop: 1\r\nContent-Length: 24\r\n\r\nConnection: close, X-Body"
					if whole {
						_, _ = io.WriteString(c, answer)
						return
					}
					for _, part := range strings.SplitAfter(answer, ":") {
						_, _ = io.WriteString(c, part)
					}
				})
				resp, err := newTransport(t, Options{}).RoundTrip(request(t, http.MethodGet, b.url(), nil))
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if got := resp.Header["Connection"]; !slices.Equal(got, want) {
					t.Errorf("%q, hints %v, whole %v: %q, want %q", fields, hints != "", whole, got, want)
				}
			}
		}
	}
}

// An idle connection does not hold the memory of a large header section.
func TestIdleConnectionDropsLargeHeader(t *testing.T) {
	for size, kept := range map[int]bool{6 << 10: true, 64 << 10: false} {
		b := answers(t, "HTTP/1.1 200 OK\r\nX-Large: "+strings.Repeat("a", size)+"\r\nContent-Length: 2\r\n\r\nok")
		tr := newTransport(t, Options{})
		if _, err := get(t, tr, b.url()); err != nil {
			t.Fatal(err)
		}
		c, _, err := tr.pool.take(t.Context(), b.Addr().String(), false)
		if err != nil || c == nil {
			t.Fatalf("no idle connection: %v", err)
		}
		if held := cap(c.kept); held > maxIdleKept || kept != (held > 0) {
			t.Errorf("after a header of %d bytes: holds %d", size, held)
		}
		c.close()
	}
}
