package rediscache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// bypassReasons say in words why a request bypasses the cache.
var bypassReasons = map[string]string{
	"ambiguous-path":         "its path can be read in more than one way",
	"body":                   "it has a body",
	"connection":             "its Connection names a field, which does not reach the service",
	"events":                 "it asks for server-sent events",
	"grpc":                   "it is a gRPC call",
	"handlers-behind":        "handlers behind the cache decide by something that is not known before they run",
	"host":                   "responses of its host are not stored",
	"matcher":                "a matcher of `bypass` is for it",
	"outgoing-cache-control": "a handler in front sets a Cache-Control that forbids storing",
	"outgoing-vary":          "a handler in front sets Vary: *",
	"precondition":           "only the service can evaluate its If-Match or If-Unmodified-Since",
	"query-token":            "it has a token in its URL",
	"range":                  "it asks for a part",
	"request-no-store":       "it has Cache-Control: no-store",
	"trailer":                "it has a trailer",
	"upgrade":                "it asks for an upgrade",
}

// Explain says what is stored for the request, and whether it is answered with that.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.storage.start() // else what is in Redis could not be used yet
	q := h.classify(w, r)
	switch q.kind {
	case purgeRequestKind:
		if !h.PurgeMethod.allowed(r) {
			return t.Refuse(mayNotPurge(), "", nil)
		}
		return t.Stop("it invalidates what is stored for the URL", nil)
	case otherMethod:
		report(r, "bypass")
		reason := "the method " + r.Method + " is not answered from the cache"
		if !rfc9111.Safe(r.Method) {
			reason += "; its success invalidates what is stored for the URL"
		}
		t.Pass(reason, explain.Facts{"cache": "bypass"})
		return next.ServeHTTP(w, r)
	case bypassingRequest:
		report(r, "bypass")
		reason := bypassReasons[q.bypass]
		if reason == "" {
			reason = q.bypass
		}
		t.Pass("the request bypasses the cache: "+reason, explain.Facts{"cache": "bypass", "bypass": q.bypass})
		return next.ServeHTTP(w, r)
	case cacheableRequest:
	}
	return h.explainStored(t, w, r, next, &q)
}

// explainStored is Explain for a request that may be answered from the cache.
func (h *Handler) explainStored(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, q *request) error {
	now := time.Now()
	tier := h.peek(r, q, now)
	facts := h.keyFacts(q)
	if q.hit.object == nil {
		facts["stored"] = "no"
		reason := "nothing is stored for the request"
		if q.hit.otherVariants {
			reason = "stored responses have other values of the fields in Vary"
		}
		if hitForMiss.Has(q.target.callHash(false), now) {
			reason += "; the last response could not be stored for all"
		}
		return h.explainMiss(t, w, r, next, q, reason+"; "+keyText(facts), facts)
	}
	o := q.hit.object
	reuse, fresh := h.storage.judge(&q.hit, &q.directives, now)
	if q.hit.soft {
		fresh = min(fresh, 0)
	}
	facts["stored"], facts["partition"] = tier, "everybody"
	if q.target.isPrivate(q.hit.key) {
		facts["partition"] = "the user's own"
	}
	facts["age_seconds"], facts["fresh_seconds"] = strconv.FormatInt(seconds(o.Age(now)), 10), strconv.FormatInt(seconds(fresh), 10)
	if len(o.Vary) > 0 {
		facts["vary"] = strings.Join(o.Vary, " ")
	}
	status := statusFor(r, o)
	text := fmt.Sprintf("stored in %s for %s, %ds old", tier, facts["partition"], seconds(o.Age(now)))
	switch reuse {
	case rfc9111.UseFresh:
		report(r, "hit")
		facts["cache"] = "hit"
		t.Answer(status, fmt.Sprintf("%s, fresh for %ds", text, seconds(fresh)), facts)
		return nil
	case rfc9111.UseWhileRevalidating, rfc9111.UseStale:
		report(r, "stale")
		facts["cache"] = "stale"
		if reuse == rfc9111.UseWhileRevalidating {
			text += "; the service is asked in the background"
		}
		t.Answer(status, text+", stale, and may be used so", facts)
		return nil
	case rfc9111.Validate:
	}
	switch {
	case o.NoCache || q.directives.NoCache:
		text += ", and has to be validated each time (no-cache)"
	case fresh > 0:
		text += ", but not fresh enough for the request"
	default:
		text += fmt.Sprintf(", stale since %ds", -seconds(fresh))
	}
	return h.explainMiss(t, w, r, next, q, text+": the service is asked", facts)
}

