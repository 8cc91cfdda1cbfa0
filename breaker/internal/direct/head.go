package direct

import (
	"cmp"
	"net/http"
	"net/textproto"
	"slices"

	"golang.org/x/net/http/httpguts"
)

// defaultUserAgent is what net/http sends where the request does not say.
const defaultUserAgent = "Go-http-client/1.1"

// simple reports whether writeHead can write the request: one without a body, of
// the usual form. Request.Write writes all others.
func (out *outgoing) simple() bool {
	r := out.Request
	return (r.Body == nil || r.Body == http.NoBody) && r.ContentLength == 0 && len(r.TransferEncoding) == 0 && !r.Close &&
		r.URL.Opaque == "" && r.Method != http.MethodConnect && plainHost(r.Host) && plainQuery(r.URL.RawQuery) &&
		(out.trace == nil || out.trace.WroteHeaderField == nil)
}

// plainHost reports whether a host is sent as it is: it has no name to encode and
// no zone to remove.
func plainHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || c == '%' {
			return false
		}
	}
	return host != "" && httpguts.ValidHostHeader(host)
}

// plainQuery reports whether a query is sent as it is. A path is escaped.
func plainQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// writeHead writes a request that is simple and whose fields were checked, byte
// for byte as Request.Write would, but without its allocations. The connection's
// writer keeps the first error until it is flushed.
func (c *conn) writeHead(out *outgoing) {
	r := out.Request
	method := cmp.Or(r.Method, http.MethodGet)
	c.put(method, " ", cmp.Or(r.URL.EscapedPath(), "/"))
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		c.put("?", r.URL.RawQuery)
	}
	c.put(" HTTP/1.1\r\nHost: ", r.Host, "\r\n")
	agent := defaultUserAgent
	if values, ok := r.Header["User-Agent"]; ok {
		agent = ""
		if len(values) > 0 {
			agent = values[0]
		}
	}
	if agent != "" {
		c.put("User-Agent: ", textproto.TrimString(agent), "\r\n")
	}
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		c.put("Content-Length: 0\r\n")
	}
	c.names = c.names[:0]
	for name := range r.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			c.names = append(c.names, name)
		}
	}
	slices.Sort(c.names)
	for _, name := range c.names {
		for _, value := range r.Header[name] {
			c.put(name, ": ", textproto.TrimString(value), "\r\n")
		}
	}
	clear(c.names)
	if out.gzip {
		c.put("Accept-Encoding: gzip\r\n")
	}
	c.put("\r\n")
}

func (c *conn) put(texts ...string) {
	for _, text := range texts {
		_, _ = c.w.WriteString(text)
	}
}
