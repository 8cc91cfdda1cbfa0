package testkit

import (
	"testing"
)

func TestRaw(t *testing.T) {
	addr := RawBackend(t, "HTTP/1.1 200 OK\r\nContent-|Length: 2\r\n\r\nok", nil)
	resp, body := Exchange(t, addr, "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n\r\nhi")
	if resp.StatusCode != 200 || body != "ok" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestEventually(t *testing.T) {
	n := 0
	Eventually(t, "the third time", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("asked %d times", n)
	}
}
