package rediscache

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/fieldname"
	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/proxyfields"
	"github.com/pythopus/tentagate/internal/resolve"
	sites "github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// chain is what the handlers around the cache do, at one place of the configuration.
type chain struct {
	place *sites.Place

	// userFields are the request fields that handlers copy from the answer of another
	// service, as `forward_auth` with `copy_headers` does.
	userFields []string
	// overrides are fields which could change a response and which handlers in front
	// set, such as `request_header X-Forwarded-Prefix /shop`, and those that they make of
	// the host. They are the operator's: they reach the origin, and are part of the key.
	overrides []string
	// addresses are fields such as X-Real-IP to which handlers in front set the address
	// of each client. They reach the service too, and are no part of the key, as
	// X-Forwarded-For is none.
	addresses []string
	// hostMade are the placeholders that handlers in front make of the host, and
	// hostVars the variables among them that handlers behind use.
	hostMade hostMade
	hostVars []string
	// constants are the fields that handlers in front set to fixed values, for all
	// requests or for some, and chosen the placeholders of frontMade.chosen that handlers
	// behind use.
	constants []constant
	chosen    []string
	// credentialFields are request fields that handlers in front make of what identifies
	// the client, and credentialVars such variables that handlers behind use, and what else
	// these make credentials of.
	credentialFields, credentialVars []string
	// sources are the placeholders that both are made of, by their names.
	sources map[string][]string
	// varies are the request fields that handlers in front name in the Vary of all
	// responses, and never is set if they say that a response is for one request only.
	varies []string
	never  bool
	// static are the values that the operator sets fields to, the same for all clients.
	static map[string][]string
	// forwarded are fields that jwt_auth sets from its token, and that no client can send.
	forwarded []*forwarded.Fields
	// deferred are what handlers in front do to the cache-control fields when the
	// header is sent, and rules the text of those that depend on the response.
	deferred []*headers.RespHeaderOps
	rules    string
	// proxies: a reverse_proxy stands in front, as forward_auth is one.
	proxies bool

	// placeholders are those that handlers behind name, and reads is what they choose
	// by.
	placeholders []string
	reads        *sites.Reads

	// names are those of overrides, varies, hostVars and chosen, and of what reads looks at. Places that share a
	// namespace, but differ in this, mean different things by the same key.
	names string
}

// noChain is that of a request outside of any server.
var noChain = chain{reads: &sites.Reads{}}

// chains finds the chain of each request.
type chains struct {
	finder *sites.Finder
	// controls are the names of the response fields that control caching.
	controls []string
	// dropsQuery: query parameters are left out of what the origin is asked.
	dropsQuery bool
	// keyHeaders and keyValues are the request fields and the placeholders that the
	// operator made part of the key, and keyCookies is set if cookies are.
	keyHeaders, keyValues []string
	keyCookies            bool
	// isCredential reports whether a request field identifies its client.
	isCredential func(name string) bool

	last    atomic.Pointer[chain] // a handler mostly has one place
	finding sync.Mutex            // one request reads the configuration, and others wait for it
}

// of returns the chain that a request passes.
func (c *chains) of(r *http.Request) *chain {
	place := c.finder.Place(r)
	if place == nil {
		return &noChain
	}
	if known := c.last.Load(); known != nil && known.place == place {
		return known
	}
	return c.find(place)
}

// find reads from the configuration what the handlers of a place do.
func (c *chains) find(place *sites.Place) *chain {
	c.finding.Lock()
	defer c.finding.Unlock()
	if known := c.last.Load(); known != nil && known.place == place {
		return known
	}
	ch := &chain{place: place, placeholders: place.Behind(), reads: place.Reads(c.dropsQuery)}
	handlers := place.Before()
	ch.hostMade = findHostMade(handlers)
	ch.hostVars = ch.hostMade.variables(ch.placeholders)
	made := c.findFrontMade(handlers)
	ch.chosen = intersection(made.chosen, ch.placeholders)
	ch.credentialVars = intersection(made.credentials, ch.placeholders)
	ch.sources = made.sources
	for _, before := range handlers {
		if f, ok := before.(forwarded.Forwarder); ok {
			ch.addForwarded(f.ForwardedFields())
		}
		switch before := before.(type) {
		case *reverseproxy.Handler:
			ch.proxies = true
		case *headers.Handler:
			ch.addHeaders(before, c.controls)
			c.addRequestFields(ch, made, before)
		}
	}
	ch.credentialVars = append(ch.credentialVars, c.credentialsBehind(ch, made)...)
	ch.constants = slices.DeleteFunc(ch.constants, func(c constant) bool { return slices.Contains(ch.overrides, c.name) })
	slices.SortFunc(ch.constants, func(a, b constant) int { return strings.Compare(a.name, b.name) })
	slices.Sort(ch.credentialFields)
	ch.credentialFields = slices.Compact(ch.credentialFields)
	slices.Sort(ch.overrides)
	slices.Sort(ch.userFields)
	slices.Sort(ch.varies)
	ch.varies = slices.Compact(ch.varies)
	ch.userFields = slices.Compact(ch.userFields)
	ch.names = string(ch.reads.AppendNames([]byte(strings.Join(slices.Concat(ch.overrides, ch.varies, ch.hostVars, ch.chosen), ","))))
	c.last.Store(ch)
	return ch
}

