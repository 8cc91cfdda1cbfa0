package caddyfile

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/problem"
)

// Explain leads a request below the path into the routes.
func (p *PathRoutes) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, ok := below(r, p.prefix); !ok {
		return next.ServeHTTP(w, r)
	}
	p.noteSpelling(r)
	return t.Through(p.Routes, w, r)
}

// Explain says which service the request is for.
func (s *Services) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	rest, _ := below(r, s.prefix)
	segment, _, _ := strings.Cut(rest, "/")
	names := slices.Sorted(maps.Keys(s.Services))
	for _, name := range names {
		if lower(name) == segment {
			t.Pass("the service is "+name, explain.Facts{"service": name})
			return t.Through(s.Services[name], w, r)
		}
	}
	return t.Refuse(s.unknown.refusal(), "the services are "+strings.Join(names, ", "), explain.Facts{"services": strings.Join(names, " ")})
}

// Explain refuses the request, unless its client is excepted.
func (p *Problem) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if p.except != nil && p.except.Has(r) {
		return next.ServeHTTP(w, r)
	}
	return t.Refuse(p.refusal(), "", nil)
}

// refusal is the error of the handler.
func (p *Problem) refusal() error { return problem.Error(problem.New(p.Status, p.Detail)) }

// Interface guards
var (
	_ explain.Handler = (*PathRoutes)(nil)
	_ explain.Handler = (*Services)(nil)
	_ explain.Handler = (*Problem)(nil)
)
