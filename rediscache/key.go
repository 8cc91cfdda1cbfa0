package rediscache

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/redis"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// keyVersion is part of every key. It changes with how keys are made.
const keyVersion = "3"

// target is what a request asks for, and on whose behalf.
type target struct {
	scheme, host, path, query string // as the client wrote them
	hasQuery                  bool

	// content is that of a QUERY request; nil for others.
	content *content

	shared object.Key
	// private is the key in the user's own partition, if there is one.
	private    object.Key
	hasPrivate bool
	owner      string // whose partition it is

	// authorized requests get what everybody may have, or what is theirs.
	authorized bool
	// personal: the request carries something else that says who asks and is no
	// part of the key, such as cookies.
	personal bool

	// alone: handlers in front tell the client that the answer is for it alone.
	alone bool

	// known are the names that select the variant, as far as is known, and
	// variant the request's values of them.
	known   []string
	variant string

	// spent is how long the request has waited for the second tier.
	spent *redis.Spent

	// decided is what handlers behind decide by, and unknown is set where it
	// cannot be told.
	decided string
	unknown bool

	// ambiguous: the path may be read differently by two servers.
	ambiguous bool
}

// targetOf reads the request. Nothing is decoded: `/x%2Fy` is not `/x/y`.
func (h *Handler) targetOf(r *http.Request) target { return h.targetWith(r, nil) }

// targetWith is targetOf for a request with content.
func (h *Handler) targetWith(r *http.Request, content *content) target {
	decided, ok := h.decided(r)
	t := h.targetDecided(r, content, decided)
	t.unknown = !ok
	return t
}

// decided reads what handlers behind decide by, before they have changed any of
// it.
func (h *Handler) decided(r *http.Request) (text string, ok bool) {
	reads := h.inFront(r).reads
	if reads.Unknown || reads.None() {
		return "", !reads.Unknown
	}
	var array [256]byte
	b, ok := reads.Append(array[:0], r)
	return string(b), ok
}

// targetDecided is targetWith for a request of which it is known what handlers
// behind decide by.
func (h *Handler) targetDecided(r *http.Request, content *content, decided string) target {
	t := target{content: content, host: hostname.Normal(r.Host), path: r.URL.EscapedPath(), query: r.URL.RawQuery, hasQuery: r.URL.ForceQuery || r.URL.RawQuery != ""}
	scheme, forwarded := origin(r)
	t.scheme = scheme
	rewritten := ""
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		path, query := original.URL.EscapedPath(), original.URL.RawQuery
		if path != t.path || query != t.query {
			// What the service is asked for is another than what the client
			// asked for. Both count: two services may be asked for one path.
			t.ambiguous = ambiguous(t.path)
			rewritten = r.URL.EscapedPath() + "?" + h.keptQuery(t.query)
			t.path, t.query, t.hasQuery = path, query, original.URL.ForceQuery || query != ""
		}
	}

	t.ambiguous = t.ambiguous || ambiguous(t.path)

	var array [512]byte
	b := h.appendPlace(appendPart(array[:0], keyVersion), r)
	b = appendPart(b, t.scheme)
	b = appendPart(b, t.host)
	b = appendPart(b, forwarded)
	b = appendPart(b, t.path)
	query := h.keptQuery(t.query)
	front := h.inFront(r)
	if v, ok := h.queries.of(t.asked(), t.path); ok && !front.reads.Query {
		b = append(b, 'n')
		query = v.Query(query)
	} else if t.hasQuery {
		b = append(b, '?')
	}
	b = appendPart(b, query)
	b = appendPart(b, rewritten)
	if len(front.names) > 0 {
		b = appendFields(b, r, front.names)
	}
	if h.Key.Headers != nil || h.Key.Cookies != nil || h.Key.Values != nil {
		b = h.appendOptions(b, r)
	}
	if front.rules != "" {
		b = appendPart(append(b, 'r'), front.rules)
	}
	if t.decided = decided; decided != "" {
		b = appendPart(append(b, 'd'), decided)
	}
	if content != nil {
		b = append(b, content.part...)
	}
	t.shared = object.Key{Hash: xxh3.Hash128(b).Bytes(), Full: string(b)}

	if t.owner = h.who(&t, r); t.owner != "" {
		b = appendPart(append(b, 'u'), t.owner)
		t.private = object.Key{Hash: xxh3.Hash128(b).Bytes(), Full: string(b)}
		t.hasPrivate = true
	}
	return t
}

