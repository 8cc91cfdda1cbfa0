package guard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
)

// kind is what guard does with a field of a request.
type kind uint8

const (
	ordinary  kind = iota
	override       // asks for another method or path
	forwarded      // says what a proxy in front of the gateway knows of the client
	hop            // is of the connection alone
	odd            // has a name that a service could read as another's
)

// kindOf returns what a field is, by its name as net/http spells it.
func kindOf(name string) kind {
	switch name {
	case "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url":
		return override
	case "Forwarded", "Forwarded-For", "X-Real-Ip", "X-Client-Ip", "Client-Ip", "True-Client-Ip", "X-Remote-Ip", "X-Remote-Addr",
		"X-Cluster-Client-Ip", "X-Proxyuser-Ip", "X-Original-Forwarded-For", "X-Original-Host", "X-Original-Uri", "X-Original-Method",
		"X-Original-Proto", "X-Host", "X-Scheme", "X-Url-Scheme", "Front-End-Https", "X-Envoy-External-Address",
		"Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "Cf-Visitor", "Fastly-Client-Ip", "Fly-Client-Ip",
		"X-Appengine-User-Ip", "X-Azure-Clientip", "X-Azure-Socketip", "X-Nf-Client-Connection-Ip", "Cloudfront-Viewer-Address",
		"Client-Cert", "Client-Cert-Chain":
		return forwarded
	case "Http2-Settings":
		return hop
	}
	switch {
	case strings.HasPrefix(name, "X-Forwarded"), strings.HasPrefix(name, "X-Ssl-Client"):
		return forwarded
	case !plain(name):
		return odd
	}
	return ordinary
}

// plain reports whether a name has letters, digits and hyphens alone. Servers
// that put fields into variables spell other characters as they spell a hyphen,
// so that `X~User` would be `X-User` there. Of the underscore and the dot,
// which names of some applications have, Caddy decides
// (expected_underscore_headers), and a pseudo-header field is none of those.
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

// checkFields drops what a client may not say, and returns what is wrong with
// the others.
func (h *Handler) checkFields(r *http.Request) error {
	framed := r.ProtoMajor > 1
	for name, values := range r.Header {
		switch kindOf(name) {
		case ordinary:
		case override:
			if !h.KeepOverrides {
				delete(r.Header, name)
			}
		case forwarded:
			if !slices.Contains(h.kept, name) && !fromTrustedProxy(r) {
				delete(r.Header, name)
				nearby.Dropped(r, name)
			}
		case hop, odd:
			delete(r.Header, name)
		}
		if framed && edged(values) {
			return errEdge
		}
	}
	h.reduceConnection(r)
	return nil
}

// ordinaryTrailer reports whether a field behind a body goes on. A proxy has no
// reason to say there what guard drops from a header.
func ordinaryTrailer(name string) bool { return kindOf(name) == ordinary }

// fromTrustedProxy reports whether the connection is from a proxy that the
// operator named in trusted_proxies.
func fromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// edged reports whether a value begins or ends with a blank, which no value of
// HTTP/1.1 can, and which HTTP/2 forbids (RFC 9113 §8.2.1).
func edged(values []string) bool {
	for _, v := range values {
		if v != "" && (blank(v[0]) || blank(v[len(v)-1])) {
			return true
		}
	}
	return false
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// reduceConnection does what the Connection field asks for (RFC 9110 §7.6.1):
// the fields that it names are of this connection, and go no further. It is
// reduced to what speaks about the connection, because the proxy behind deletes
// what it names once more, and would delete what handlers of this gateway set
// to tell a service who asks.
func (h *Handler) reduceConnection(r *http.Request) {
	fields := r.Header
	upgrade := fields["Upgrade"]
	// An upgrade in HTTP/1.0 is to be ignored (RFC 9110 §7.8).
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
			case name != "" && !endToEnd(http.CanonicalHeaderKey(name)):
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

// endToEnd reports whether a field is for the service, whatever Connection says
// of it: a client that can have it deleted behind a lenient proxy takes from the
// request what that proxy wrote into it.
func endToEnd(name string) bool {
	switch name {
	case "Host", "Authorization", "Cookie", "Cache-Control", "Pragma", "Range", "Expect", "Date", "Origin", "Referer", "User-Agent",
		"Via", "Max-Forwards", "Idempotency-Key", "Dpop", "Traceparent", "Tracestate", RequestIDHeader:
		return true
	}
	for _, family := range []string{"Content-", "Accept", "If-", "Sec-", "Access-Control-"} {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return kindOf(name) == forwarded
}
