package past

import (
	"cmp"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/stage"
)

// Outcome is what became of a request.
type Outcome string

// The outcomes.
const (
	forwarded    Outcome = "forwarded"     // the service answered
	refusedBy    Outcome = "refused"       // with a 4xx or 5xx of the gateway
	answered     Outcome = "answered"      // by the gateway, as from its cache
	clientClosed Outcome = "client_closed" // the client did not wait for the response
	aborted      Outcome = "aborted"       // the connection or stream was closed in place of the response, or in it
)

// Past is a request as the admin API has it. Fields have the names of the access log.
type Past struct {
	RequestID string    `json:"request_id"`
	TraceID   string    `json:"trace_id,omitempty"`
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Host      string    `json:"host"`
	// Path has no query.
	Path     string `json:"path"`
	Protocol string `json:"protocol"`
	// Client is the address of the client, as the server's trusted_proxies make it.
	Client  string  `json:"client"`
	User    string  `json:"user,omitempty"`
	Service string  `json:"service"`
	Route   string  `json:"route"`
	Outcome Outcome `json:"outcome"`
	Status  int     `json:"status"`
	// Detail is that of the problem with which the gateway refused the request. An error
	// route may have answered in another way.
	Detail string `json:"detail,omitempty"`
	// Duration and Stages are in seconds.
	Duration      float64            `json:"duration"`
	RequestBytes  int64              `json:"request_bytes"`
	ResponseBytes int64              `json:"response_bytes"`
	Steps         []explain.Step     `json:"steps"`
	Stages        map[string]float64 `json:"stages"`
}

// Answer is what the admin API says of an id. A client may use one more than once.
type Answer struct {
	// Requests are the newest first.
	Requests []Past `json:"requests"`
	// More is how many older ones are left out.
	More int `json:"more,omitempty"`
}

// maxAnswer is how many requests of one id are shown.
const maxAnswer = 20

// answerFor describes requests with one id.
func answerFor(found []Request) Answer {
	slices.SortFunc(found, func(a, b Request) int { return b.Began.Compare(a.Began) })
	shown := found[:min(len(found), maxAnswer)]
	a := Answer{Requests: make([]Past, len(shown)), More: len(found) - len(shown)}
	for i := range shown {
		a.Requests[i] = shown[i].describe()
	}
	return a
}

func (r *Request) describe() Past {
	// They may have parts of what a client or a service sent.
	for _, text := range []*string{&r.Detail, &r.Route, &r.Upstream} {
		*text = strings.Map(shown, *text)
	}
	p := Past{
		RequestID: r.ID, Time: r.Began.UTC(), Method: printable(r.Method), Host: printable(r.Host), Path: r.path(), Protocol: r.protocol(),
		Client: printable(r.Client), User: r.user(), Service: r.Service, Route: r.Route, Outcome: r.outcome(), Status: r.Status,
		Duration: r.Took.Seconds(), RequestBytes: r.RequestBytes, ResponseBytes: r.ResponseBytes, Steps: r.steps(), Stages: map[string]float64{},
	}
	if r.TraceID != [16]byte{} {
		p.TraceID = hex.EncodeToString(r.TraceID[:])
	}
	if p.Outcome == refusedBy {
		p.Detail = r.Detail
	}
	for i, spent := range r.Stages {
		if spent >= 0 {
			p.Stages[stage.Stage(i).String()] = spent.Seconds()
		}
	}
	return p
}

// path returns the path in its escaped form.
func (r *Request) path() string {
	text := r.Path
	if r.Decoded {
		text = (&url.URL{Path: text}).EscapedPath()
	}
	text = printable(text)
	if r.Cut {
		text += "…"
	}
	return text
}

// shown replaces what would control a terminal.
func shown(c rune) rune {
	if unicode.IsPrint(c) {
		return c
	}
	return unicode.ReplacementChar
}

