package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

func init() {
	key := map[string]string{"key": "The key, as an alternative to the path"}
	fails := map[int]string{
		http.StatusBadRequest: "The request is malformed", http.StatusNotFound: "There is no such zone, or the key has used nothing",
		http.StatusServiceUnavailable: "Redis is unavailable",
	}
	admin.RegisterStatus("limits", listZones, printZones)
	admin.RegisterAPI("ratelimit", admin.Endpoint{Pattern: adminPath, Serve: serveAdmin, Operations: []admin.Operation{
		{Method: http.MethodGet, Summary: "The zones", Answer: []zoneState{}},
		{Method: http.MethodGet, Path: adminPath + "{zone}", Summary: "The top keys of a zone", Answer: []zoneTopKeys{}, Fails: fails},
		{Method: http.MethodGet, Path: adminPath + "{zone}/{key}", Summary: "What a key has left", Query: key, Answer: []keyState{}, Fails: fails},
		{Method: http.MethodDelete, Path: adminPath + "{zone}/{key}", Summary: "Clears what a key has used", Query: key, Fails: fails},
	}})
}

// adminPath is the endpoint of the admin API.
const adminPath = "/tentagate/ratelimit/"

// adminTimeout is how long an admin request waits for Redis.
const adminTimeout = 2 * time.Second

// serveAdmin shows and resets limits:
//
//	GET    /tentagate/ratelimit/              the zones
//	GET    /tentagate/ratelimit/{zone}        its top keys
//	GET    /tentagate/ratelimit/{zone}/{key}  what is left of a key
//	DELETE /tentagate/ratelimit/{zone}/{key}  reset a key
//
// The key may also be given as the query parameter `key`.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), adminPath)
	name, escaped, hasKey := strings.Cut(rest, "/")
	key, err := url.PathUnescape(escaped)
	if err != nil {
		return admin.Error(http.StatusBadRequest, fmt.Errorf("key: %w", err))
	}
	if q := r.URL.Query(); q.Has("key") {
		// Caddy cleans paths, which changes keys with `//` and `..` in them.
		key, hasKey = q.Get("key"), true
	}
	hasKey = hasKey && key != ""
	switch {
	case r.Method == http.MethodDelete && !hasKey:
		return admin.Error(http.StatusBadRequest, errors.New("a key is needed: DELETE "+adminPath+"{zone}/{key}"))
	case name == "" && r.Method == http.MethodDelete:
		return admin.Error(http.StatusBadRequest, errors.New("a zone is needed: DELETE "+adminPath+"{zone}/{key}"))
	case name == "":
		return admin.JSON(w, listZones())
	}
	found := zonesNamed(name)
	if len(found) == 0 {
		return admin.Error(http.StatusNotFound, admin.ErrUnknown("zone", name, zoneNames()))
	}
	if !hasKey {
		return admin.JSON(w, topKeysOf(found))
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	if r.Method == http.MethodDelete {
		return resetKey(ctx, w, found, key)
	}
	var states []keyState
	for _, z := range found {
		state, err := z.state(key)
		if err != nil {
			return admin.Error(http.StatusServiceUnavailable, fmt.Errorf("zone %s: Redis is unavailable, so that it is not known what is left: %w", name, err))
		}
		states = append(states, state)
	}
	return admin.JSON(w, states)
}

// zoneState describes a zone.
type zoneState struct {
	Zone   string   `json:"zone"`
	Store  string   `json:"store"`
	Limits []string `json:"limits"`
}

// keyState is what is left of a key.
type keyState struct {
	Zone  string      `json:"zone"`
	Store string      `json:"store"`
	Key   string      `json:"key"`
	Tiers []tierState `json:"tiers"`
}

type tierState struct {
	Tier   string       `json:"tier"`
	Limits []limitState `json:"limits"`
}

type limitState struct {
	Policy    string `json:"policy"`
	Limit     string `json:"limit"`
	Remaining int64  `json:"remaining"`
	// Reset is the number of seconds until more units are available.
	Reset float64 `json:"reset"`
	// TAT is when all units are available, the theoretical arrival time.
	TAT *time.Time `json:"tat,omitempty"`
}

func zonesNamed(name string) (found []*zone) {
	eachZone(func(z *zone) {
		if z.displayName() == name {
			found = append(found, z)
		}
	})
	slices.SortFunc(found, func(a, b *zone) int { return strings.Compare(a.store(), b.store()) })
	return found
}

func (z *zone) store() string {
	if z.redis != nil {
		return storeRedis
	}
	return storeMemory
}

// zoneNames returns what the zones are called.
func zoneNames() (names []string) {
	eachZone(func(z *zone) { names = append(names, z.displayName()) })
	slices.Sort(names)
	return slices.Compact(names)
}

