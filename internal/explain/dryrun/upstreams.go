package dryrun

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/internal/explain"
)

// Upstream is an address that reverse_proxy may ask.
type Upstream struct {
	Address string `json:"address"`
	// Available: a request may go there now.
	Available bool `json:"available"`
	// Reason is why not.
	Reason string `json:"reason,omitempty"`
}

// proxy records what a reverse_proxy would do. Its selection policy is not asked: some
// count the requests.
func (k *walk) proxy(t *explain.Trace, h *reverseproxy.Handler, r *http.Request) error {
	if len(h.HandleResponse) > 0 {
		return t.Stop("it asks "+strings.Join(dials(h, r), " or ")+", and its handle_response decides by the answer, as in forward_auth", nil)
	}
	list, known := upstreamsOf(h, r)
	k.upstreams = list
	policy := "random"
	if h.LoadBalancing != nil && h.LoadBalancing.SelectionPolicy != nil {
		if m, ok := h.LoadBalancing.SelectionPolicy.(caddy.Module); ok {
			policy = m.CaddyModule().ID.Name()
		}
	}
	var available []string
	for _, u := range k.upstreams {
		if u.Available {
			available = append(available, u.Address)
		}
	}
	facts := explain.Facts{"available": strings.Join(available, " "), "policy": policy}
	switch {
	case !known:
		k.forwarded = true
		return t.Ask("an address that is looked up for the request", facts)
	case len(available) == 0:
		return t.Refuse(caddyhttp.Error(http.StatusServiceUnavailable, unavailable(list)), "no upstream is available", facts)
	case len(available) == 1:
		k.forwarded = true
		return t.Ask(available[0], facts)
	default:
		k.forwarded = true
		return t.Ask(fmt.Sprintf("one of %d upstreams, by the policy %s: %s", len(available), policy, strings.Join(available, ", ")), facts)
	}
}

// unavailable is why no upstream is available. Where only their circuits refuse, the
// circuit breaker in front answers.
func unavailable(list []Upstream) error {
	for _, u := range list {
		if u.Reason != circuitRefuses {
			return errors.New("no upstream is available")
		}
	}
	if len(list) == 0 {
		return errors.New("there is no upstream")
	}
	return explain.ErrCircuitsOpen
}

func dials(h *reverseproxy.Handler, r *http.Request) (list []string) {
	for _, u := range h.Upstreams {
		list = append(list, expand(u.Dial, r))
	}
	return list
}

// expand replaces the placeholders of an address.
func expand(dial string, r *http.Request) string {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok && strings.Contains(dial, "{") {
		return repl.ReplaceAll(dial, "")
	}
	return dial
}

// upstreamsOf returns the upstreams as health checks and circuit breakers see them, if
// they are known without a real request.
func upstreamsOf(h *reverseproxy.Handler, r *http.Request) (list []Upstream, known bool) {
	list = []Upstream{}
	ready := func(string) bool { return true }
	if t, ok := h.Transport.(interface{ Ready(address string) bool }); ok {
		ready = t.Ready
	}
	if source, ok := h.DynamicUpstreams.(interface{ Addresses() []string }); ok {
		for _, address := range source.Addresses() {
			list = append(list, upstream(address, ready(address), true, false))
		}
		return list, true
	}
	if h.DynamicUpstreams != nil {
		return list, false
	}
	for _, u := range h.Upstreams {
		address := expand(u.Dial, r)
		list = append(list, upstream(address, ready(address), u.Healthy(), u.Full()))
	}
	return list, true
}

// circuitRefuses is why an upstream is not available whose circuit is open, or half open
// with all of its probes on their way.
const circuitRefuses = "its circuit admits no request now"

func upstream(address string, ready, healthy, full bool) Upstream {
	u := Upstream{Address: address}
	switch {
	case !healthy:
		u.Reason = "unhealthy"
	case full:
		u.Reason = "it has reached its limit of requests"
	case !ready:
		u.Reason = circuitRefuses
	default:
		u.Available = true
	}
	return u
}
