package telemetry

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/pythopus/tentagate/internal/route"
)

// describe names the span of Caddy's tracing after the route, and gives it what the
// gateway decided.
func (o *observation) describe(span trace.Span, rs *routeSeries) {
	d := &o.state.Decisions
	path := o.service.base
	if rs.route != route.Other {
		path += rs.route
	}
	attributes := make([]attribute.KeyValue, 0, 10)
	name := method(o.method)
	if path != "" {
		name += " " + path
		attributes = append(attributes, attribute.String("http.route", path))
	}
	span.SetName(name)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, attribute.String("tentagate."+key, value))
		}
	}
	add("service", d.Service)
	if id := o.state.Problem.ID.Load(); id != nil {
		add("request_id", *id)
	}
	add("auth", d.Auth)
	add("auth.provider", d.Provider)
	if d.Limits != nil {
		zone, outcome, remaining := d.Limits.Decided()
		add("ratelimit", outcome)
		add("ratelimit.zone", zone)
		if remaining >= 0 {
			attributes = append(attributes, attribute.Int64("tentagate.ratelimit.remaining", remaining))
		}
	}
	add("cache", d.Cache)
	add("circuit_breaker", d.Circuit)
	span.SetAttributes(attributes...)
}

// method returns the method for the name of a span, which has no unknown one (semantic
// conventions of OpenTelemetry for HTTP spans).
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace, "QUERY":
		return name
	}
	return "HTTP"
}
