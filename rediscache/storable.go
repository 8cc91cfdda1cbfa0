package rediscache

import (
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// evaluate returns why the response is not stored, rfc9111.Stored if it is.
func (r *recorder) evaluate() rfc9111.Reason {
	f, x, h := r.f, r.f.x, r.f.x.h
	fields, d := r.fields.own, &r.record.decision
	*d = evaluateResponse(x, &rfc9111.Exchange{
		Method: x.method(), Range: len(f.out.Header["Range"]) > 0,
		Status: r.status, Header: fields, Requested: f.requested, Received: r.received,
	}, r.fields.outer)
	_, ok := x.target.storageKey(d)
	switch kind := fields.Get("Content-Type"); {
	case !ok && d.Private != rfc9111.Stored:
		return d.Private
	case !ok:
		return d.Shared
	case circuitstate.WasRefused(f.out):
		return "fallback" // that is over when the origin is back
	case r.isUnanswered():
		return "unanswered"
	case len(fields["Set-Cookie"]) > 0 && h.SetCookie == cookieBypass:
		return "set-cookie"
	case strings.HasPrefix(kind, "text/event-stream"), strings.HasPrefix(kind, "application/grpc"):
		return "stream"
	case h.MatchType && !typeMatchesExtension(x.target.path, fields):
		return "type"
	case x.r.Method == http.MethodPost && !r.describesTarget():
		return "method"
	case r.status == http.StatusPartialContent && !r.isSinglePart():
		return "multipart"
	case !f.conditions.own && rfc9111.Conditional(f.out.Header) && r.status != http.StatusOK:
		return "conditional"
	}
	if length, ok := contentLength(fields); ok && length > h.MaxObjectSize {
		return "size"
	}
	if !h.tags.fit(&x.target, fields, r.received) {
		return "tags"
	}
	return rfc9111.Stored
}

// isUnanswered reports whether the response is what net/http sends where no handler
// has answered: none has touched it, or reverse_proxy has a response that it does not
// pass on, such as a 101 that was not asked for.
func (r *recorder) isUnanswered() bool {
	if !r.unanswered {
		return false
	}
	for name := range r.fields.own {
		if name == "Server" {
			continue
		}
		repl, _ := r.f.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if repl == nil {
			return false
		}
		_, proxied := repl.Get("http.reverse_proxy.status_code")
		return proxied
	}
	return true
}

// isSinglePart reports whether a 206 has one part, of a single range.
func (r *recorder) isSinglePart() bool {
	_, _, ok := rfc9111.ContentRange(r.fields.own)
	specs, asked := rfc9111.ParseRange(r.f.out.Header["Range"])
	return ok && asked && len(specs) == 1 && len(r.f.x.r.Header["Range"]) == 1
}

// describesTarget reports whether the answer to a POST is what a GET of the same URL
// would get (RFC 9110 §9.3.3).
func (r *recorder) describesTarget() bool {
	values := r.fields.own["Content-Location"]
	if len(values) != 1 || r.status != http.StatusOK {
		return false
	}
	base, err := url.Parse(r.f.x.target.url())
	if err != nil {
		return false
	}
	u, err := base.Parse(values[0])
	return err == nil && u.Fragment == "" && rfc9111.SameOrigin(base, u) && u.EscapedPath() == base.EscapedPath() && u.RawQuery == base.RawQuery
}

// evaluateResponse returns whether a response may be stored: as the RFC and the
// operator have it (rfc9111.Policy), and as far as handlers in front allow it. outer
// is the header that those have set.
func evaluateResponse(x *exchange, e *rfc9111.Exchange, outer http.Header) rfc9111.Decision {
	e.Authorized, e.Credentials = x.target.client.authorized, x.target.client.credentials
	d := x.h.policy.Evaluate(e)
	everybody, partition := x.h.keys.variesBehind(x.r, e.Header)
	forbidden := x.h.keys.chains.restrictions(x.w, x.r, outer, e.Header, e.Status, x.background)
	switch {
	case forbidden.store:
		d.Shared, d.Private = rfc9111.NoStore, rfc9111.NoStore
	case d.Private == rfc9111.Stored && partition:
		d.Shared, d.Private = varyBehind, varyBehind
	case d.Shared == rfc9111.Stored && everybody:
		d.Shared = varyBehind
	case d.Shared == rfc9111.Stored && (forbidden.share || x.target.client.exclusive || identity.IsPrivate(x.r)):
		d.Shared = rfc9111.IsPrivate
	}
	return d
}

// extensionTypes are the prefixes of Content-Type that a path with an extension promises.
var extensionTypes = map[string][]string{
	".css": {"text/css"}, ".js": {"text/javascript", "application/javascript", "application/x-javascript"},
	".mjs": {"text/javascript", "application/javascript"}, ".json": {"application/json", "application/"},
	".png": {"image/"}, ".jpg": {"image/"}, ".jpeg": {"image/"}, ".gif": {"image/"}, ".webp": {"image/"}, ".avif": {"image/"},
	".ico": {"image/"}, ".svg": {"image/"}, ".bmp": {"image/"}, ".woff": {"font/", "application/"}, ".woff2": {"font/", "application/"},
	".ttf": {"font/", "application/"}, ".otf": {"font/", "application/"}, ".eot": {"application/", "font/"},
	".mp4": {"video/"}, ".webm": {"video/", "audio/"}, ".mp3": {"audio/"}, ".ogg": {"audio/", "video/", "application/ogg"},
	".pdf": {"application/pdf"}, ".txt": {"text/plain"}, ".csv": {"text/csv", "text/plain"}, ".xml": {"application/xml", "text/xml"},
	".zip": {"application/"}, ".gz": {"application/"}, ".wasm": {"application/wasm"},
}

// typeMatchesExtension reports whether the Content-Type is one that the extension of
// the path promises, if it promises any.
func typeMatchesExtension(urlPath string, header http.Header) bool {
	accepted := extensionTypes[strings.ToLower(path.Ext(urlPath))]
	if accepted == nil {
		return true
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(accepted, func(prefix string) bool { return strings.HasPrefix(kind, prefix) })
}
