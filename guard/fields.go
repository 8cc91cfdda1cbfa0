package guard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/proxyfields"
	"github.com/pythopus/tentagate/internal/requestid"
)

// kind is how guard treats a field of a request.
type kind uint8

const (
	ordinary  kind = iota
	override       // overrides the method or the path
	forwarded      // describes the client, as a proxy in front of the gateway sees it
	hop            // hop-by-hop
	ambiguous      // has a name that a service could take for another one
)

// kindOf returns the kind of a field, by its canonical name.
func kindOf(name string) kind {
	if !plain(name) {
		return ambiguous // of a trusted proxy, too: it may not know that it passes it on
	}
	switch proxyfields.Of(name) {
	case proxyfields.Override:
		return override
	case proxyfields.Asked, proxyfields.Client, proxyfields.Certificate, proxyfields.Other:
		return forwarded
	case proxyfields.None:
	}
	switch name {
	case "Http2-Settings":
		return hop
	case "Proxy":
		// HTTP_PROXY is a variable of CGI programs by this field, and is the proxy that many
		// HTTP clients use.
		return ambiguous
	}
	return ordinary
}

// kindOf returns the kind of a field, by its canonical name, in the server of the handler:
// its client_ip_headers are fields of proxies, whatever their names.
func (h *Handler) kindOf(name string) kind {
	if k := kindOf(name); k != ordinary || !h.isClientField(name) {
		return k
	}
	return forwarded
}

// isClientField reports whether the server takes the address of a client from the field,
// or a service could take the field for that one.
func (h *Handler) isClientField(name string) bool {
	return len(h.clientFields) > 0 && slices.Contains(h.clientFields, fieldname.Hyphenated(name))
}

// namesClient reports whether a field of a proxy has the address of a client, which
// clients themselves do not send.
func namesClient(name string) bool {
	return name == "Forwarded" || proxyfields.Of(name) == proxyfields.Client
}

// plain reports whether a name has no other characters than letters, digits and
// hyphens. Servers that put fields into variables replace others as they replace a
// hyphen, so that `X~User` would be `X-User` there. Underscores and dots, which
// some applications use, are left to Caddy (expected_underscore_headers).
func plain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', '0' <= c && c <= '9', c == '_', c == '.', c == ':' && i == 0:
		default:
			return false
		}
	}
	return true
}

// checkFields deletes the fields that a client must not send, and validates the
// others.
func (h *Handler) checkFields(r *http.Request) error {
	framed := r.ProtoMajor > 1
	for name, values := range r.Header {
		switch h.kindOf(name) {
		case ordinary:
		case override:
			if !h.KeepOverrides {
				delete(r.Header, name)
			}
		case forwarded:
			if fromTrustedProxy(r) {
				break
			}
			if namesClient(name) || h.isClientField(name) {
				nearby.Forwarded(r)
			}
			if !slices.Contains(h.kept, name) {
				delete(r.Header, name)
			}
		case hop, ambiguous:
			delete(r.Header, name)
		}
		if framed && padded(values) {
			return errPadded
		}
	}
	h.reduceConnection(r)
	return nil
}

// ordinaryTrailer reports whether a trailer field is kept. What guard deletes from a
// header it deletes from trailers; and what says how to handle a request, or who sends
// it, must be in the header (RFC 9110 §6.5.1): no handler sees it in a trailer, but
// some services merge trailers into the header.
func (h *Handler) ordinaryTrailer(name string) bool {
	plain := fieldname.Hyphenated(name)
	switch {
	case name == "Content-Digest":
		return true // the trailer is its usual place (RFC 9530 §2)
	case h.endToEnd(plain), credentials.IsField(plain), credentials.IsName(plain), slices.Contains(credentials.Fields, plain), credentials.NamesUser(plain):
		return false
	}
	return h.kindOf(name) == ordinary
}

// fromTrustedProxy reports whether the connection is from a proxy that the
// operator named in trusted_proxies.
func fromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// padded reports whether a value begins or ends with whitespace, which is
// impossible in HTTP/1.1, and forbidden in HTTP/2 (RFC 9113 §8.2.1).
func padded(values []string) bool {
	for _, v := range values {
		if v != "" && (whitespace(v[0]) || whitespace(v[len(v)-1])) {
			return true
		}
	}
	return false
}

func whitespace(c byte) bool { return c == ' ' || c == '\t' }

// reduceConnection deletes the fields that Connection names, which are for this
// connection only (RFC 9110 §7.6.1), and the names from it: the proxy behind would
// delete fields of these names again, and by then handlers of this gateway may have
// set them to identify the client.
func (h *Handler) reduceConnection(r *http.Request) {
	fields := r.Header
	upgrade := fields["Upgrade"]
	// Upgrade is ignored in HTTP/1.0 (RFC 9110 §7.8).
	upgrading := len(upgrade) == 1 && r.ProtoAtLeast(1, 1) && h.accepts(strings.Trim(upgrade[0], " \t"))
	if upgrade != nil && !upgrading {
		delete(fields, "Upgrade")
	}
	given := fields["Connection"]
	if given == nil || len(given) == 1 && (given[0] == "keep-alive" || given[0] == "close") {
		return
	}
	var kept []string
	for _, value := range given {
		for name := range strings.SplitSeq(value, ",") {
			switch name = strings.ToLower(strings.Trim(name, " \t")); {
			case name == "close", name == "keep-alive", name == "te", name == "upgrade":
				if (name != "upgrade" || upgrading) && !slices.Contains(kept, name) {
					kept = append(kept, name)
				}
			case name != "" && !h.endToEnd(http.CanonicalHeaderKey(name)):
				delete(fields, http.CanonicalHeaderKey(name))
			}
		}
	}
	if kept == nil {
		delete(fields, "Connection")
		return
	}
	fields["Connection"] = []string{strings.Join(kept, ", ")}
}

// endToEnd reports whether a field is kept although Connection names it: a client
// could otherwise delete what a lenient proxy in front has set.
func (h *Handler) endToEnd(name string) bool {
	switch name {
	case "Host", "Authorization", "Cookie", "Cache-Control", "Pragma", "Range", "Expect", "Date", "Origin", "Referer", "User-Agent",
		"Via", "Max-Forwards", "Idempotency-Key", "Dpop", "Traceparent", "Tracestate", requestid.Header:
		return true
	}
	for _, family := range []string{"Content-", "Accept", "If-", "Sec-", "Access-Control-"} {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return h.kindOf(name) == forwarded
}
