package dryrun

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
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
	k.upstreams = upstreamsOf(h, r)
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
	case h.DynamicUpstreams != nil && len(k.upstreams) == 0:
		k.forwarded = true
		return t.Stop("it asks the service, at an address that is looked up for the request", facts)
	case len(available) == 0:
		k.record.Status = http.StatusServiceUnavailable
		return t.Stop("no upstream is available", facts)
	case len(available) == 1:
		k.forwarded = true
		return t.Stop("it asks "+available[0], facts)
	default:
		k.forwarded = true
		return t.Stop(fmt.Sprintf("it asks one of %d upstreams, by the policy %s: %s", len(available), policy, strings.Join(available, ", ")), facts)
	}
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

// upstreamsOf returns the upstreams as health checks and circuit breakers see them.
func upstreamsOf(h *reverseproxy.Handler, r *http.Request) []Upstream {
	list := []Upstream{}
	ready := func(string) bool { return true }
	if t, ok := h.Transport.(interface{ Ready(address string) bool }); ok {
		ready = t.Ready
	}
	if source, ok := h.DynamicUpstreams.(interface{ Addresses() []string }); ok {
		for _, address := range source.Addresses() {
			list = append(list, upstream(address, ready(address), true, false))
		}
	}
	if h.DynamicUpstreams != nil {
		return list
	}
	for _, u := range h.Upstreams {
		address := expand(u.Dial, r)
		list = append(list, upstream(address, ready(address), u.Healthy(), u.Full()))
	}
	return list
}

func upstream(address string, ready, healthy, full bool) Upstream {
	u := Upstream{Address: address}
	switch {
	case !healthy:
		u.Reason = "unhealthy"
	case full:
		u.Reason = "it has as many requests as it may have"
	case !ready:
		u.Reason = "its circuit is open"
	default:
		u.Available = true
	}
	return u
}
