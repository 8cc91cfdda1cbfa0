package jwtauth

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/running"
	"github.com/pythopus/tentagate/jwtauth/internal/deny"
)

// maxRevocation is the longest time that a revocation may last.
const maxRevocation = deny.MaxTTL

// DenyList refuses tokens that were revoked by the admin API. Gateways with one
// Redis and key prefix share what is revoked.
type DenyList struct {
	// The most revocations at one time. All handlers share one list, and the largest
	// of their numbers counts. Default: 100000.
	MaxEntries int `json:"max_entries,omitempty"`

	// How long a revocation lasts that has no TTL of its own; longer than tokens live.
	// At most 366 days; the longest of the handlers counts. Default: 24h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// What happens if Redis has not answered for 10 seconds, or not yet at all:
	// `allow` uses the known revocations, `deny` answers requests with a token with
	// 503. Default: allow.
	OnStoreError string `json:"on_store_error,omitempty"`
}

// denyLists are the lists by Redis and key prefix; they survive a reload. A list
// is closed before the connection that it uses.
var denyLists = pool.New(func(l sharedList) error {
	l.Close()
	l.release()
	return nil
})

var errRevoked = errors.New("the token was revoked")

// storeErrors are the values of on_store_error.
var storeErrors = parse.OneOf("allow", "deny")

func (o *DenyList) validate() error {
	return cmp.Or(
		parse.Choice("on_store_error", cmp.Or(o.OnStoreError, "allow"), storeErrors),
		parse.Between("max_entries", cmp.Or(o.MaxEntries, 1), 1, 10_000_000),
		parse.Between("ttl", cmp.Or(time.Duration(o.TTL), time.Second), time.Second, maxRevocation),
	)
}

// sharedList is a list with the Redis connection that feeds it.
type sharedList struct {
	*deny.Store
	release func()
}

func (h *Handler) provisionDenyList(a *app.App) error {
	o := h.DenyList
	if o == nil {
		return nil
	}
	if err := o.validate(); err != nil {
		return fmt.Errorf("deny_list: %w", err)
	}
	name := "memory"
	if rd := a.Redis(); rd != nil {
		name = "redis " + rd.Key() + " " + a.KeyPrefix()
	}
	ref, err := denyLists.Acquire(name, func() (sharedList, error) {
		options := deny.Options{Prefix: a.KeyPrefix(), Observe: observeDenyList}
		release := func() {}
		if rd := a.Redis(); rd != nil {
			options.Redis, options.Availability, release = rd.Background(), rd.Availability(), rd.Retain()
		}
		return sharedList{deny.New(options), release}, nil
	})
	if err != nil {
		return err
	}
	h.denied, h.deniedRef = ref.Value.Store, ref
	h.denied.Raise(cmp.Or(o.MaxEntries, deny.DefaultEntries), cmp.Or(time.Duration(o.TTL), deny.DefaultTTL))
	a.OnStart(h.denied.Start)
	return nil
}

// observeDenyList logs outages of Redis. The list may outlive the configuration that
// it was created for, and so does not use its logger.
func observeDenyList(err error) {
	log := running.Logger("http.handlers.jwt_auth")
	if err == nil {
		log.Info("Redis reachable again; revocations are up to date")
		return
	}
	log.Warn("Redis unreachable; the known revocations stay in effect", zap.Error(err))
}

// revoked checks a verified token against the deny list: at each request, also if
// the token was cached.
func (h *Handler) revoked(w http.ResponseWriter, r *http.Request, p *Provider, v *verified) error {
	now := h.now()
	if h.DenyList.OnStoreError == "deny" && !h.denied.Fresh(h.denied.Now()) {
		decided(r, p.name, reasonNoDenyList)
		setReason(r, reasonNoDenyList)
		w.Header().Set("Retry-After", "5")
		w.Header().Set("Cache-Control", "no-store")
		return problem.Error(problem.New(http.StatusServiceUnavailable, "token revocations are temporarily unavailable"))
	}
	if h.denied.Len() == 0 {
		return nil
	}
	ids := v.ids.Load()
	if ids == nil {
		ids = deny.IDsOf(p.name, v.claims.Text("iss"), v.claims.Name("jti"), v.claims.Name("sub"))
		v.ids.Store(ids)
	}
	if h.denied.Revoked(ids, v.claims.Issued(), now) {
		return h.refuse(w, r, p.name, reasonRevoked, errRevoked)
	}
	return nil
}
