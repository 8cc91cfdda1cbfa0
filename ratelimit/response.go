package ratelimit

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Problem types of refusals, from the registry of HTTP problem types that
// draft-ietf-httpapi-ratelimit-headers-10 §7 adds to.
const (
	typeQuotaExceeded   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeReducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// The fields of draft-ietf-httpapi-ratelimit-headers-10, and the legacy ones that
// many clients read.
const (
	fieldRateLimit = "Ratelimit"
	fieldPolicy    = "Ratelimit-Policy"
	fieldRetry     = "Retry-After"

	fieldLegacyLimit     = "X-Ratelimit-Limit"
	fieldLegacyRemaining = "X-Ratelimit-Remaining"
	fieldLegacyReset     = "X-Ratelimit-Reset"
)

// seconds rounds up to whole seconds, so that a client that waits that long is
// not too early.
func seconds(ns int64) int64 {
	if ns <= 0 {
		return 0
	}
	return (ns-1)/int64(time.Second) + 1
}

// policyNames returns the name of each meter of a zone's plan: the zone where
// there is only one, else the zone and the period.
func policyNames(zone string, plan *gcra.Plan) []string {
	names := make([]string, plan.Len())
	for i := range names {
		names[i] = zone
		if plan.Len() > 1 {
			names[i] += "-" + plan.Name(i)
		}
	}
	return names
}

// policyField renders RateLimit-Policy (§3 of the draft) for a plan. It is the
// same for every request.
func policyField(names []string, plan *gcra.Plan) string {
	var b []byte
	for i, name := range names {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, name)
		if i < len(plan.Limits()) {
			l := plan.Limits()[i]
			b = append(b, ";q="...)
			b = strconv.AppendInt(b, l.Count, 10)
			// w is a whole number of seconds above zero; any other period is left out.
			if l.Period%time.Second == 0 {
				b = append(b, ";w="...)
				b = strconv.AppendInt(b, int64(l.Period/time.Second), 10)
			}
			if l.Burst != l.Count {
				b = append(b, ";tg-burst="...)
				b = strconv.AppendInt(b, l.Burst, 10)
			}
			continue
		}
		q := plan.Quotas()[i-len(plan.Limits())]
		b = append(b, ";q="...)
		b = strconv.AppendInt(b, q.Count, 10)
		if q.Unit != gcra.Month && q.Unit != gcra.Year {
			b = append(b, ";w="...)
			b = strconv.AppendInt(b, int64(q.Unit.Length()/time.Second), 10)
		}
	}
	return string(b)
}

// appendLimits renders RateLimit (§4 of the draft) for a decision.
func appendLimits(b []byte, names []string, d *gcra.Decision) []byte {
	for i, name := range names[:d.Len] {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, name)
		b = append(b, ";r="...)
		b = strconv.AppendInt(b, d.Meters[i].Remaining, 10)
		b = append(b, ";t="...)
		b = strconv.AppendInt(b, seconds(d.Meters[i].Reset), 10)
	}
	return b
}

// appendString renders a String of RFC 9651 §3.3.3. Zone names have no
// characters outside of it.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range []byte(s) {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		if c >= 0x20 && c < 0x7f {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// nearest returns the meter with the fewest units remaining.
func nearest(d *gcra.Decision) (least int) {
	for i := range d.Len {
		if d.Meters[i].Remaining < d.Meters[least].Remaining {
			least = i
		}
	}
	return least
}

// writeFields sets the fields that say what remains.
func (c *check) writeFields(header http.Header) {
	h, d := c.handler, &c.decision
	if h.Headers == headersOff || d.Len == 0 {
		return
	}
	if h.Headers != headersLegacy {
		var buf [128]byte
		addField(header, fieldPolicy, c.tier.field, &c.fields[0])
		addField(header, fieldRateLimit, string(appendLimits(buf[:0], c.tier.names, d)), &c.fields[1])
	}
	if h.Headers == headersLegacy || h.Headers == headersBoth {
		// They have room for one limit: the one with the fewest units remaining.
		least := nearest(d)
		if old := header[fieldLegacyRemaining]; len(old) > 0 {
			if have, err := strconv.ParseInt(old[0], 10, 64); err == nil && have <= d.Meters[least].Remaining {
				return
			}
		}
		header[fieldLegacyLimit] = []string{strconv.FormatInt(c.tier.plan.Capacity(least), 10)}
		header[fieldLegacyRemaining] = []string{strconv.FormatInt(d.Meters[least].Remaining, 10)}
		header[fieldLegacyReset] = []string{strconv.FormatInt(seconds(d.Meters[least].Reset), 10)}
	}
}

