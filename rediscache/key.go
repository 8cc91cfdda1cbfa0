package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/object"
)

// target is what a request asks for.
type target struct {
	scheme, host, path string // path with the query, as the client wrote it
	shared             object.Key
	// private is the key in the user's own partition, if there is one.
	private *object.Key
	// authenticated requests get what everybody may have, or what is theirs.
	authenticated bool
}

// targetOf reads the request. Nothing is decoded: `/x%2Fy` is not `/x/y`.
func (h *Handler) targetOf(r *http.Request) *target {
	t := &target{scheme: "http", host: strings.ToLower(r.Host), path: r.URL.EscapedPath()}
	if r.TLS != nil {
		t.scheme = "https"
	}
	query := r.URL.RawQuery
	if query != "" && h.Query != nil {
		query = h.keptQuery(query)
	}
	if query != "" {
		t.path += "?" + query
	}
	parts := []string{"1", t.scheme, t.host, t.path}
	for _, name := range h.KeyHeaders {
		parts = append(parts, name, strings.Join(r.Header[name], ","))
	}
	t.shared = object.NewKey(parts...)
	id, ok := identity.From(r)
	t.authenticated = ok || r.Header["Authorization"] != nil
	if ok && h.PerUser {
		key := object.NewKey(append(parts, "user", id.Partition())...)
		t.private = &key
	}
	return t
}

// keptQuery returns the parameters that are part of the key, in their order.
func (h *Handler) keptQuery(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if slices.Contains(h.Query, name) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

func (t *target) url() string { return t.scheme + "://" + t.host + t.path }
