package direct

import (
	"bytes"
	"net/http"
	"net/textproto"
	"slices"
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
	values := slices.DeleteFunc(connectionValues(head), func(value string) bool { return strings.EqualFold(value, "close") })
	if len(values) > 0 {
		resp.Header["Connection"] = values
	}
}

// connectionValues returns the values of the field Connection in a header section, which
// the body may follow. Those on several lines are joined by a space, as ReadResponse joins
// them (obs-fold, RFC 9112 §5.2).
func connectionValues(head []byte) (values []string) {
	found := false // the line before belongs to the field
	for line := range bytes.Lines(head) {
		switch line[0] {
		case '\r', '\n':
			return values
		case ' ', '\t':
			if last := len(values) - 1; found {
				values[last] = textproto.TrimString(values[last] + " " + textproto.TrimString(string(line)))
			}
			continue
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if found = ok && bytes.EqualFold(name, []byte("Connection")); found {
			values = append(values, textproto.TrimString(string(value)))
		}
	}
	return values
}
