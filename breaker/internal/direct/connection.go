package direct

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
)

// readHead reads a response without its body, and keeps the header section as it came
// for restoreConnection.
func (c *conn) readHead(r *http.Request) (*http.Response, error) {
	head, _ := c.r.Peek(c.r.Buffered())
	if c.keeps = !isWhole(head); c.keeps { // else ReadResponse changes nothing of it
		c.kept = append(c.kept[:0], head...)
	}
	resp, err := http.ReadResponse(c.r, r)
	if c.keeps {
		c.keeps, head = false, c.kept
	}
	if err == nil && resp.Close && resp.StatusCode >= http.StatusOK {
		restoreConnection(resp, head)
	}
	return resp, err
}

func isWhole(head []byte) bool {
	return bytes.Contains(head, []byte("\n\r\n")) || bytes.Contains(head, []byte("\n\n"))
}

// restoreConnection gives a response its field Connection again if that names fields
// beside close, since ReadResponse then removes it. A proxy must not pass on what it names
// (RFC 9110 §7.6.1): reverse_proxy removes that.
func restoreConnection(resp *http.Response, head []byte) {
	if !resp.ProtoAtLeast(1, 1) || resp.Header["Connection"] != nil {
		return
	}
	for line := range bytes.Lines(head) {
		if line[0] == '\r' || line[0] == '\n' {
			return // what follows is the body
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !bytes.EqualFold(name, []byte("Connection")) {
			continue
		}
		if text := textproto.TrimString(string(value)); !strings.EqualFold(text, "close") {
			resp.Header["Connection"] = append(resp.Header["Connection"], text)
		}
	}
}
