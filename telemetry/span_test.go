package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pythopus/tentagate/internal/servertest"
)

// recordedSpan notes what a span is given.
type recordedSpan struct {
	noop.Span
	name       string
	attributes map[attribute.Key]string
}

func (*recordedSpan) IsRecording() bool { return true }

func (s *recordedSpan) SetName(name string) { s.name = name }

func (s *recordedSpan) SetAttributes(list ...attribute.KeyValue) {
	for _, a := range list {
		s.attributes[a.Key] = a.Value.AsString()
	}
}

// A span is named by method and route, never by what a client sent.
func TestSpanNames(t *testing.T) {
	handler := servertest.Handler(t, site("spans"))
	for _, test := range []struct{ method, path, name, route string }{
		{"GET", "/api/spans/items/1", "GET /api/spans/items/{id}", "/api/spans/items/{id}"},
		{"POST", "/API/Spans/elsewhere", "POST /api/spans", "/api/spans"},
		{"QUERY", "/api/spans/items/2", "QUERY /api/spans/items/{id}", "/api/spans/items/{id}"},
		{"INVENTED", "/api/spans/items/2", "HTTP /api/spans/items/{id}", "/api/spans/items/{id}"},
		{"GET", "/api/other/items/1", "GET", ""},
	} {
		span := &recordedSpan{attributes: map[attribute.Key]string{}}
		r := httptest.NewRequest(http.MethodGet, test.path, nil)
		r.Method = test.method
		handler.ServeHTTP(httptest.NewRecorder(), r.WithContext(trace.ContextWithSpan(r.Context(), span)))
		if span.name != test.name || span.attributes["http.route"] != test.route {
			t.Errorf("%s %s: span %q, route %q, want %q and %q", test.method, test.path, span.name, span.attributes["http.route"], test.name, test.route)
		}
		if span.attributes["tentagate.request_id"] == "" || span.attributes["tentagate.service"] == "" {
			t.Errorf("%s %s: %v, want the request id and the service", test.method, test.path, span.attributes)
		}
	}
}