// printable percent-encodes what is no printable ASCII character: the text comes from a
// client, and is shown in terminals.
func printable(text string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f }
	if !slices.ContainsFunc([]byte(text), func(c byte) bool { return !plain(c) }) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

func (r *Request) protocol() string {
	return "HTTP/" + strconv.Itoa(r.ProtoMajor) + "." + strconv.Itoa(r.ProtoMinor)
}

func (r *Request) user() string {
	if r.User == [8]byte{} {
		return ""
	}
	return hex.EncodeToString(r.User[:])
}

// refuses reports whether the gateway refused the request. The response may be a stored
// one although the service could not be asked.
func (r *Request) refuses() bool {
	return r.Detail != "" && r.Status >= http.StatusBadRequest && !r.ClientClosed && !r.Aborted
}

// fromCache reports whether the cache answered.
func (r *Request) fromCache() bool {
	switch r.Cache {
	case "hit", "stale", "revalidated", "collapsed":
		return true
	}
	return false
}

func (r *Request) outcome() Outcome {
	switch {
	case r.ClientClosed:
		return clientClosed
	case r.Aborted:
		return aborted
	case r.refuses():
		return refusedBy
	case r.Upstream != "" && !r.fromCache():
		return forwarded
	}
	return answered
}

// steps returns what the handlers decided, in their order.
func (r *Request) steps() []explain.Step {
	l := &list{request: r}
	if r.Service != "" {
		l.pass("telemetry", r.named(), explain.Facts{"service": r.Service, "route": r.Route})
	}
	if r.Stages[stage.Guard] >= 0 {
		l.decide("guard", r.ByGuard, "the request is well-formed", nil)
	}
	r.stepsOfCORS(l)
	if r.authRefuses() {
		r.stepsOfLimit(l) // a limit in front, as that of an address
		r.stepsOfAuth(l)
	} else {
		r.stepsOfAuth(l)
		r.stepsOfLimit(l)
	}
	if r.Cache != "" {
		r.stepsOfCache(l)
	}
	if r.Circuit != "" {
		l.decide("circuit_breaker", r.ByCircuit, "the circuit is "+r.Circuit, explain.Facts{"circuit_breaker": r.Circuit})
	}
	if r.Upstream != "" {
		l.add(explain.Step{Handler: "reverse_proxy", Result: explain.Asks, Reason: r.Upstream, Facts: explain.Facts{"upstream": r.Upstream}})
	}
	switch {
	case r.Aborted && !r.ClientClosed:
		l.add(explain.Step{Handler: "gateway", Result: explain.Stops, Reason: "the request was aborted: a handler panicked, or the response of the service broke off"})
	case r.refuses() && !l.refused:
		reason := r.Detail
		if r.ErrorLogged {
			reason += "; the error log has the cause, with this request_id"
		}
		l.add(explain.Step{Handler: "gateway", Result: explain.Refuses, Status: r.Status, Reason: reason})
	}
	return l.steps
}

// named says as what metrics and logs have the request.
func (r *Request) named() string {
	service, at := "the service is "+r.Service, ", the route is "+r.Route
	if r.Service == route.Other {
		service = "it is for none of the services"
	}
	if r.Route == route.Other {
		at = ", the route is not known"
	}
	return service + at
}

func (r *Request) stepsOfCORS(l *list) {
	facts := explain.Facts{"cors": r.CORS}
	switch r.CORS {
	case "allowed":
		l.pass("cors", "the origin is allowed", facts)
	case "refused":
		l.pass("cors", "the origin is not allowed: no page can read the response", facts)
	case "preflight_allowed":
		l.add(explain.Step{Handler: "cors", Result: explain.Answers, Status: r.Status, Reason: "preflight: the origin is allowed", Facts: facts})
	case "preflight_refused":
		l.add(explain.Step{Handler: "cors", Result: explain.Answers, Status: r.Status, Reason: "preflight: the origin is not allowed", Facts: facts})
	}
}

// authRefuses reports whether jwt_auth refused the request.
func (r *Request) authRefuses() bool { return r.Auth != "" && r.Auth != "ok" && r.Auth != "anonymous" }