// addForwarded notes fields that name the client, as `jwt_auth` sets them with
// forward. What clients send of them is removed before.
func (ch *chain) addForwarded(fields *forwarded.Fields) {
	ch.forwarded = append(ch.forwarded, fields)
	for _, name := range proxyfields.Changing() {
		if fields.Has(name) {
			ch.addOverride(name)
		}
	}
}

// isForwarded reports whether jwt_auth sets the field from its token.
func (ch *chain) isForwarded(name string) bool {
	return slices.ContainsFunc(ch.forwarded, func(f *forwarded.Fields) bool { return f.Has(name) })
}

// addHeaders notes what a `header` or `request_header` in front does.
func (ch *chain) addHeaders(h *headers.Handler, controls []string) {
	ch.addVary(h.Response)
	if ops := h.Response; ops != nil && (ops.Deferred || ops.Require != nil) && changes(ops.HeaderOps, controls) {
		ch.deferred = append(ch.deferred, ops)
		if text, err := json.Marshal(ops); err == nil && (ops.Require != nil || len(ops.Replace) > 0) {
			ch.rules += string(text)
		}
	}
	if h.Request == nil {
		return
	}
	for _, fields := range []http.Header{h.Request.Add, h.Request.Set} {
		for name, values := range fields {
			ch.addOverride(name)
			if len(values) == 1 {
				ch.addStatic(name, values[0])
			}
			ch.addMade(name, strings.Join(values, ""))
		}
	}
	ch.addAddresses(h)
	for name, replacements := range h.Request.Replace {
		ch.addOverride(name)
		for _, r := range replacements {
			ch.addMade(name, r.Search+r.SearchRegexp+r.Replace)
		}
	}
}

// addRequestFields notes the fields that a `request_header` in front makes of credentials
// or sets to what the operator chose.
func (c *chains) addRequestFields(ch *chain, made *frontMade, h *headers.Handler) {
	if h.Request == nil {
		return
	}
	note := func(name, value string, whole bool) {
		switch of := c.originOf(made, value); {
		case of.credential && slices.Contains(c.keyHeaders, http.CanonicalHeaderKey(name)):
			// It is part of the key as it is.
		case of.credential && isAnswer(of.sources) && slices.Contains(ch.userFields, http.CanonicalHeaderKey(name)):
			// It names the user.
		case of.credential:
			name = http.CanonicalHeaderKey(name)
			ch.credentialFields = append(ch.credentialFields, name)
			ch.sources[name] = append(ch.sources[name], of.sources...)
		case of.chosen:
			ch.override(name)
		case of.constant && whole:
			ch.addConstant(name, value)
		case of.constant && !inKeyOrPrivate(name):
			ch.override(name)
		}
	}
	for _, fields := range []http.Header{h.Request.Add, h.Request.Set} {
		for name, values := range fields {
			for _, value := range values {
				note(name, value, true)
			}
		}
	}
	for name, replacements := range h.Request.Replace {
		for _, r := range replacements {
			note(name, r.Replace, false)
		}
	}
}

// intersection returns the names that are in both lists.
func intersection(names, others []string) (both []string) {
	for _, name := range names {
		if slices.Contains(others, name) {
			both = append(both, name)
		}
	}
	return both
}

