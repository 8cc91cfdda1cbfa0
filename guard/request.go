package guard

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/guard/path"
)

// errTarget refuses a request target that has no path, which no path matcher
// could see.
var errTarget = errors.New("the request target must be a path or a full http URL")

// acceptsMethod refuses the methods that make a service repeat a request, with
// the fields that handlers added to it (TRACE, RFC 9110 §9.3.8), and CONNECT,
// which asks for a tunnel past all handlers, except the extended CONNECT that
// opens a WebSocket over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).
func (h *Handler) acceptsMethod(r *http.Request) bool {
	switch {
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
	if u.Opaque != "" {
		// `GET a:b` is a URL with no path at all, which reverse_proxy would
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
	return path.Check(sent, h.AllowEncodedSlashes)
}

// reduceConnection leaves of the Connection field (RFC 9110 §7.6.1) only what
// speaks about the connection. A proxy deletes every field that it names, also
// those that handlers of this gateway set to tell a service who asks.
func (h *Handler) reduceConnection(fields http.Header) {
	upgrade := fields["Upgrade"]
	upgrading := len(upgrade) == 1 && h.accepts(strings.Trim(upgrade[0], " \t"))
	if upgrade != nil && !upgrading {
		delete(fields, "Upgrade")
		delete(fields, "Http2-Settings")
	}
	given := fields["Connection"]
	if given == nil || len(given) == 1 && (given[0] == "keep-alive" || given[0] == "close") {
		return
	}
	var kept []string
	for _, value := range given {
		for name := range strings.SplitSeq(value, ",") {
			switch name = strings.ToLower(strings.Trim(name, " \t")); {
			case name == "close", name == "keep-alive", name == "te", name == "upgrade" && upgrading:
				if !slices.Contains(kept, name) {
					kept = append(kept, name)
				}
			}
		}
	}
	if kept == nil {
		delete(fields, "Connection")
		return
	}
	fields["Connection"] = []string{strings.Join(kept, ", ")}
}