func listZones() []zoneState {
	list := []zoneState{}
	eachZone(func(z *zone) {
		list = append(list, zoneState{Zone: z.displayName(), Store: z.store(), Limits: z.rules()})
	})
	slices.SortFunc(list, func(a, b zoneState) int { return strings.Compare(a.Zone+"\x00"+a.Store, b.Zone+"\x00"+b.Store) })
	return list
}

// rules returns the limits of all handlers of the zone, each once: the tier, the
// limit, and which responses it counts unless it counts requests.
func (z *zone) rules() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	rules := []string{}
	for h := range z.handlers {
		counted := ""
		if len(h.CountStatus) > 0 {
			counted = " (responses " + strings.Join(h.CountStatus, " ") + ")"
		}
		for _, t := range h.tiers {
			if t.plan != nil {
				rules = append(rules, t.name+" "+t.plan.String()+counted)
			}
		}
		if h.MaxConcurrent > 0 {
			rules = append(rules, fmt.Sprintf("max_concurrent %d", h.MaxConcurrent))
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// zoneTopKeys are the keys of a zone that use the most units.
type zoneTopKeys struct {
	Zone  string   `json:"zone"`
	Store string   `json:"store"`
	Keys  []topKey `json:"hottest"`
}

func topKeysOf(found []*zone) []zoneTopKeys {
	var list []zoneTopKeys
	for _, z := range found {
		list = append(list, zoneTopKeys{z.displayName(), z.store(), append([]topKey{}, z.topKeys.list()...)})
	}
	return list
}

// tiers returns the tiers of all handlers of the zone, each text once.
func (z *zone) tiers() []*tier {
	z.mu.Lock()
	defer z.mu.Unlock()
	seen := make(map[string]bool)
	var tiers []*tier
	for h := range z.handlers {
		for _, t := range h.tiers {
			if t.plan == nil || seen[t.name+" "+t.plan.String()] {
				continue
			}
			seen[t.name+" "+t.plan.String()] = true
			tiers = append(tiers, t)
		}
	}
	slices.SortFunc(tiers, func(a, b *tier) int { return strings.Compare(a.name+a.plan.String(), b.name+b.plan.String()) })
	return tiers
}

// normalise makes the key that handlers of the zone would make of an address.
func (z *zone) normalise(key string) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	for h := range z.handlers {
		if len(h.key.parts) == 1 && h.key.parts[0].address {
			return maskAddress(key, h.IPv6Prefix)
		}
	}
	return key
}

// state asks what is left of a key, and takes nothing.
func (z *zone) state(key string) (keyState, error) {
	key = z.normalise(key)
	s := keyState{Zone: z.displayName(), Store: z.store(), Key: key, Tiers: []tierState{}}
	for _, t := range z.tiers() {
		var d gcra.Decision
		if z.redis == nil {
			z.memory.Peek(key, t.plan, 0, &d)
		} else {
			call := redisstore.Call{Zone: z.redis, Key: key, Plan: t.plan, Budget: adminTimeout, Decision: &d}
			if err := call.Peek(); err != nil {
				return s, err
			}
		}
		ts := tierState{Tier: t.name}
		for i := range d.Len {
			m := d.Meters[i]
			l := limitState{Policy: t.names[i], Remaining: m.Remaining, Reset: time.Duration(m.Reset).Seconds()}
			_, l.Limit = t.plan.Text(i)
			if limits := t.plan.Limits(); i < len(limits) && t.plan.Algorithm() == gcra.Rate {
				at := time.Now().UTC()
				if m.Reset > 0 {
					p := limits[i].Policy()
					at = at.Add(time.Duration(m.Reset + p.Tau - (m.Remaining+1)*p.T))
				}
				l.TAT = &at
			}
			ts.Limits = append(ts.Limits, l)
		}
		s.Tiers = append(s.Tiers, ts)
	}
	return s, nil
}

// resetKey clears what the key has used in the zones of a name. Redis is asked first, so
// that nothing has been cleared if it cannot be.
func resetKey(ctx context.Context, w http.ResponseWriter, found []*zone, key string) error {
	existed := false
	for _, z := range found {
		if z.redis == nil {
			continue
		}
		var plans []*gcra.Plan
		for _, t := range z.tiers() {
			plans = append(plans, t.plan)
		}
		had, err := z.redis.Reset(ctx, z.normalise(key), plans)
		if err != nil {
			return admin.Error(http.StatusServiceUnavailable, fmt.Errorf("zone %s: Redis is unavailable, so that nothing was cleared; retry when it is available: %w", z.displayName(), err))
		}
		existed = existed || had
	}
	for _, z := range found {
		key := z.normalise(key)
		z.topKeys.remove(key)
		existed = z.redis == nil && z.memory.Reset(key) || existed
	}
	if !existed {
		return admin.Error(http.StatusNotFound, fmt.Errorf("key %q has no usage in zone %q", key, found[0].displayName()))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