func appendPart(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

// forwarding are the fields in which a proxy says what the client asked it for.
// Services answer with redirects and links to that. From a trusted proxy they are
// part of the key; from anybody else no request that is answered for others has
// them.
var forwarding = []string{
	"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Ssl",
}

// origin returns the scheme that the client used, and what a trusted proxy says
// in front of us.
func origin(r *http.Request) (scheme, forwarded string) {
	scheme = "http"
	if r.TLS != nil {
		scheme = "https"
	}
	var b []byte
	trusted := false
	for _, name := range forwarding {
		values := r.Header[name]
		if len(values) == 0 {
			continue
		}
		if !trusted && !fromTrustedProxy(r) {
			return scheme, ""
		}
		trusted = true
		if name == "Forwarded" {
			values = forwardedFor.Split(strings.Join(values, ","), -1) // without the client's address
		}
		switch proto := strings.ToLower(values[0]); {
		case name == "X-Forwarded-Proto" && (proto == "http" || proto == "https"):
			scheme = proto
		default:
			b = appendPart(appendPart(b, name), strings.Join(values, ","))
		}
	}
	return scheme, string(b)
}

// forwardedFor are the parameters of Forwarded (RFC 7239) that name a client or
// a proxy, and not what was asked for.
var forwardedFor = regexp.MustCompile(`(?i)(^|[;,]) *(for|by) *= *("[^"]*"|[^;,]*)`)

func fromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// appendPlace appends what the client has no say in: where the handler stands in
// the configuration, or the name of a namespace that the operator gave.
func (h *Handler) appendPlace(b []byte, r *http.Request) []byte {
	if h.Namespace != "" {
		return appendPart(append(b, 'n'), h.Namespace)
	}
	var array [64]byte
	name := h.finder.Place(r).AppendName(array[:0], r)
	b = strconv.AppendInt(append(b, 'p'), int64(len(name)), 10)
	return append(append(b, ':'), name...)
}

// appendOptions appends what the operator added to the key.
func (h *Handler) appendOptions(b []byte, r *http.Request) []byte {
	b = appendFields(b, r, h.Key.Headers)
	for _, name := range h.Key.Cookies {
		b = append(b, 'c')
		for _, cookie := range r.CookiesNamed(name) {
			b = appendPart(append(b, ' '), cookie.Value)
		}
	}
	if len(h.Key.Values) > 0 {
		repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		for _, v := range h.Key.Values {
			if repl != nil {
				v = repl.ReplaceAll(v, "")
			}
			b = appendPart(append(b, 'v'), v)
		}
	}
	return b
}

func appendFields(b []byte, r *http.Request, names []string) []byte {
	for _, name := range names {
		values := r.Header[name]
		b = strconv.AppendInt(append(b, 'h'), int64(len(values)), 10)
		for _, v := range values {
			b = appendPart(append(b, ' '), v)
		}
	}
	return b
}

// filtersQuery reports whether not every query parameter counts.
func (h *Handler) filtersQuery() bool { return h.Key.QueryAllow != nil || h.Key.QueryDeny != nil }

// keptQuery returns the parameters that are part of the key.
func (h *Handler) keptQuery(query string) string {
	if query == "" || !h.filtersQuery() && !h.Key.QuerySort {
		return query
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if h.Key.QueryAllow != nil && !listed(h.Key.QueryAllow, name) || listed(h.Key.QueryDeny, name) {
			continue
		}
		kept = append(kept, pair)
	}
	if h.Key.QuerySort {
		slices.SortStableFunc(kept, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
	}
	return strings.Join(kept, "&")
}

func listed(list []string, name string) bool {
	for _, l := range list {
		if prefix, ok := strings.CutSuffix(l, "*"); ok && strings.HasPrefix(name, prefix) || l == name {
			return true
		}
	}
	return false
}

// pathQuery is what object.Object.Path holds.
func (t *target) pathQuery() string {
	if t.hasQuery {
		return t.path + "?" + t.query
	}
	return t.path
}

// url is the URL that the client asked for.
func (t *target) url() string { return t.scheme + "://" + t.host + t.pathQuery() }

// asked is the host for which what responses say of queries is remembered. GET
// and QUERY do not learn from each other.
func (t *target) asked() string {
	if t.content != nil {
		return methodQuery + " " + t.host
	}
	return t.host
}

// partition is the text that tells one user's requests from another's.
func (t *target) partition() string { return t.private.Full }

// partKey is the key under which parts (206) of what the key names are kept.
func partKey(k object.Key) object.Key { return object.NewKey("part", k.Full) }

// know remembers which fields select the variant.
func (t *target) know(names []string, header http.Header) {
	t.known = names
	t.variant = rfc9111.Variant(names, header)
}

// waiting returns the context for look-ups in the second tier, which together
// take no longer than one may.
func (t *target) waiting(r *http.Request) context.Context {
	if t.spent == nil {
		t.spent = &redis.Spent{}
	}
	return redis.WithSpent(r.Context(), t.spent)
}
