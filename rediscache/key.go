package rediscache

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/cookies"
	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/hostname"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/proxyfields"
	"github.com/pythopus/tentagate/internal/requeststate"
	sites "github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/rediscache/internal/cachekey"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// keyVersion is part of every key. It changes with how keys are made.
const keyVersion = "5"

// keyer makes the keys of requests.
type keyer struct {
	options     *KeyOptions
	namespace   string
	chains      *chains
	query       cachekey.QueryFilter
	searchRules cachekey.SearchRules
	credentials map[string]bool // names of request fields
	values      []keyValue
}

// keyValue is a text of `key value`.
type keyValue struct {
	text  string
	names []string // its placeholders, if they are several: other values of them may make the same text
}

// target is what a request asks for, and on whose behalf.
type target struct {
	address
	client client

	content *content // of a QUERY request

	// shared is the key of what everybody may have, private that of the client's own
	// partition. Its text is empty if there is none.
	shared, private object.Key

	// queryStart and queryEnd are where the query stands in the text of the keys.
	queryStart, queryEnd int

	vary vary

	// uncacheable is why requests for the target bypass the cache, "" if they do not.
	uncacheable string
}

// address is a URL in the parts that the client wrote.
type address struct {
	scheme, host, path, query string
	hasQuery                  bool
}

// client is what a request says about who sent it.
type client struct {
	// authorized clients get what everybody may have, or what is their own.
	authorized bool
	// credentials: the request carries something that identifies the client, such as
	// a cookie, and is not part of the key.
	credentials bool
	// exclusive: handlers in front tell the client that the response is private.
	exclusive bool
	// user is whose partition may be used, "" if that is not known.
	user string
}

// vary is what selects a stored response among the variants of a key.
type vary struct {
	names []string // as far as they are known
	value string   // what the request has in the fields
}

func (v *vary) set(names []string, header http.Header) {
	v.names, v.value = names, rfc9111.Variant(names, header)
}

// pathQuery is what object.Object.Path holds.
func (a *address) pathQuery() string {
	if a.hasQuery {
		return a.path + "?" + a.query
	}
	return a.path
}

func (a *address) origin() string { return a.scheme + "://" + a.host }

func (a *address) url() string { return a.origin() + a.pathQuery() }

// hasPartition reports whether the client has a partition of its own.
func (t *target) hasPartition() bool { return t.private.Full != "" }

// isPrivate reports whether the key is that of the client's own partition.
func (t *target) isPrivate(key object.Key) bool {
	return t.hasPartition() && key.Full == t.private.Full
}

// eachKey calls f with the keys under which the request may find something, those
// of its own partition first, until f returns true.
func (t *target) eachKey(f func(object.Key) bool) {
	if t.hasPartition() && f(t.private) {
		return
	}
	f(t.shared)
}

// storageKey returns the key under which a response is stored: everybody's, or that
// of the user who asked for it. ok is false if it is not stored.
func (t *target) storageKey(d *rfc9111.Decision) (key object.Key, ok bool) {
	switch {
	case d.Shared == rfc9111.Stored:
		return t.shared, true
	case d.Private == rfc9111.Stored && t.hasPartition():
		return t.private, true
	}
	return object.Key{}, false
}

// searchHost is the host for which No-Vary-Search is remembered. GET and QUERY do
// not learn from each other.
func (t *target) searchHost() string {
	if t.content != nil {
		return methodQuery + " " + t.host
	}
	return t.host
}

// redisContext returns the context for what a request waits for in Redis, which
// shares one budget with the request's other features.
func redisContext(r *http.Request) context.Context {
	return availability.WithBudget(r.Context(), app.WaitBudget(r))
}