// explainMiss passes the request to the service, unless the client wants none of that.
func (h *Handler) explainMiss(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, q *request, reason string, facts explain.Facts) error {
	report(r, "miss")
	facts["cache"] = "miss"
	if q.directives.OnlyIfCached {
		return t.Refuse(notCached(), reason, facts)
	}
	t.Pass(reason, facts)
	before := w.Header().Clone()
	err := next.ServeHTTP(w, r)
	if err == nil || errors.Is(err, explain.ErrStopped) || explain.StatusOf(err) < http.StatusInternalServerError ||
		!(&exchange{request: *q, h: h}).mayServeStale(time.Now(), true) {
		return err
	}
	clear(w.Header())
	maps.Copy(w.Header(), before)
	report(r, "stale")
	facts = maps.Clone(facts)
	facts["cache"] = "stale"
	t.Answer(statusFor(r, q.hit.object), "the service cannot be asked: the stale response is sent", facts)
	return nil
}

// statusFor returns the status with which a stored response answers the request.
func statusFor(r *http.Request, o *object.Object) int {
	if rfc9111.Conditional(r.Header) && rfc9111.NotModified(r.Header, o.Header, o.Status, o.ResponseTime) {
		return http.StatusNotModified
	}
	return o.Status
}

// peek looks for what is stored, without effect on what is evicted, and says where it was.
func (h *Handler) peek(r *http.Request, q *request, now time.Time) (tier string) {
	s := h.storage
	look := func(get func(object.Key) *object.Entry) (found match) {
		q.target.eachKey(func(key object.Key) bool {
			this := s.selectVariant(r, &q.target, key, get(key))
			this.otherVariants = this.otherVariants || found.otherVariants
			found = this
			return found.object != nil
		})
		return found
	}
	if s.memory != nil {
		if q.hit = look(s.memory.Peek); q.hit.object != nil {
			tier = "memory"
			if reuse, _ := s.judge(&q.hit, &q.directives, now); reuse != rfc9111.Validate {
				return tier
			}
		}
	}
	if s.redis == nil {
		return tier
	}
	ctx, cancel := context.WithTimeout(r.Context(), purgeWait)
	defer cancel()
	found := look(func(key object.Key) *object.Entry { return s.redis.Peek(ctx, key, s.variantFilter(r)) })
	if o := found.object; o != nil && (q.hit.object == nil || o.ResponseTime.After(q.hit.object.ResponseTime) || o.Epoch > q.hit.object.Epoch) {
		q.hit, tier = found, "Redis"
	}
	return tier
}

// keyFacts say what the key is made of. They have no values that a client could have
// secrets in.
func (h *Handler) keyFacts(q *request) explain.Facts {
	facts := explain.Facts{"key_url": q.target.origin() + q.target.path}
	var names []string
	for part := range strings.SplitSeq(h.keys.query.Apply(q.target.query), "&") {
		if name, _, _ := strings.Cut(part, "="); name != "" {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		facts["key_query"] = strings.Join(slices.Compact(names), " ")
	}
	if fields := h.keys.options.Headers; len(fields) > 0 {
		facts["key_headers"] = strings.Join(fields, " ")
	}
	if cookies := h.keys.options.Cookies; len(cookies) > 0 {
		facts["key_cookies"] = strings.Join(cookies, " ")
	}
	facts["key_partition"] = "everybody"
	if q.target.hasPartition() {
		facts["key_partition"] = "the user's own, then everybody's"
	}
	return facts
}

// keyText is the key in words.
func keyText(facts explain.Facts) string {
	parts := []string{"the key has " + facts["key_url"]}
	for _, part := range []struct{ name, words string }{
		{"key_query", "the query parameters"}, {"key_headers", "the fields"}, {"key_cookies", "the cookies"},
	} {
		if value := facts[part.name]; value != "" {
			parts = append(parts, part.words+" "+value)
		}
	}
	return strings.Join(parts, ", ") + "; looked up: " + facts["key_partition"]
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
