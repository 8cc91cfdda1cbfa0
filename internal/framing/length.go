package framing

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// lengthBeside reports whether a request with a Transfer-Encoding has a
// Content-Length too, and whether that is unknown.
//
// net/http uses the Transfer-Encoding and removes the Content-Length, so the request
// is read again from the buffer of the connection, which is not changed. The header
// of the request must be as net/http made it.
func lengthBeside(r *http.Request) (beside, unsure bool) {
	text, ok := head(consumed(r.Body), r.Method+" "+r.RequestURI+" "+r.Proto)
	if !ok {
		return false, true
	}
	others, controls := 0, 0
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(line, ":")
		if !ok || line[0] == ' ' || line[0] == '\t' {
			continue // the line of the request, or a part of the value above
		}
		switch http.CanonicalHeaderKey(name) {
		case "Content-Length":
			return true, false
		case "Host", "Transfer-Encoding", "Trailer":
		case "Cache-Control":
			controls++
			others++
		default:
			others++
		}
	}
	expected := count(r.Header)
	if controls == 0 && hasAddedControl(r.Header) {
		expected--
	}
	return false, others != expected
}

// hasAddedControl reports whether Cache-Control can be what net/http adds to a request
// that has only `Pragma: no-cache` (RFC 9111 §5.4).
func hasAddedControl(h http.Header) bool {
	pragma, control := h["Pragma"], h["Cache-Control"]
	return len(pragma) > 0 && pragma[0] == "no-cache" && len(control) == 1 && control[0] == "no-cache"
}

// count returns how many field lines a header has, but for those that net/http
// removes: Host, Transfer-Encoding, Content-Length and Trailer. A section with fewer
// lines than its request is only the end of it: where a line is longer than the
// buffer, the rest of its value is at the beginning of the buffer, and can look like
// a request line. Host and Transfer-Encoding have no such values, and a Trailer with
// a space in it is refused at the end of the body.
func count(h http.Header) (lines int) {
	for _, values := range h {
		lines += len(values)
	}
	return lines
}

// head returns the header section after the last occurrence of the request line, if
// the buffer still has all of it: not if it was longer than the buffer, or arrived in
// pieces.
func head(buffer []byte, requestLine string) ([]byte, bool) {
	for end := len(buffer); ; {
		at := bytes.LastIndex(buffer[:end], []byte(requestLine))
		if at < 0 {
			return nil, false
		}
		// No line of a header section can look like that: a field name has no space,
		// and a folded line begins with one.
		rest := buffer[at+len(requestLine):]
		if (at == 0 || buffer[at-1] == '\n') && len(rest) > 0 && (rest[0] == '\r' || rest[0] == '\n') {
			for _, blank := range []string{"\n\r\n", "\n\n"} {
				if section, _, ok := bytes.Cut(rest, []byte(blank)); ok {
					return section, true
				}
			}
			return nil, false
		}
		end = at + len(requestLine) - 1
	}
}

// consumed returns what was read last from the buffer of the connection that a body
// of net/http's server reads from, or nil where its types are unknown.
func consumed(body io.ReadCloser) []byte {
	v := reflect.ValueOf(body)
	for range 8 {
		for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) {
			if v.Type() == reflect.TypeFor[*bufio.Reader]() {
				return before(v.Elem())
			}
			v = v.Elem()
		}
		if !v.IsValid() || v.Kind() != reflect.Struct {
			return nil
		}
		// Caddy's readers, net/http's of Expect, and net/http's body.
		var next reflect.Value
		for _, name := range []string{"ReadCloser", "Source", "readCloser", "r"} {
			if next = v.FieldByName(name); next.IsValid() {
				break
			}
		}
		v = next
	}
	return nil
}

// before returns what a bufio.Reader has in front of its reading position.
func before(v reflect.Value) []byte {
	if !v.IsValid() {
		return nil
	}
	buf, at := v.FieldByName("buf"), v.FieldByName("r")
	if buf.Kind() != reflect.Slice || buf.Type().Elem().Kind() != reflect.Uint8 || at.Kind() != reflect.Int || at.Int() > int64(buf.Len()) {
		return nil
	}
	return buf.Bytes()[:at.Int()]
}
