package telemetry

import (
	"cmp"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/explain/past"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/stage"
)

// user returns who the user is, as the access log has it.
func (o *observation) user() (subject string) {
	s := o.state
	if id, ok := s.Identity.(*identity.Identity); ok && id != nil {
		return id.Subject // the placeholder would be copied
	}
	if repl := s.Replacer(); repl != nil {
		subject, _ = repl.GetString("http.auth.user.id")
	}
	return cmp.Or(subject, s.Decisions.Subject)
}

// clientLeft reports whether the client closed the request. Go's server cancels one whose
// body does not arrive in time as well.
func (o *observation) clientLeft() bool {
	ctx := o.request.Context()
	if ctx.Err() == nil {
		return false
	}
	watch := framing.From(ctx)
	return watch == nil || !framing.Late(watch.Failure())
}

// keep keeps what was decided about the request, for `tentagate explain --request-id`.
func (o *observation) keep(status int, took time.Duration, rs *routeSeries, span trace.SpanContext) {
	s, r := o.state, o.request
	d, id := &s.Decisions, s.Problem.ID.Load()
	if id == nil {
		return // without guard, most requests have none
	}
	p := past.Request{
		ID: *id, Method: o.method, Host: o.host, Path: o.rawPath, Detail: d.Detail,
		Service: d.Service, Route: rs.route, CORS: d.CORS, Auth: d.Auth, Provider: d.Provider, Remaining: -1,
		Cache: d.Cache, CacheReason: d.CacheReason, Circuit: d.Circuit, ByGuard: d.ByGuard, ByCircuit: d.ByCircuit, Aborted: o.failed, ClientClosed: d.ClientClosed, ErrorLogged: d.ErrorLogged,
		TraceID: span.TraceID(), Status: status, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		RequestBytes: o.bytesRead(), ResponseBytes: s.Observed.Bytes, Began: d.Stages.Began(), Took: took,
	}
	if o.rawPath == "" {
		p.Path, p.Decoded = o.path, true
	}
	p.Client, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if d.Limits != nil {
		p.Zone, p.Limit, p.Remaining = d.Limits.Decided()
	}
	if repl := s.Replacer(); repl != nil {
		p.Upstream, _ = repl.GetString("http.reverse_proxy.upstream.hostport")
	}
	if user := o.user(); user != "" {
		p.User = accesslog.Sum(user)
	}
	for i := range stage.Stage(stage.Count) {
		if spent, ok := d.Stages.Spent(i); ok {
			p.Stages[i] = spent
		} else {
			p.Stages[i] = -1
		}
	}
	past.Keep(&p)
}
