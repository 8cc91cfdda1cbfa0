package ratelimit

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// The fields of draft-ietf-httpapi-ratelimit-headers-10, and the older ones
// that many clients read.
const (
	fieldRateLimit = "Ratelimit"
	fieldPolicy    = "Ratelimit-Policy"
	fieldRetry     = "Retry-After"

	fieldOldLimit     = "X-Ratelimit-Limit"
	fieldOldRemaining = "X-Ratelimit-Remaining"
	fieldOldReset     = "X-Ratelimit-Reset"
)

// seconds rounds up to whole seconds: whoever waits that long does not come
// too early.
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

// policyField renders RateLimit-Policy (§3 of the draft) for a plan. It does
// not change from one request to the next.
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
			// w is whole seconds above zero; a shorter or broken period is left out
			// rather than told wrongly.
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

// addField appends to a list field, which other zones of the same request may
// have begun.
func addField(h http.Header, name, value string) {
	if value == "" {
		return
	}
	if have := h[name]; len(have) > 0 {
		value = have[0] + ", " + value
	}
	h[name] = []string{value}
}

// nearest returns the meter that is nearest to its end.
func nearest(d *gcra.Decision) (least int) {
	for i := range d.Len {
		if d.Meters[i].Remaining < d.Meters[least].Remaining {
			least = i
		}
	}
	return least
}

// writeFields tells the client how much it has left.
func (h *Handler) writeFields(header http.Header, c *check) {
	d := &c.decision
	if h.Headers == headersOff || d.Len == 0 {
		return
	}
	if h.Headers != headersLegacy {
		var buf [128]byte
		addField(header, fieldPolicy, c.tier.field)
		addField(header, fieldRateLimit, string(appendLimits(buf[:0], c.tier.names, d)))
	}
	if h.Headers == headersLegacy || h.Headers == headersBoth {
		// They have room for one limit: the one that is nearest to its end.
		least := nearest(d)
		if old := header[fieldOldRemaining]; len(old) > 0 {
			if have, err := strconv.ParseInt(old[0], 10, 64); err == nil && have <= d.Meters[least].Remaining {
				return
			}
		}
		header[fieldOldLimit] = []string{strconv.FormatInt(c.tier.plan.Capacity(least), 10)}
		header[fieldOldRemaining] = []string{strconv.FormatInt(d.Meters[least].Remaining, 10)}
		header[fieldOldReset] = []string{strconv.FormatInt(seconds(d.Meters[least].Reset), 10)}
	}
}

// rewriteFields corrects what writeFields told, for a request that turned out
// not to count: its units are there again.
func (h *Handler) rewriteFields(header http.Header, c *check) {
	d := &c.decision
	if h.Headers == headersOff || h.Shadow || d.Len == 0 {
		return
	}
	told := *d
	for i := range d.Len {
		m := &d.Meters[i]
		if m.Remaining = min(m.Remaining+c.cost, c.tier.plan.Capacity(i)); m.Remaining == c.tier.plan.Capacity(i) {
			m.Reset = 0
		}
	}
	if have := header[fieldRateLimit]; len(have) > 0 && h.Headers != headersLegacy {
		from, to := string(appendLimits(nil, c.tier.names, &told)), string(appendLimits(nil, c.tier.names, d))
		header[fieldRateLimit] = []string{strings.Replace(have[0], from, to, 1)}
	}
	if have := header[fieldOldRemaining]; len(have) > 0 && (h.Headers == headersLegacy || h.Headers == headersBoth) {
		least := nearest(&told)
		if have[0] == strconv.FormatInt(told.Meters[least].Remaining, 10) {
			header[fieldOldRemaining] = []string{strconv.FormatInt(d.Meters[least].Remaining, 10)}
			header[fieldOldReset] = []string{strconv.FormatInt(seconds(d.Meters[least].Reset), 10)}
		}
	}
}
