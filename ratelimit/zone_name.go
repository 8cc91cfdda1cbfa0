package ratelimit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/shared"
	"github.com/pythopus/tentagate/internal/site"
)

// store returns the name under which the counters of the handler are kept: that
// of its zone or, where the operator gave none, one of what the handler is. It is
// the same over reloads, on every gateway with the same configuration, and
// whatever else is written above or below.
func (h *Handler) store(ctx caddy.Context) string {
	if !h.Unnamed {
		return cmp.Or(h.Zone, defaultZone)
	}
	if name, ok := storeNames(ctx)[h.Zone]; ok {
		return name
	}
	return h.Zone
}

// latestNames are those of the app that is being provisioned.
var latestNames atomic.Pointer[appNames]

type appNames struct {
	app   weak.Pointer[caddyhttp.App]
	names map[string]string
}

// storeNames returns the names of all unnamed zones of a configuration, by what
// they are called.
func storeNames(ctx caddy.Context) map[string]string {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return nil
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return nil
	}
	if known := latestNames.Load(); known != nil && known.app.Value() == app {
		return known.names
	}
	names := nameAll(site.AllConfigured(ctx, directive))
	latestNames.Store(&appNames{weak.Make(app), names})
	return names
}

// unnamed is a directive without a zone. It has several places where its site has
// several listeners.
type unnamed struct{ label, text, limits, listen string }

func nameAll(found []site.Configured) map[string]string {
	all := make(map[string]*unnamed)
	for _, c := range found {
		label, _ := c.JSON["zone"].(string)
		if yes, _ := c.JSON["unnamed"].(bool); !yes || label == "" {
			continue
		}
		text, listen := c.Path+" "+textOf(c.JSON, identifying), strings.Join(c.Listen, " ")
		if u := all[label]; u == nil {
			all[label] = &unnamed{label, text, textOf(c.JSON, limiting), listen}
		} else {
			u.text, u.listen = min(u.text, text), min(u.listen, listen)
		}
	}
	labels := slices.SortedFunc(maps.Keys(all), byNumber)
	// A limit that is changed goes on with its counters, so limits tell directives
	// apart only where nothing else does.
	limits := make(map[string]string)
	several := make(map[string]bool)
	for _, label := range labels {
		u := all[label]
		if was, ok := limits[u.text]; ok && was != u.limits {
			several[u.text] = true
		}
		limits[u.text] = u.limits
	}
	alike := make(map[string][]*unnamed)
	for _, label := range labels {
		u := all[label]
		if several[u.text] {
			u.text += " " + u.limits
		}
		alike[u.text] = append(alike[u.text], u)
	}
	names := make(map[string]string)
	for _, group := range alike {
		seen := make(map[string]int)
		for _, u := range group {
			text := u.text
			if slices.ContainsFunc(group, func(other *unnamed) bool { return other.listen != u.listen }) {
				// Only their ports tell them apart. Without another like it, a site's port
				// does not matter: gateways on one machine differ by it.
				text += " " + u.listen
			}
			if seen[text]++; seen[text] > 1 {
				text += fmt.Sprintf(" #%d", seen[text])
			}
			sum := sha256.Sum256([]byte(text))
			names[u.label] = "unnamed." + hex.EncodeToString(sum[:12])
		}
	}
	return names
}

// byNumber sorts default, default-2, …, default-10 as they were written.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// What makes a directive what it is, and how much it lets through.
var (
	identifying = []string{"key", "missing_key", "algorithm", "ipv6_prefix", "cost", "count_status", "count_after"}
	limiting    = []string{"limits", "quotas", "tier"}
)

// textOf returns some options of a directive as text.
func textOf(options map[string]any, names []string) string {
	some := make(map[string]any)
	for _, name := range names {
		if v, ok := options[name]; ok {
			some[name] = v
		}
	}
	text, _ := json.Marshal(some) // it came from JSON
	return string(text)
}

// compare warns where another directive of the configuration counts in the same
// zone by other rules.
func (h *Handler) compare() {
	if h.Unnamed {
		return
	}
	var rules []string
	for _, t := range h.tiers {
		text := unlimited
		if t.plan != nil {
			text = t.plan.String()
		}
		rules = append(rules, t.name+" "+text)
	}
	slices.Sort(rules)
	rules = append(rules, h.Key...)
	rules = append(rules, fmt.Sprint(h.IPv6Prefix, h.zone.store(), h.MaxConcurrent))
	shared.Warn(h.ctx, "zone", h.Zone, strings.Join(rules, "\n"), h.Position,
		"give each a zone of its own, or the same key, limits, tiers and store")
}

// proxied reports whether exempt covers private addresses while the servers of
// the configuration trust no proxy.
func proxied(ctx caddy.Context, exempt []netip.Prefix) bool {
	modules := ctx.Modules()
	if len(modules) == 0 || !slices.ContainsFunc(exempt, func(p netip.Prefix) bool { return p.Addr().IsPrivate() }) {
		return false
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return false
	}
	for _, server := range app.Servers {
		if server.TrustedProxiesRaw != nil || server.TrustedProxiesUnix {
			return false
		}
		// Caddy forgets the JSON of what is loaded, and does not show the rest.
		if f := reflect.ValueOf(server).Elem().FieldByName("trustedProxies"); !f.IsValid() || f.Kind() != reflect.Interface || !f.IsNil() {
			return false
		}
	}
	return true
}
