package clientfault

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Target checks the request line and the Host of a request to an upstream. Go's
// transport would write white space in them, and with it whatever follows, as it
// is. It returns nil or an *Error.
func Target(r *http.Request) error {
	if !token(r.Method) {
		return unsendable("method %q", r.Method)
	}
	if r.URL == nil {
		return unsendable("no URL")
	}
	// The path is escaped when it is written.
	for _, text := range []string{r.URL.Opaque, r.URL.RawQuery} {
		for i := range len(text) {
			if c := text[i]; c <= ' ' || c == 0x7f || c == '#' {
				return unsendable("%q in its target", c)
			}
		}
	}
	for i := range len(r.Host) {
		if c := r.Host[i]; c < 0x80 && !httpguts.ValidHostHeader(r.Host[i:i+1]) {
			return unsendable("%q in its host", c)
		}
	}
	return nil
}

// Fields checks the header and trailer fields of a request to an upstream by the
// rules of Go's transports. It returns nil or an *Error.
func Fields(r *http.Request) error {
	for _, fields := range []http.Header{r.Header, r.Trailer} {
		for name, values := range fields {
			if !httpguts.ValidHeaderFieldName(name) {
				return unsendable("field name %q", name)
			}
			for _, value := range values {
				if !httpguts.ValidHeaderFieldValue(value) {
					return unsendable("value of the field %q", name) // the value may be a secret
				}
			}
		}
	}
	return nil
}

func unsendable(format string, args ...any) error {
	return &Error{fmt.Errorf("%w: invalid "+format, append([]any{errUnsendable}, args...)...)}
}

func token(s string) bool {
	if s == "" {
		return true // GET for Go's transport
	}
	for i := range len(s) {
		if !httpguts.IsTokenRune(rune(s[i])) {
			return false
		}
	}
	return true
}

// refusals are the prefixes of the errors with which Go's transports refuse to write
// a request, or find that its body has another length than announced.
var refusals = []string{
	"net/http: invalid ", "net/http: can't write control character", "http: no Host in request URL", "http: invalid Host header",
	"http: ContentLength=", "http: Request.ContentLength=",
	"invalid method", "idna: ", "invalid HTTP header", "invalid HTTP trailer", "invalid request :path", "invalid Trailer key",
	"invalid Upgrade request header", "invalid Transfer-Encoding request header", "invalid Connection request header",
	"request header list larger than peer's advertised limit", "request body larger than specified content length",
}

// Refused reports whether an error of reverse_proxy's own transport means that the
// request cannot be written. There is only its text to recognise it by.
func Refused(err error) bool {
	if err == nil {
		return false
	}
	text := strings.TrimPrefix(err.Error(), "http2: ")
	for _, refusal := range refusals {
		if strings.HasPrefix(text, refusal) {
			return true
		}
	}
	return false
}

// Unsendable wraps an error for which Refused is true.
func Unsendable(err error) *Error { return &Error{fmt.Errorf("%w: %w", errUnsendable, err)} }
