package rediscache

import (
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/pythopus/tentagate/internal/hostname"
)

// bypassReason says why the request is neither answered from the cache nor its
// answer stored; "" if it may be.
func (h *Handler) bypassReason(r *http.Request) string {
	switch {
	case r.Method != methodQuery && hasBody(r):
		return "body" // a GET whose body means something
	case len(r.Header["Upgrade"]) > 0:
		return "upgrade"
	case h.hosts != nil && !h.hosts[hostname.Normal(r.Host)]:
		return "host"
	case r.Host == "":
		return "host"
	}
	if len(r.Header["If-Match"]) > 0 || len(r.Header["If-Unmodified-Since"]) > 0 {
		return "precondition" // the origin's to judge
	}
	if v := r.Header["Content-Type"]; len(v) > 0 && strings.HasPrefix(v[0], "application/grpc") {
		return "grpc"
	}
	if v := r.Header["Accept"]; len(v) > 0 && strings.HasPrefix(v[0], "text/event-stream") {
		return "events"
	}
	if h.bypass != nil {
		if match, err := h.bypass.AnyMatchWithError(r); match || err != nil {
			return "matcher"
		}
	}
	return ""
}

// hasBody reports whether the request has content. HTTP/3 tells an unknown length
// where there is none; a request to the service then has none either.
func hasBody(r *http.Request) bool {
	return r.ContentLength > 0 || len(r.TransferEncoding) > 0 || r.ContentLength < 0 && r.ProtoMajor < 3
}

// ambiguous reports whether two servers may read the path differently: a
// separator, a dot segment or a delimiter that is escaped, or a backslash. What
// is stored under such a path could be shown to somebody who asked for another.
func ambiguous(escaped string) bool {
	for i := 0; i < len(escaped); i++ {
		switch escaped[i] {
		case '\\':
			return true
		case '/':
			if rest := escaped[i+1:]; strings.HasPrefix(rest, "/") || dotSegment(rest) {
				return true
			}
		case '%':
			if i+2 >= len(escaped) {
				return true
			}
			switch strings.ToLower(escaped[i+1 : i+3]) {
			case "2f", "5c", "2e", "3f", "23", "25":
				return true
			}
			if escaped[i+1] < '2' || escaped[i+1] == '7' && escaped[i+2]|0x20 == 'f' {
				return true // a control character
			}
		}
	}
	return false
}

func dotSegment(s string) bool {
	segment, _, _ := strings.Cut(s, "/")
	segment, _, _ = strings.Cut(segment, ";")
	return segment == "." || segment == ".."
}

// overrides let a request be for something else than its URL says, for services
// that heed them. They are no part of the key, so no request that is answered
// for others has them.
var overrides = []string{
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
	"X-Original-Uri", "X-Forwarded-Path", "X-Host", "X-Forwarded-Server",
}

// staticTypes are extensions that say what a response is, by what its
// Content-Type begins with.
var staticTypes = map[string][]string{
	".css": {"text/css"}, ".js": {"text/javascript", "application/javascript", "application/x-javascript"},
	".mjs": {"text/javascript", "application/javascript"}, ".json": {"application/json", "application/"},
	".png": {"image/"}, ".jpg": {"image/"}, ".jpeg": {"image/"}, ".gif": {"image/"}, ".webp": {"image/"}, ".avif": {"image/"},
	".ico": {"image/"}, ".svg": {"image/"}, ".bmp": {"image/"}, ".woff": {"font/", "application/"}, ".woff2": {"font/", "application/"},
	".ttf": {"font/", "application/"}, ".otf": {"font/", "application/"}, ".eot": {"application/", "font/"},
	".mp4": {"video/"}, ".webm": {"video/", "audio/"}, ".mp3": {"audio/"}, ".ogg": {"audio/", "video/", "application/ogg"},
	".pdf": {"application/pdf"}, ".txt": {"text/plain"}, ".csv": {"text/csv", "text/plain"}, ".xml": {"application/xml", "text/xml"},
	".zip": {"application/"}, ".gz": {"application/"}, ".wasm": {"application/wasm"},
}

// typeAgrees reports whether the Content-Type is one that the extension of the
// path promises, if it promises any.
func typeAgrees(urlPath string, header http.Header) bool {
	accepted := staticTypes[strings.ToLower(path.Ext(urlPath))]
	if accepted == nil {
		return true
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return false
	}
	for _, prefix := range accepted {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}