// addMade notes a field that is made of the host or of another service's answer.
func (ch *chain) addMade(name, text string) {
	if ch.hostMade.in(text) {
		ch.override(name)
	}
	if strings.Contains(text, "{"+answerPrefix) {
		ch.userFields = append(ch.userFields, http.CanonicalHeaderKey(name))
	}
}

// addStatic notes a field such as `request_header X-Origin-Secret {env.SECRET}`: it is
// no credential of a client. It is part of the key, as not every request may get it.
func (ch *chain) addStatic(name, value string) {
	if name = http.CanonicalHeaderKey(name); !namesCredential(fieldname.Hyphenated(name)) || strings.Contains(name, "{") {
		return
	}
	for _, placeholder := range resolve.Placeholders(value) {
		if !strings.HasPrefix(placeholder, "env.") && !strings.HasPrefix(placeholder, "file.") {
			return
		}
	}
	if ch.static == nil {
		ch.static = map[string][]string{}
	}
	ch.static[name] = append(ch.static[name], caddy.NewReplacer().ReplaceKnown(value, ""))
	ch.override(name)
}

// isStatic reports whether a field has a value that the operator sets it to.
func (ch *chain) isStatic(name string, values []string) bool {
	return ch.static != nil && len(values) == 1 && slices.Contains(ch.static[name], values[0])
}

// addVary notes the Vary that a `header` in front sends. It must be true of this cache
// too.
func (ch *chain) addVary(ops *headers.RespHeaderOps) {
	if ops == nil || ops.HeaderOps == nil {
		return
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for name, values := range fields {
			if !strings.EqualFold(name, "Vary") {
				continue
			}
			names, never := rfc9111.Vary(http.Header{"Vary": values})
			ch.varies, ch.never = append(ch.varies, names...), ch.never || never
		}
	}
}

func (ch *chain) addOverride(name string) {
	name = http.CanonicalHeaderKey(name)
	if saysWho(name) {
		return
	}
	switch proxyfields.Of(name) {
	case proxyfields.None, proxyfields.Client:
	case proxyfields.Override, proxyfields.Asked, proxyfields.Certificate, proxyfields.Other:
		ch.override(name)
	}
}

// addAddresses notes the addresses that a `request_header` sets. One that it adds, or that
// it sets for some requests only, may be what the client wrote.
func (ch *chain) addAddresses(h *headers.Handler) {
	for name := range h.Request.Set {
		name = http.CanonicalHeaderKey(name)
		if proxyfields.Of(name) == proxyfields.Client && !saysWho(name) && ch.place.AllPass(h) {
			ch.addresses = append(ch.addresses, name)
		}
	}
}

func (ch *chain) override(name string) {
	if name = http.CanonicalHeaderKey(name); !slices.Contains(ch.overrides, name) {
		ch.overrides = append(ch.overrides, name)
	}
}

// wasAuthorized reports whether another service was asked about the request before
// it came here, as forward_auth does: the answer may be for the user it let through.
func (ch *chain) wasAuthorized(r *http.Request) bool {
	if !ch.proxies {
		return false
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	_, ok = repl.Get("http.reverse_proxy.status_code")
	return ok
}

// unkeyed calls f with the names of fields that the client sent, that could change
// the response, and that are not part of the key, until it returns false. They do not
// reach the service with a request whose response may be shared.
func (c *chains) unkeyed(r *http.Request, f func(name string) bool) {
	var ch *chain // most requests have no such field
	for name, values := range r.Header {
		kind := proxyfields.Of(name)
		if kind == proxyfields.None || len(values) == 0 || name == "X-Forwarded-For" { // which reverse_proxy sets
			continue
		}
		if ch == nil {
			ch = c.of(r)
		}
		if kind != proxyfields.Override && (saysWho(name) || ch.trusts(r)) || slices.Contains(c.keyHeaders, name) || ch.sets(name) {
			continue
		}
		if !f(name) {
			return
		}
	}
}

// sets reports whether handlers in front set the field, so that it is not what the
// client sent.
func (ch *chain) sets(name string) bool {
	return slices.Contains(ch.overrides, name) || slices.Contains(ch.addresses, name) || slices.Contains(ch.userFields, name) || ch.isForwarded(name)
}

// hasUnkeyed reports whether the request has such a field.
func (c *chains) hasUnkeyed(r *http.Request) (has bool) {
	c.unkeyed(r, func(string) bool { has = true; return false })
	return has
}