func (r *Request) stepsOfAuth(l *list) {
	facts := explain.Facts{"auth": r.Auth}
	var whose []string
	if r.Provider != "" {
		facts["provider"] = r.Provider
		whose = append(whose, "provider "+r.Provider)
	}
	user := r.user()
	if user != "" && r.Auth != "anonymous" {
		facts["user"] = user
		whose = append(whose, "user "+user)
	}
	switch r.Auth {
	case "":
	case "ok":
		reason := "the token"
		if r.Provider != "" {
			reason += " of the provider " + r.Provider
		}
		reason += " is accepted"
		if user != "" {
			reason += ", user " + user
		}
		l.pass("jwt_auth", reason, facts)
	case "anonymous":
		l.pass("jwt_auth", "the request has no token, and needs none", facts)
	default:
		reason := r.Auth
		if len(whose) > 0 {
			reason += " (" + strings.Join(whose, ", ") + ")"
		}
		l.because("jwt_auth", reason, facts)
	}
}

func (r *Request) stepsOfLimit(l *list) {
	if r.Limit == "" {
		return
	}
	facts := explain.Facts{"ratelimit": r.Limit, "zone": r.Zone}
	reason := "zone " + r.Zone + ": " + r.Limit
	if r.Remaining >= 0 {
		facts["remaining"] = strconv.FormatInt(r.Remaining, 10)
		reason += ", " + facts["remaining"] + " left"
	}
	switch r.Limit {
	case "limited", "unavailable", "concurrency_limited":
		l.because("ratelimit", reason, facts)
	default:
		l.pass("ratelimit", reason, facts)
	}
}

// forwards says what the codes mean with which the cache forwards a request (RFC 9211 §2.2).
var forwards = map[string]string{
	"uri-miss":  "nothing is stored for the URL",
	"vary-miss": "what is stored is of other values of the fields in Vary",
	"stale":     "what is stored is stale",
	"request":   "the request asks for a new response",
	"method":    "its method is not answered from the cache",
}

func (r *Request) stepsOfCache(l *list) {
	facts := explain.Facts{"cache": r.Cache}
	reason := r.Cache
	if r.CacheReason != "" {
		facts["cache_reason"] = r.CacheReason
		reason += ": " + cmp.Or(forwards[r.CacheReason], r.CacheReason)
	}
	if r.fromCache() {
		l.add(explain.Step{Handler: "http_cache", Result: explain.Answers, Status: r.Status, Reason: reason, Facts: facts})
		return
	}
	l.pass("http_cache", reason, facts)
}

// list are steps. One of them refuses the request at most.
type list struct {
	request *Request
	steps   []explain.Step
	refused bool
}

func (l *list) add(s explain.Step) { l.steps = append(l.steps, s) }

func (l *list) pass(handler, reason string, facts explain.Facts) {
	l.add(explain.Step{Handler: handler, Result: explain.Passes, Reason: reason, Facts: facts})
}

// decide adds a step that passes, or that answers or refuses in place of the handlers
// behind.
func (l *list) decide(handler string, stops bool, reason string, facts explain.Facts) {
	switch r := l.request; {
	case !stops:
		l.pass(handler, reason, facts)
	case r.refuses():
		if handler == "guard" {
			reason = ""
		}
		l.because(handler, reason, facts)
	default:
		l.add(explain.Step{Handler: handler, Result: explain.Answers, Status: r.Status, Reason: reason, Facts: facts})
	}
}

// because adds a step that refuses the request, with the detail of the problem.
func (l *list) because(handler, reason string, facts explain.Facts) {
	if detail := l.request.Detail; detail != "" && reason != "" {
		reason += ": " + detail
	} else {
		reason = cmp.Or(reason, detail)
	}
	l.refused = true
	l.add(explain.Step{Handler: handler, Result: explain.Refuses, Status: l.request.Status, Reason: reason, Facts: facts})
}
