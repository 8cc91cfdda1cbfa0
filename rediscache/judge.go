package rediscache

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// decide judges whether the response may be stored and who of those who wait
// may have it.
func (c *fill) decide() {
	x, h := c.x, c.x.h
	reason := c.judge()
	if reason != rfc9111.Stored {
		notStored.WithLabelValues(string(reason)).Inc()
		c.f.arrive(func() {})
		c.rememberPass(false)
		c.settleWorth(false)
		return
	}
	c.head = c.newObject(c.fields, c.status, &c.verdict)
	if c.status == http.StatusPartialContent {
		c.head.Variant = partVariant(c.head.Vary, x.r.Header, x.r.Header.Get("Range"))
		c.key = partKey(c.key)
	}
	length := int64(-1)
	if v, ok := contentLength(c.fields); ok {
		length, c.sized = v, true
	}
	stream := newStream(h.MaxObjectSize, length, h.tiers.room.share())
	stream.unread = c.unread
	c.mu.Lock() // the end of the client's request looks at it
	c.stream = stream
	c.mu.Unlock()
	if c.f != nil {
		if reusable(&c.verdict) && c.status != http.StatusPartialContent && (len(c.fields["Set-Cookie"]) == 0 || h.SetCookie == cookieStrip) {
			notShared.forget(c.f.key)
			c.head.SetPrepared(h.newPrepared(c.head, false))
			c.f.arrive(func() {
				x.arrived(c.f, arrivedStream, c.head, c.key)
				c.f.stream = c.stream
				if length >= 0 && len(c.fields["Trailer"]) == 0 {
					c.f.length = formatInt(length)
				}
			})
			if c.verdict.Shared != rfc9111.Stored {
				c.rememberPass(true)
			}
		} else {
			c.f.arrive(func() {})
			c.rememberPass(false)
		}
	}
	if c.f == nil {
		c.renewPass()
	}
	c.settleWorth(true)
}

// judge returns why the response is not stored.
func (c *fill) judge() rfc9111.Reason {
	x, h := c.x, c.x.h
	c.verdict = h.policy.Judge(&rfc9111.Exchange{
		Method: x.method(), Authorized: x.t.authorized, Personal: x.t.personal, Range: len(c.out.Header["Range"]) > 0,
		Status: c.status, Header: c.fields, Requested: c.requested, Received: c.received,
	})
	x.restrict(&c.verdict, c.fields, c.status)
	var ok bool
	c.key, ok = x.place(&c.verdict)
	switch kind := c.fields.Get("Content-Type"); {
	case !ok && c.verdict.One != rfc9111.Stored:
		return c.verdict.One
	case !ok:
		return c.verdict.Shared
	case circuitstate.WasRefused(c.out):
		return "fallback" // that is over when the service is back
	case c.unanswered():
		return "unanswered"
	case len(c.fields["Set-Cookie"]) > 0 && h.SetCookie == cookieBypass:
		return "set-cookie"
	case strings.HasPrefix(kind, "text/event-stream"), strings.HasPrefix(kind, "application/grpc"):
		return "stream"
	case h.MatchType && !typeAgrees(x.t.path, c.fields):
		return "type"
	case x.r.Method == http.MethodPost && !c.describesTarget():
		return "method"
	case c.status == http.StatusPartialContent && !c.singlePart():
		return "multipart"
	case !c.judges && rfc9111.Conditional(c.out.Header) && c.status != http.StatusOK:
		return "conditional"
	}
	if length, ok := contentLength(c.fields); ok && length > h.MaxObjectSize {
		return "size"
	}
	if !c.named(c.fields) {
		return "tags"
	}
	return rfc9111.Stored
}

// restrict takes from a verdict on a response what handlers in front do not allow.
func (x *inquiry) restrict(v *rfc9111.Verdict, fields http.Header, status int) {
	store, share := x.h.forbids(x.w, x.r, fields, status, x.background)
	switch {
	case store:
		v.Shared, v.One = rfc9111.NoStore, rfc9111.NoStore
	case v.Shared == rfc9111.Stored && (share || x.t.alone || identity.IsPrivate(x.r)):
		v.Shared = rfc9111.IsPrivate
	}
}

// unanswered reports whether the response is what net/http sends where no handler
// has answered: none has touched it, or reverse_proxy has an answer that it does
// not pass on, such as a 101 that was not asked for.
func (c *fill) unanswered() bool {
	if !c.unwritten {
		return false
	}
	for name := range c.fields {
		if name == "Server" {
			continue
		}
		repl, _ := c.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if repl == nil {
			return false
		}
		_, proxied := repl.Get("http.reverse_proxy.status_code")
		return proxied
	}
	return true
}

// singlePart reports whether a 206 has one part, of a single range.
func (c *fill) singlePart() bool {
	_, _, ok := rfc9111.ContentRange(c.fields)
	specs, asked := rfc9111.ParseRange(c.out.Header["Range"])
	return ok && asked && len(specs) == 1 && len(c.x.r.Header["Range"]) == 1
}

// rememberPass has requests not wait for each other for a while, which begins
// anew with each answer that shows the same. own is set if those of the same user
// may wait for each other all the same.
func (c *fill) rememberPass(own bool) {
	x := c.x
	life := time.Duration(x.h.HitForMiss)
	if c.status >= http.StatusInternalServerError {
		life = min(life, time.Second) // an error is not for long
	}
	if x.background || life == 0 {
		return
	}
	keys := x.passed
	if c.f != nil {
		keys = append(keys, c.f.key)
	}
	for _, key := range keys {
		if own && x.t.hasPrivate && key == x.t.flightKey(true) {
			notShared.forget(key)
		} else {
			notShared.add(key, c.received.Add(life))
		}
	}
}

// renewPass is for a response that may be stored, to a request that did not wait
// for others because those before could not be shared.
func (c *fill) renewPass() {
	switch {
	case !reusable(&c.verdict):
		c.rememberPass(false)
	case c.verdict.Shared != rfc9111.Stored:
		c.rememberPass(true)
	default:
		notShared.forget(c.x.t.flightKey(false)) // it can be shared by now
	}
}

// reusable reports whether a response may answer other requests without asking
// again.
func reusable(v *rfc9111.Verdict) bool { return !v.NoCache && v.Lifetime > v.Age }