// target reads the request. Nothing is decoded: `/x%2Fy` is not `/x/y`.
func (k *keyer) target(r *http.Request, content *content) target {
	t := target{content: content, address: address{
		host: hostname.Normal(r.Host), path: r.URL.EscapedPath(), query: r.URL.RawQuery, hasQuery: r.URL.ForceQuery || r.URL.RawQuery != "",
	}}
	chain := k.chains.of(r)
	scheme, forwarded := chain.forwardedBy(r)
	t.scheme = scheme
	ambiguous := cachekey.Ambiguous(t.path)
	rewritten := ""
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil && !sameTarget(original.URL, r.URL) {
		path, query := original.URL.EscapedPath(), original.URL.RawQuery
		if path != t.path || query != t.query {
			// The origin is asked for another URL than the client was. Both count: two
			// origins may be asked for one path.
			rewritten = t.path + "?" + k.query.Apply(t.query)
			t.path, t.query, t.hasQuery = path, query, original.URL.ForceQuery || query != ""
			ambiguous = ambiguous || cachekey.Ambiguous(t.path)
		}
	}
	if ambiguous {
		t.uncacheable = "ambiguous-path"
	}
	if path := requeststate.Path(r); path != "" && rewritten == "" {
		t.path = path
	}

	var array [512]byte
	b := k.appendPlace(cachekey.AppendPart(array[:0], keyVersion), r)
	for _, part := range [...]string{t.scheme, t.host, forwarded, t.path} {
		b = cachekey.AppendPart(b, part)
	}
	if chain.never && t.uncacheable == "" {
		t.uncacheable = "outgoing-vary"
	}
	t.queryStart = len(b)
	b = k.appendQuery(b, &t, chain)
	t.queryEnd = len(b)
	b = cachekey.AppendPart(b, rewritten)
	b = cachekey.AppendFields(b, r.Header, chain.overrides)
	b = k.appendOptions(b, r)
	b = appendValues(b, chain.hostVars, r)
	b = appendValues(b, chain.chosen, r)
	b = chain.appendConstants(b, r.Header)
	if len(chain.varies) > 0 {
		b = cachekey.AppendPart(append(b, 'V'), rfc9111.Variant(chain.varies, r.Header))
	}
	if chain.rules != "" {
		b = cachekey.AppendPart(append(b, 'r'), chain.rules)
	}
	var ok bool
	if b, ok = appendDecidedBy(b, chain.reads, r); !ok && t.uncacheable == "" {
		t.uncacheable = "handlers-behind"
	}
	if content != nil {
		b = append(b, content.key...)
	}
	common := len(b)
	b, user := k.appendUser(b, &t.client, r)
	t.setKeys(b, common)
	t.client.user = t.private.Full[len(t.private.Full)-user:]
	return t
}

// sameTarget reports whether two URLs are written the same, without escaping them.
func sameTarget(a, b *url.URL) bool {
	return a.Path == b.Path && a.RawPath == b.RawPath && a.RawQuery == b.RawQuery
}

// appendQuery appends the query, as far as responses depend on it.
func (k *keyer) appendQuery(b []byte, t *target, ch *chain) []byte {
	query := k.query.Apply(t.query)
	if rule, ok := k.searchRules.Get(t.searchHost(), t.path); ok && !ch.reads.Query {
		b = append(b, 'n')
		query = rule.Query(query)
	} else if t.hasQuery && (query != "" || t.query == "") {
		b = append(b, '?') // a query of which nothing is left is not sent to the origin
	}
	return cachekey.AppendPart(b, query)
}

// renew makes the keys of a target again with what No-Vary-Search now says of its
// query. The rest stays: handlers behind may have changed the request by now.
func (k *keyer) renew(t *target, ch *chain) {
	full := t.shared.Full
	common := len(full)
	if t.hasPartition() {
		full = t.private.Full
	}
	b := k.appendQuery([]byte(full[:t.queryStart]), t, ch)
	rest := full[t.queryEnd:]
	common += len(b) - t.queryEnd
	t.queryEnd = len(b)
	t.setKeys(append(b, rest...), common)
}

// appendDecidedBy appends what handlers behind choose by, before they have changed any
// of it. ok is false if that is not known before they run.
func appendDecidedBy(b []byte, reads *sites.Reads, r *http.Request) (_ []byte, ok bool) {
	if reads.Unknown || reads.None() {
		return b, !reads.Unknown
	}
	var array [256]byte
	decidedBy, ok := reads.Append(array[:0], r)
	if len(decidedBy) > 0 {
		b = cachekey.AppendPart(append(b, 'd'), decidedBy)
	}
	return b, ok
}

// setKeys sets the keys, of which everybody's is the beginning of the text. Both share
// one piece of memory.
func (t *target) setKeys(text []byte, common int) {
	full := string(text)
	t.shared = object.Key{Hash: xxh3.Hash128(text[:common]).Bytes(), Full: full[:common]}
	if len(text) > common {
		t.private = object.Key{Hash: xxh3.Hash128(text).Bytes(), Full: full}
	}
}

