package rediscache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/shared"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// methodPurge is the method that a purge request has.
const methodPurge = "PURGE"

// PurgeMethod lets clients invalidate stored responses with `PURGE` requests:
// the URL asked for, in all its variants and for all users, or, if the request
// has a `Surrogate-Key`, `xkey` (both separated by blanks) or `Cache-Tag`
// (separated by commas) field, what carries those tags. With `Soft-Purge: 1` or
// `Fastly-Soft-Purge: 1` responses become stale instead of unusable.
//
// At least one condition must be given, and a request must meet all that are;
// any other is refused with 403. Without this block PURGE is a method like any
// that the cache does not know.
type PurgeMethod struct {
	// Addresses or networks of clients that may purge, such as `10.0.0.0/8`.
	// The client's address is Caddy's `client_ip`, which heeds the server's
	// `trusted_proxies`. A request through another proxy is refused: its client is
	// not known. `private_ranges` stands for all private networks and
	// the loopback addresses. Placeholders such as `{env.PURGERS}` may hold
	// several, separated by commas. Default: any.
	Allow []string `json:"allow,omitempty"`

	// Users that may purge: subjects that `jwt_auth` or another authentication
	// handler before this one found. `*` stands for every authenticated user.
	// Default: none need be.
	Users []string `json:"users,omitempty"`

	networks []netip.Prefix
	users    []string
}

// provision reads the networks. The cache's Provision calls it.
func (p *PurgeMethod) provision() error {
	if len(p.Allow) == 0 && len(p.Users) == 0 {
		return errors.New("purge_method: set `allow` with addresses or networks, or `users`, or both: anybody could empty the cache otherwise")
	}
	allow, err := resolve.List("purge_method: allow", p.Allow)
	if err != nil {
		return err
	}
	if p.networks, err = nearby.Prefixes(strings.Fields(strings.Join(allow, " "))); err != nil {
		return fmt.Errorf("purge_method: allow: %w", err)
	}
	if slices.Contains(p.Users, "") {
		return errors.New("purge_method: users: empty name; accepted are subjects, and * for every authenticated user")
	}
	p.users, err = each("purge_method: users", p.Users)
	return err
}

// warnOfProxies warns where allow does not mean the clients, because of what the servers of
// the configuration know about proxies.
func (h *Handler) warnOfProxies(ctx caddy.Context) {
	if len(h.PurgeMethod.networks) == 0 {
		return
	}
	switch trusting, first, known := nearby.Proxies(ctx); {
	case first:
		h.logger.Warn("purge_method: allow: the server has trusted_proxies without trusted_proxies_strict: behind two or more proxies a client may purge only if "+
			"every address in X-Forwarded-For may, also a proxy's; add the line `trusted_proxies_strict` to the global option `servers`",
			zap.String("at", shared.Place(h.Position)))
	case known && !trusting && slices.ContainsFunc(h.PurgeMethod.networks, func(p netip.Prefix) bool { return p.Addr().IsPrivate() }):
		h.logger.Warn("purge_method: allow covers private addresses, but the server has no trusted_proxies: behind a load balancer or proxy in a private network "+
			"every client has the proxy's address and may purge; set the global option `servers { trusted_proxies static <networks> }`, or add `users`",
			zap.String("at", shared.Place(h.Position)))
	}
}

// allowed reports whether the request meets all conditions.
func (p *PurgeMethod) allowed(r *http.Request) bool {
	if len(p.networks) > 0 && (nearby.HidesClient(r) || !nearby.Client(r, p.networks)) {
		return false
	}
	if len(p.users) > 0 {
		id, ok := identity.From(r)
		if !ok {
			return false
		}
		if !slices.Contains(p.users, "*") && (id.Subject == "" || !slices.Contains(p.users, id.Subject)) {
			return false
		}
	}
	return len(p.networks)+len(p.users) > 0
}

// handles reports whether the request is one for serve. A nil p handles none.
func (p *PurgeMethod) handles(r *http.Request) bool {
	return p != nil && r.Method == methodPurge
}

func mayNotPurge() error {
	return problem.Error(problem.New(http.StatusForbidden, "this client may not purge"))
}

// serve carries out a purge request. url is the one that stored responses have
// for this request, with its scheme and host.
func (p *PurgeMethod) serve(w http.ResponseWriter, r *http.Request, url string, epochs *invalidations) error {
	if !p.allowed(r) {
		return mayNotPurge()
	}
	soft, err := softPurge(r.Header)
	if err != nil {
		return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
	}
	scopes := []object.Scope{{URL: url, Soft: soft}}
	if tags, given := purgeTags(r.Header); given {
		if len(tags) == 0 {
			return problem.Error(problem.New(http.StatusBadRequest, "the tag field of the request has no tag"))
		}
		scopes = scopes[:0]
		for _, tag := range tags {
			scopes = append(scopes, object.Scope{Tag: tag, Soft: soft})
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), purgeWait)
	defer cancel()
	shared, err := epochs.Purge(ctx, scopes...)
	if err != nil {
		return problem.Error(problem.New(http.StatusBadRequest, err.Error()))
	}
	result := purgeResult{Purged: true, Shared: "pending"}
	switch {
	case epochs.exchange == nil:
		result.Shared = "no"
	case shared:
		result.Shared = "yes"
	}
	for _, s := range scopes {
		countPurge(s)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(result)
}

// purgeTags returns the tags that the fields of a purge request name, and
// whether it has such fields. They are read as those of responses are.
func purgeTags(h http.Header) (tags []string, given bool) {
	for _, name := range defaultTags {
		for _, line := range h[name] {
			tags, given = splitTags(tags, line), true
		}
	}
	return tags, given
}

// softPurge reads the fields that make a purge soft.
func softPurge(h http.Header) (soft bool, err error) {
	for _, name := range []string{"Soft-Purge", "Fastly-Soft-Purge"} {
		for _, value := range h[name] {
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "1", "true":
				soft = true
			case "", "0", "false":
			default:
				return false, fmt.Errorf("%s %q: accepted are 1 and 0", name, value)
			}
		}
	}
	return soft, nil
}
