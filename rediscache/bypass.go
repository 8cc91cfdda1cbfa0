package rediscache

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/hostname"
)

// bypassRules say which requests are neither answered from the cache nor stored.
type bypassRules struct {
	matchers caddyhttp.MatcherSets
	hosts    map[string]bool // those whose responses are stored; nil: all
}

// reason says why the request bypasses the cache, "" if it does not.
func (b *bypassRules) reason(r *http.Request) string {
	if r.Method != methodQuery && hasContent(r) {
		return "body" // a GET whose body means something
	}
	return b.reasonWithBody(r)
}

// reasonWithBody is reason for a request of a method whose requests have content.
func (b *bypassRules) reasonWithBody(r *http.Request) string {
	switch {
	case removesFields(r.Header):
		return "connection"
	case len(r.Header["Upgrade"]) > 0:
		return "upgrade"
	case r.Host == "", !b.hostCounts(r):
		return "host"
	}
	if len(r.Header["If-Match"]) > 0 || len(r.Header["If-Unmodified-Since"]) > 0 {
		return "precondition" // only the origin can evaluate it
	}
	if v := r.Header["Content-Type"]; len(v) > 0 && strings.HasPrefix(v[0], "application/grpc") {
		return "grpc"
	}
	if v := r.Header["Accept"]; len(v) > 0 && strings.HasPrefix(v[0], "text/event-stream") {
		return "events"
	}
	if b.matchers != nil {
		if match, err := b.matchers.AnyMatchWithError(r); match || err != nil {
			return "matcher"
		}
	}
	if tokenInURL(r) {
		return "query-token"
	}
	return ""
}

// hostCounts reports whether responses of the request's host are stored.
func (b *bypassRules) hostCounts(r *http.Request) bool {
	return b.hosts == nil || b.hosts[hostname.Normal(r.Host)]
}

// hasContent reports whether the request has content. HTTP/3 tells an unknown length
// where there is none; a request to the origin then has none either.
func hasContent(r *http.Request) bool {
	return r.ContentLength > 0 || len(r.TransferEncoding) > 0 || r.ContentLength < 0 && r.ProtoMajor < 3
}

// removesFields reports whether Connection names a field of the request that says
// something to the service. A proxy behind removes it, be it part of the key or what
// handlers in front have set (RFC 9110 §7.6.1).
func removesFields(h http.Header) bool {
	for _, value := range h["Connection"] {
		for value != "" {
			var name string
			name, value, _ = strings.Cut(value, ",")
			switch name = strings.Trim(name, " \t"); {
			case strings.EqualFold(name, "close"), strings.EqualFold(name, "keep-alive"), strings.EqualFold(name, "upgrade"), strings.EqualFold(name, "te"), strings.EqualFold(name, "http2-settings"):
			case len(h[http.CanonicalHeaderKey(name)]) > 0:
				return true
			}
		}
	}
	return false
}