// appendUser appends what the key of the user's partition has beyond that of everybody,
// and returns the length of the user's name at its end: 0 if there is no partition.
func (k *keyer) appendUser(b []byte, c *client, r *http.Request) (_ []byte, length int) {
	var array [192]byte
	user := k.identify(c, r, array[:0])
	if len(user) == 0 {
		return b, 0
	}
	if id, ok := identity.From(r); ok && id.Rights != nil {
		// Two tokens of one user may get different answers.
		rights := id.Rights()
		b = append(append(b, 'a'), rights[:]...)
	}
	if sum, ok := k.otherCredentials(c.credentials, r); ok {
		b = append(append(b, 'k'), sum[:]...)
	}
	return cachekey.AppendPart(append(b, 'u'), user), len(user)
}

// forwardedBy returns the scheme that the client used, and what a trusted proxy in
// front of us says about its request. Services answer with redirects and links to
// that, so it is part of the key.
func (ch *chain) forwardedBy(r *http.Request) (scheme, forwarded string) {
	scheme = "http"
	if r.TLS != nil {
		scheme = "https"
	}
	var space [8]string
	names := space[:0]
	for name := range r.Header {
		if !isAsked(name) {
			continue
		}
		if len(names) == 0 && !ch.trusts(r) {
			return scheme, ""
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var b []byte
	for _, name := range names {
		values := r.Header[name]
		if len(values) == 0 {
			continue
		}
		if name == "Forwarded" {
			values = forwardedFor.Split(strings.Join(values, ","), -1) // without the client's address
		}
		switch proto := strings.ToLower(values[0]); {
		case name == "X-Forwarded-Proto" && (proto == "http" || proto == "https"):
			scheme = proto
		default:
			b = cachekey.AppendPart(cachekey.AppendPart(b, name), strings.Join(values, ","))
		}
	}
	return scheme, string(b)
}

// isAsked reports whether a proxy says in the field what its client asked for. What
// names the user or holds credentials is no such field.
func isAsked(name string) bool {
	return proxyfields.Of(name) == proxyfields.Asked && !saysWho(name)
}

// saysWho reports whether the field commonly holds credentials or names a user.
func saysWho(name string) bool {
	name = fieldname.Hyphenated(name)
	return namesCredential(name) || slices.Contains(credentials.Fields, name)
}

// forwardedFor are the parameters of Forwarded (RFC 7239) that name a client or
// a proxy, and not what was asked for.
var forwardedFor = regexp.MustCompile(`(?i)(^|[;,]) *(for|by) *= *("[^"]*"|[^;,]*)`)

// trusts reports whether a proxy sent the request that the server, or a reverse_proxy
// behind, trusts.
func (ch *chain) trusts(r *http.Request) bool {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted || len(ch.reads.Trusted) == 0 {
		return trusted
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(ch.reads.Trusted, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) })
}

// appendPlace appends what the client cannot choose: where the handler stands in the
// configuration, or the namespace that the operator named.
func (k *keyer) appendPlace(b []byte, r *http.Request) []byte {
	if k.namespace != "" {
		b = cachekey.AppendPart(append(b, 'n'), k.namespace)
		if names := k.chains.of(r).names; names != "" {
			b = cachekey.AppendPart(b, names)
		}
		return b
	}
	var array [64]byte
	name := k.chains.finder.Place(r).AppendName(array[:0], r)
	return cachekey.AppendPart(append(b, 'p'), name)
}

// appendOptions appends what the operator added to the key.
func (k *keyer) appendOptions(b []byte, r *http.Request) []byte {
	b = cachekey.AppendFields(b, r.Header, k.options.Headers)
	for _, name := range k.options.Cookies {
		b = append(b, 'c')
		for value := range cookies.Named(r.Header, name) {
			b = cachekey.AppendPart(append(b, ' '), value)
		}
	}
	if len(k.values) == 0 {
		return b
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, value := range k.values {
		text := value.text
		if repl != nil {
			text = repl.ReplaceAll(text, "")
		}
		b = appendValues(cachekey.AppendPart(append(b, 'v'), text), value.names, r)
	}
	return b
}

// partKey is the key under which parts (206) of what the key names are stored.
func partKey(k object.Key) object.Key { return object.NewKey("part", k.Full) }
