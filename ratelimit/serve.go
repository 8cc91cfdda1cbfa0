package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Problem types of refusals, from the registry of HTTP problem types that
// draft-ietf-httpapi-ratelimit-headers-10 §7 adds to.
const (
	typeQuotaExceeded   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeReducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// Outcomes of a request as placeholders and metrics name them.
const (
	outcomeAllowed     = "allowed"
	outcomeLimited     = "limited"
	outcomeDelayed     = "delayed"
	outcomeUnavailable = "unavailable"
	outcomeExempt      = "exempt"
	outcomeShadow      = "shadow_limited"
	outcomeConcurrency = "concurrency_limited"
)

// statusClientClosed is what Caddy uses for a client that went away.
const statusClientClosed = 499

// check is one handler's part in one request.
type check struct {
	h        *Handler
	chain    *chain
	tier     *tier
	key      string
	cost     int64
	decision gcra.Decision
	decided  time.Time
	outcome  string
	// counted is true while the units are taken.
	counted bool
}

// prepare finds out what to ask of the handler's zone. A check whose cost is 0
// or whose tier has no plan asks nothing.
func (h *Handler) prepare(r *http.Request) *check {
	c := &check{h: h, outcome: outcomeExempt}
	if h.exempted(r) {
		return c
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	var ok bool
	if c.key, ok = h.key.render(r, repl, h.IPv6Prefix); !ok {
		switch h.MissingKey {
		case missingSkip:
			return c
		case missingReject:
			c.outcome = outcomeLimited
			c.decision.Wait = gcra.Never
			return c
		}
		c.key = anonymous(r, h.IPv6Prefix)
	}
	c.tier = h.tierOf(repl)
	c.cost = h.costOf(repl)
	if c.cost > 0 {
		c.outcome = outcomeAllowed
	}
	return c
}

// asks reports whether the check needs a decision of its zone.
func (c *check) asks() bool {
	return c.tier != nil && c.tier.plan != nil && c.cost > 0
}

func (h *Handler) exempted(r *http.Request) bool {
	if len(h.exempt) == 0 {
		return false
	}
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, prefix := range h.exempt {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

func (h *Handler) tierOf(repl *caddy.Replacer) *tier {
	if h.Tier != nil {
		if v, ok := repl.GetString(h.tierName); ok {
			if t, ok := h.tiers[v]; ok {
				return t
			}
		}
	}
	return h.tiers[anyTier]
}

func (h *Handler) costOf(repl *caddy.Replacer) int64 {
	if h.costName == "" {
		return h.cost
	}
	text, _ := repl.GetString(h.costName)
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return 1
	}
	return min(n, gcra.MaxCost)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	ch := chainOf(r)
	c := ch.take(h)
	if c == nil {
		if ch.done(h) {
			// The chain runs again for the same request, as in an error route: it was
			// counted.
			return next.ServeHTTP(w, r)
		}
		if refused := ch.decide(r, h); refused != nil {
			// Handlers in front, error routes and the access log may ask why.
			for _, c := range ch.latest() {
				placeholders.Provide(r, c.placeholder)
			}
			return h.refuse(w, refused, ch.latest())
		}
		c = ch.take(h)
	}
	placeholders.Provide(r, c.placeholder)

	if h.MaxConcurrent > 0 && c.tier != nil {
		release, ok := h.zone.concurrency.acquire(c.key, h.concurrencyShare())
		switch {
		case ok:
			defer release()
		case h.Shadow:
			h.metrics.count(outcomeShadow)
		default:
			c.outcome = outcomeConcurrency
			h.metrics.count(outcomeConcurrency)
			ch.refund()
			return h.refuseConcurrency(w)
		}
	}
	if !h.Shadow && !h.CountAfter {
		h.writeFields(w.Header(), c)
	}
	if c.decision.Delay > 0 && !h.Shadow {
		if err := c.hold(r, ch); err != nil {
			if p := c.tooManyHeld(err); p != nil {
				w.Header().Set(fieldRetry, strconv.FormatInt(max(1, seconds(c.decision.Delay)), 10))
				return problem.Error(p)
			}
			return err
		}
	}
	if len(h.CountStatus) > 0 && (c.counted || h.CountAfter && c.asks()) {
		return c.countByStatus(w, r, next)
	}
	return next.ServeHTTP(w, r)
}

// refuse answers for a request that a check of the chain refused. Fields are
// sent for every zone that took part in the decision.
func (h *Handler) refuse(w http.ResponseWriter, refused *check, checks []*check) error {
	if refused.decision.Source == gcra.Unavailable {
		w.Header().Set(fieldRetry, "1")
		return problem.Error(&problem.Problem{
			Type:   typeReducedCapacity,
			Title:  "Temporary Reduced Capacity",
			Status: http.StatusServiceUnavailable,
			Detail: "requests cannot be counted at the moment; try again later",
		})
	}
	if refused.tier == nil {
		// Nothing that a client could wait for.
		return problem.Error(problem.New(http.StatusBadRequest, "the request has nothing by which it could be counted"))
	}
	var violated []string
	wait := int64(0)
	for _, c := range checks {
		d := &c.decision
		if c.h.Shadow {
			continue
		}
		c.h.writeFields(w.Header(), c)
		if d.Wait == 0 {
			continue
		}
		wait = max(wait, d.Wait)
		for i := range d.Len {
			if d.Meters[i].Over {
				violated = append(violated, c.tier.names[i])
			}
		}
	}
	p := &problem.Problem{
		Type:   typeQuotaExceeded,
		Title:  "Quota Exceeded",
		Status: http.StatusTooManyRequests,
		Detail: "the request costs more than the limit ever allows at once",
	}
	if wait != gcra.Never {
		retry := max(1, seconds(wait))
		w.Header().Set(fieldRetry, strconv.FormatInt(retry, 10))
		p.Detail = fmt.Sprintf("too many requests; try again in %d s", retry)
	}
	if len(violated) > 0 {
		p.Ext = map[string]any{"violated-policies": violated}
	}
	return problem.Error(p)
}

// placeholder provides {http.ratelimit.<zone>.*}.
func (c *check) placeholder(name string) (any, bool) {
	rest, ok := strings.CutPrefix(name, "http.ratelimit.")
	if !ok {
		return nil, false
	}
	if rest, ok = strings.CutPrefix(rest, c.h.Zone); !ok || rest == "" || rest[0] != '.' {
		return nil, false
	}
	d := &c.decision
	switch rest[1:] {
	case "outcome":
		return c.outcome, true
	case "tier":
		if c.tier == nil {
			return "", true
		}
		return c.tier.name, true
	case "remaining", "reset":
		if d.Len == 0 {
			return "", true
		}
		least := nearest(d)
		if rest[1:] == "remaining" {
			return d.Meters[least].Remaining, true
		}
		return seconds(d.Meters[least].Reset), true
	}
	return nil, false
}
