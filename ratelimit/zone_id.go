package ratelimit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/site"
)

// zoneID identifies the counters of the handler: by the name of its zone or,
// where the operator gave none, by what the directive is. It is the same over
// reloads, on every gateway with the same configuration, and whatever else is
// written above or below.
func (h *Handler) zoneID(ctx caddy.Context) string {
	if !h.Unnamed {
		return cmp.Or(h.Zone, defaultZone)
	}
	return cmp.Or(unnamedIDs(ctx)[h.Zone], h.Zone)
}

// latestIDs caches the ids of the app that is being provisioned.
var latestIDs atomic.Pointer[appIDs]

type appIDs struct {
	app weak.Pointer[caddyhttp.App]
	ids map[string]string
}

// unnamedIDs returns the ids of all unnamed zones of a configuration, by their
// display names.
func unnamedIDs(ctx caddy.Context) map[string]string {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return nil
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return nil
	}
	if cached := latestIDs.Load(); cached != nil && cached.app.Value() == app {
		return cached.ids
	}
	ids := identify(unnamedDirectives(site.AllConfigured(ctx, directive)))
	latestIDs.Store(&appIDs{weak.Make(app), ids})
	return ids
}

// unnamed is a directive without a zone. It occurs once per listener of its site.
type unnamed struct{ name, text, limits, listen string }

// The options by which a directive without a zone is identified, and those that
// distinguish directives that have all this in common.
var (
	identifying = []string{"key", "missing_key", "algorithm", "ipv6_prefix", "cost", "count_status", "count_after"}
	limiting    = []string{"limits", "quotas", "tier"}
)

// unnamedDirectives returns the directives without a zone in the order in which
// they are written.
func unnamedDirectives(configured []site.Configured) []*unnamed {
	all := make(map[string]*unnamed)
	for _, c := range configured {
		name, _ := c.JSON["zone"].(string)
		if yes, _ := c.JSON["unnamed"].(bool); !yes || name == "" {
			continue
		}
		text, listen := c.Path+" "+optionsText(c.JSON, identifying), strings.Join(c.Listen, " ")
		if u := all[name]; u == nil {
			all[name] = &unnamed{name, text, optionsText(c.JSON, limiting), listen}
		} else {
			u.text, u.listen = min(u.text, text), min(u.listen, listen)
		}
	}
	// default, default-2, …, default-10
	return slices.SortedFunc(maps.Values(all), func(a, b *unnamed) int {
		return cmp.Or(cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
}

// optionsText returns some options of a directive as text.
func optionsText(options map[string]any, names []string) string {
	some := make(map[string]any)
	for _, name := range names {
		if v, ok := options[name]; ok {
			some[name] = v
		}
	}
	text, _ := json.Marshal(some) // it came from JSON
	return string(text)
}

// identify returns the ids of directives by their names.
func identify(directives []*unnamed) map[string]string {
	// A changed limit keeps its counters, so limits distinguish directives only if
	// nothing else does.
	limits := make(map[string]string)
	ambiguous := make(map[string]bool)
	for _, u := range directives {
		if first, ok := limits[u.text]; ok && first != u.limits {
			ambiguous[u.text] = true
		}
		limits[u.text] = u.limits
	}
	alike := make(map[string][]*unnamed)
	for _, u := range directives {
		if ambiguous[u.text] {
			u.text += " " + u.limits
		}
		alike[u.text] = append(alike[u.text], u)
	}
	ids := make(map[string]string)
	for _, group := range alike {
		seen := make(map[string]int)
		for _, u := range group {
			text := u.text
			if slices.ContainsFunc(group, func(other *unnamed) bool { return other.listen != u.listen }) {
				// Only their listeners distinguish them. Otherwise these are ignored:
				// gateways on one machine differ by their port.
				text += " " + u.listen
			}
			if seen[text]++; seen[text] > 1 {
				text += fmt.Sprintf(" #%d", seen[text])
			}
			sum := sha256.Sum256([]byte(text))
			ids[u.name] = "unnamed." + hex.EncodeToString(sum[:12])
		}
	}
	return ids
}
