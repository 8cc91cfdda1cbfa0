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

// Details of a 400.
var (
	// No path matcher matches a target without a path.
	errTarget    = errors.New("the request target must be a path or a full http URL")
	errScheme    = errors.New("the request target must be a path or an http or https URL")
	errCharacter = errors.New("the request target has whitespace, a control character or a #: percent-encode it")
	errHost      = errors.New("the host must be a name or an address, with an optional port")
	errHosts     = errors.New("the fields Host and :authority differ")
	errMethod    = errors.New("the method must be a token, such as GET")
	errLength    = errors.New("the Content-Length does not match the body")
	errPadded    = errors.New("a field value begins or ends with whitespace")
	errLengths   = errors.New("Content-Length and Transfer-Encoding must not be combined")
	errBody      = errors.New("the request body is malformed or incomplete")
)

// check validates the request line, or the pseudo-header fields of HTTP/2 and
// HTTP/3: a service could interpret an ambiguous one differently, and net/http
// validates little of those fields.
func (h *Handler) check(r *http.Request) error {
	switch {
	case r.Method != http.MethodGet && !httpguts.ValidHeaderFieldName(r.Method):
		return errMethod
	case !plainTarget(r.RequestURI):
		return errCharacter
	case !validHost(r.Host) && (r.Host != "" || r.ProtoMajor > 1):
		// HTTP/1.0 has no host, and Caddy refuses HTTP/1.1 without one.
		return errHost
	}
	if r.ProtoMajor > 1 {
		if err := checkPseudoHeader(r); err != nil {
			return err
		}
	}
	return h.checkTarget(r)
}

// checkPseudoHeader refuses what only the framing of HTTP/2 and HTTP/3 can carry,
// and the grammar of HTTP/1.1 excludes (RFC 9113 §8.2, §8.3, RFC 9114 §4.2, §4.3).
func checkPseudoHeader(r *http.Request) error {
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

// plainTarget reports whether a request target has no character that would end
// it, or the request line, in HTTP/1.1.
func plainTarget(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// validHost reports whether a host is one of RFC 3986 §3.2.2, without userinfo,
// whitespace and percent-encoding.
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

// validPort accepts an empty port, as the grammar does (RFC 3986 §3.2.3).
func validPort(port string) bool {
	if port == "" {
		return true
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// acceptsMethod refuses TRACE, by which a service echoes the fields that handlers
// added (RFC 9110 §9.3.8), and CONNECT, a tunnel past all handlers, except the
// extended CONNECT of a WebSocket over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).
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
	// send; quic-go puts it in place of the version.
	switch protocol := r.Header[":protocol"]; {
	case r.ProtoMajor == 2 && len(protocol) == 1:
		return h.accepts(protocol[0])
	case r.ProtoMajor == 3 && !strings.HasPrefix(r.Proto, "HTTP/"):
		return h.accepts(r.Proto)
	}
	return false
}

// checkTarget refuses an ambiguous request target, and completes an empty path.
func (h *Handler) checkTarget(r *http.Request) error {
	u := r.URL
	switch {
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return errScheme
	case u.Opaque != "", u.User != nil, u.Scheme != "" && u.Host == "":
		// `GET http:b` is a URL without a path, which reverse_proxy would forward
		// unchanged.
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