// addField appends to a list field, which other zones of the same request may
// have begun. The slot holds the value.
func addField(header http.Header, name, value string, slot *[1]string) {
	if have := header[name]; len(have) > 0 {
		value = have[0] + ", " + value
	}
	slot[0] = value
	header[name] = slot[:]
}

// rewriteFields corrects what writeFields wrote, for a request that turned out
// not to count: its units were given back.
func (c *check) rewriteFields(header http.Header) {
	h, d := c.handler, &c.decision
	if h.Headers == headersOff || h.Shadow || d.Len == 0 {
		return
	}
	before := *d
	for i := range d.Len {
		m := &d.Meters[i]
		if m.Remaining = min(m.Remaining+c.cost, c.tier.plan.Capacity(i)); m.Remaining == c.tier.plan.Capacity(i) {
			m.Reset = 0
		}
	}
	if have := header[fieldRateLimit]; len(have) > 0 && h.Headers != headersLegacy {
		from, to := string(appendLimits(nil, c.tier.names, &before)), string(appendLimits(nil, c.tier.names, d))
		header[fieldRateLimit] = []string{strings.Replace(have[0], from, to, 1)}
	}
	if have := header[fieldLegacyRemaining]; len(have) > 0 && (h.Headers == headersLegacy || h.Headers == headersBoth) {
		least := nearest(&before)
		if have[0] == strconv.FormatInt(before.Meters[least].Remaining, 10) {
			header[fieldLegacyRemaining] = []string{strconv.FormatInt(d.Meters[least].Remaining, 10)}
			header[fieldLegacyReset] = []string{strconv.FormatInt(seconds(d.Meters[least].Reset), 10)}
		}
	}
}

// refuse answers a request that the check refused. Fields are sent for every
// zone of the group that was decided with it.
func (c *check) refuse(w http.ResponseWriter, group []*check) error {
	header := w.Header()
	switch {
	case c.decision.Source == gcra.Unavailable:
		header.Set(fieldRetry, "1")
		return problem.Error(&problem.Problem{
			Type:   typeReducedCapacity,
			Title:  "Temporary Reduced Capacity",
			Status: http.StatusServiceUnavailable,
			Detail: "the rate limiter is unavailable; try again later",
		})
	case c.tier == nil:
		// There is nothing to wait for.
		return problem.Error(problem.New(http.StatusBadRequest, "the request has no rate-limit key"))
	}
	var violated []string
	wait := int64(0)
	for _, c := range group {
		if c.handler.Shadow {
			continue
		}
		c.writeFields(header)
		wait = max(wait, c.decision.Wait)
		for i, m := range c.decision.Meters[:c.decision.Len] {
			if m.Over {
				violated = append(violated, c.tier.names[i])
			}
		}
	}
	if wait == gcra.Never {
		return quotaExceeded("the request costs more than the limit ever allows", violated)
	}
	retry := max(1, seconds(wait))
	header.Set(fieldRetry, strconv.FormatInt(retry, 10))
	return quotaExceeded(fmt.Sprintf("too many requests; try again in %d s", retry), violated)
}

// refuseDelay answers a request that finds the delay queue full. It would have
// waited for the limits of which nothing remains.
func (c *check) refuseDelay(w http.ResponseWriter) error {
	var violated []string
	for i, m := range c.decision.Meters[:c.decision.Len] {
		if m.Remaining == 0 {
			violated = append(violated, c.tier.names[i])
		}
	}
	w.Header().Set(fieldRetry, strconv.FormatInt(max(1, seconds(c.decision.Delay)), 10))
	return quotaExceeded("too many requests are delayed already; try again later", violated)
}

// refuseConcurrency answers a request of a key that has max_concurrent requests
// in progress.
func (h *Handler) refuseConcurrency(w http.ResponseWriter) error {
	name := h.Zone + "-concurrent"
	if h.Headers != headersOff && h.Headers != headersLegacy {
		quoted := string(appendString(nil, name))
		addField(w.Header(), fieldPolicy, quoted+";q="+strconv.Itoa(h.MaxConcurrent)+`;qu="concurrent-requests"`, new([1]string))
		addField(w.Header(), fieldRateLimit, quoted+";r=0;t=1", new([1]string))
	}
	w.Header().Set(fieldRetry, "1") // when a slot becomes free is unknown
	return quotaExceeded("too many concurrent requests", []string{name})
}

// quotaExceeded is a 429 that names the policies that were violated.
func quotaExceeded(detail string, violated []string) error {
	p := &problem.Problem{Type: typeQuotaExceeded, Title: "Quota Exceeded", Status: http.StatusTooManyRequests, Detail: detail}
	if len(violated) > 0 {
		p.Ext = map[string]any{"violated-policies": violated}
	}
	return problem.Error(p)
}
