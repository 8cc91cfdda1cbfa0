package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// varyBehind is why a response is not stored whose Vary names a field that handlers
// behind the cache make, as header_up does: requests cannot be compared by it in front.
const varyBehind rfc9111.Reason = "vary-behind"

// variesBehind reports whether Vary names a request field that handlers behind make of
// what the client sends or is. What the key has in other fields already does not count:
// everybody's key, or that of the user's partition, for which own is the answer.
func (k *keyer) variesBehind(r *http.Request, response http.Header) (shared, own bool) {
	if len(response["Vary"]) == 0 {
		return false, false
	}
	ch := k.chains.of(r)
	names, _ := rfc9111.Vary(response)
	for _, name := range names {
		if slices.ContainsFunc(ch.reads.Authenticators, func(h caddyhttp.MiddlewareHandler) bool {
			f, ok := h.(forwarded.Forwarder)
			return ok && f.ForwardedFields().Has(name)
		}) {
			return true, true
		}
		for _, placeholder := range ch.reads.MadeOf(name) {
			inKey := k.inKey(ch, placeholder)
			shared = shared || !inKey
			own = own || !inKey && !k.inPartition(r, ch, placeholder)
		}
	}
	return shared, own
}

// inKey reports whether everybody's key tells requests with different values of the
// placeholder apart.
func (k *keyer) inKey(ch *chain, placeholder string) bool {
	field, ok := strings.CutPrefix(placeholder, "http.request.header.")
	field = http.CanonicalHeaderKey(field)
	return ok && (slices.Contains(k.options.Headers, field) || slices.Contains(ch.overrides, field)) && len(ch.reads.MadeOf(field)) == 0
}

// inPartition reports whether the key of the user's partition tells requests with
// different values of the placeholder apart.
func (k *keyer) inPartition(r *http.Request, ch *chain, placeholder string) bool {
	if ch.reads.Asks {
		return false // handlers behind may find another user
	}
	if field, ok := strings.CutPrefix(placeholder, "http.request.header."); ok {
		field = http.CanonicalHeaderKey(field)
		return slices.Contains(k.userFields(ch), field) && len(ch.reads.MadeOf(field)) == 0
	}
	if claim, ok := strings.CutPrefix(placeholder, "http.auth.user."); ok {
		if claim == "id" {
			return true
		}
		id, ok := identity.From(r)
		return ok && id.Tells(claim)
	}
	return strings.HasPrefix(placeholder, "http.request.tls.client.")
}
