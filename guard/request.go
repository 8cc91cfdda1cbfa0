package guard

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/pythopus/tentagate/guard/internal/path"
)

// What is wrong with a request, as its sender is told. Each is a 400.
var (
	// A target without a path could be seen by no path matcher.
	errTarget    = errors.New("the request target must be a path or a full http URL")
	errScheme    = errors.New("the request target must be a path, or a URL of the scheme http or https")
	errCharacter = errors.New("the request target has a blank, a control character or a #: percent-encode it")
	errHost      = errors.New("the host must be a name or an address, with a port or without")
	errHosts     = errors.New("the host field and the :authority differ")
	errMethod    = errors.New("the method must be a token, such as GET")
	errLength    = errors.New("the Content-Length does not agree with the body")
	errEdge      = errors.New("a field value begins or ends with a blank")
	errBeside    = errors.New("a request has a Content-Length or a Transfer-Encoding, not both")
	errBody      = errors.New("the request body is malformed, or ends early")
)

// check returns the reason why a request is refused, which has to do with its
// request line, or with what takes its place in HTTP/2 and HTTP/3: nothing of
// it may reach a service that could read it differently, and net/http checks of
// HTTP/2 little more than that the fields are there.
func (h *Handler) check(r *http.Request) error {
	switch {
	case r.Method != http.MethodGet && !httpguts.ValidHeaderFieldName(r.Method):
		return errMethod
	case !plainTarget(r.RequestURI):
		return errCharacter
	case !validHost(r.Host) && (r.Host != "" || r.ProtoMajor > 1):
		// HTTP/1.0 knows no host, and without one in HTTP/1.1 Caddy refuses.
		return errHost
	}
	if r.ProtoMajor > 1 {
		if err := checkFramed(r); err != nil {
			return err
		}
	}
	return h.checkTarget(r)
}

// checkFramed refuses what only the framing of HTTP/2 and HTTP/3 can carry, as
// its fields do not pass through the grammar of HTTP/1.1 (RFC 9113 §8.2, §8.3,
// RFC 9114 §4.2, §4.3).
func checkFramed(r *http.Request) error {
	if hosts := r.Header["Host"]; hosts != nil && (len(hosts) > 1 || !strings.EqualFold(hosts[0], r.Host)) {
		return errHosts
	}
	if length := r.Header["Content-Length"]; length != nil {
		if n, err := strconv.ParseUint(length[0], 10, 63); len(length) > 1 || err != nil || int64(n) != r.ContentLength {
			return errLength
		}
	}
	if r.URL.Scheme != "" || r.URL.Host != "" && r.Method != http.MethodConnect {
		return errTarget // a :path is never a URL
	}
	return nil
}

// plainTarget reports whether a request target has nothing in it that would
// end it, or the request line, for a reader of HTTP/1.1.
func plainTarget(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// validHost reports whether a host is one of RFC 3986 §3.2.2 in the characters
// that names have: no user, no blank, no percent-encoding.
func validHost(host string) bool {
	if strings.HasPrefix(host, "[") {
		literal, port, ok := strings.Cut(host[1:], "]")
		address, err := netip.ParseAddr(literal)
		return ok && err == nil && address.Is6() && address.Zone() == "" && (port == "" || port[0] == ':' && validPort(port[1:]))
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '.', c == '_', c == '~':
		case c == ':':
			return i > 0 && validPort(host[i+1:])
		default:
			return false
		}
	}
	return host != ""
}

// validPort takes an empty port too, as the grammar has it (RFC 3986 §3.2.3).
func validPort(port string) bool {
	if port == "" {
		return true
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// acceptsMethod refuses the methods that make a service repeat a request, with
// the fields that handlers added to it (TRACE, RFC 9110 §9.3.8), and CONNECT,
// which asks for a tunnel past all handlers, except the extended CONNECT that
// opens a WebSocket over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).
func (h *Handler) acceptsMethod(r *http.Request) bool {
	switch {
	case r.Method == http.MethodGet:
		return true
	case strings.EqualFold(r.Method, http.MethodTrace), strings.EqualFold(r.Method, "TRACK"):
		return false
	case !strings.EqualFold(r.Method, http.MethodConnect):
		return true
	}
	// net/http has the protocol in a pseudo-header field, which HTTP/1.1 cannot
	// send; quic-go has it in place of the version.
	switch protocol := r.Header[":protocol"]; {
	case r.ProtoMajor == 2 && len(protocol) == 1:
		return h.accepts(protocol[0])
	case r.ProtoMajor == 3 && !strings.HasPrefix(r.Proto, "HTTP/"):
		return h.accepts(r.Proto)
	}
	return false
}

// checkTarget refuses what is ambiguous in the request target, and completes
// what is only short.
func (h *Handler) checkTarget(r *http.Request) error {
	u := r.URL
	switch {
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return errScheme
	case u.Opaque != "", u.User != nil, u.Scheme != "" && u.Host == "":
		// `GET http:b` is a URL with no path at all, which reverse_proxy would
		// forward as it stands.
		return errTarget
	}
	switch {
	case u.Path == "":
		// An empty path means "/" (RFC 9110 §4.2.3). Without it
		// `GET http://host` would match no path, not even `/*`, and still be
		// forwarded as `/`.
		u.Path = "/"
		return nil
	case u.Path == "*" && r.Method == http.MethodOptions:
		return nil
	case u.Path[0] != '/':
		return errTarget
	}
	// RawPath is the path as it was sent. EscapedPath is what is forwarded; it
	// differs where the client left something unescaped, and is empty of
	// encoded slashes then.
	sent := u.RawPath
	if sent == "" {
		sent = u.EscapedPath()
	}
	return path.Check(sent, path.Allow{Slashes: h.AllowEncodedSlashes, Parameters: h.AllowPathParameters, Twice: h.AllowDoubleEncoding})
}
